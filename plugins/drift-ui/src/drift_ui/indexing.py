"""Keeps what the console lists: what a tag names is looked up anew, so that a repeated event harms nothing."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, and_, case, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from drift_core.api import Digest, LocalRegistry, RegistryError
from drift_ui.documents import Document, bytes_of, read_config, read_document
from drift_ui.tables import days, fitted, grams, images, labels, layers, repositories, terms, totals
from drift_ui.terms import grams_of, terms_of

DAY = 86400
KEPT_DAYS = 60
"""Days whose pulls and pushes are kept."""

LONGEST_DIGEST, LONGEST_KEY, LONGEST_VALUE = 160, 255, 500
"""Bytes of a layer's digest, and of a label, that are kept, and found."""

MOST_LABELS = 50
"""Labels of one image that are found by a search."""

MOST_LAYERS = 1000
"""Layers of one image by which it is found."""

MOST_CHILDREN = 20
"""Manifests of an index whose configuration is looked at."""

EVERYTHING = "all"
BATCH = 500


class Image(Struct, frozen=True):
    """What a tag names, as lists show it; see `drift_ui.tables.images`."""

    tag: str
    digest: str
    media_type: str
    kind: str
    size: int
    platforms: str
    pushed_at: float
    pushed_by: str
    verified: bool
    labels: Mapping[str, str]
    layers: Sequence[str] = ()


async def examine(
    registry: LocalRegistry, repository: str, tag: str, digest: Digest, pushed_at: float, pushed_by: str
) -> Image:
    """Returns what a tag names. Raises MANIFEST_UNKNOWN, `Unavailable`, or the error of a gate."""
    document = await read_document(registry, repository, digest)
    size, platforms, found = document.size, dict[str, None](), dict(document.annotations)
    config = await read_config(registry, repository, document)
    parts = [layer.digest for layer in document.layers]
    found |= config.labels
    platforms |= dict.fromkeys([config.platform] if config.platform else [])
    if document.children:
        platforms |= dict.fromkeys(child.platform for child in document.children if child.platform)
        children = [await _child(registry, repository, child.digest) for child in document.children[:MOST_CHILDREN]]
        size = bytes_of(child.size for child in children if child is not None)
        parts += [layer.digest for child in children if child is not None for layer in child.layers]
    return Image(
        tag,
        str(digest),
        document.media_type[:255],
        document.kind[:255],
        size,
        ", ".join(platforms)[:500],
        pushed_at,
        pushed_by[:255],
        await is_verified(registry, repository, str(digest)),
        dict(
            sorted((fitted(key, LONGEST_KEY), fitted(value, LONGEST_VALUE)) for key, value in found.items() if key)[
                :MOST_LABELS
            ]
        ),
        list(dict.fromkeys(parts))[:MOST_LAYERS],
    )


async def _child(registry: LocalRegistry, repository: str, digest: str) -> Document | None:
    # A sparse index names manifests that are not here.
    try:
        return await read_document(registry, repository, Digest.parse(digest))
    except RegistryError:
        return None


async def is_verified(registry: LocalRegistry, repository: str, digest: str) -> bool:
    """Returns whether the signatures of a manifest are good; False also where that cannot be said now."""
    try:
        return await registry.is_verified(repository, digest)
    except RegistryError:
        return False


def keep(
    db: Connection,
    repository: str,
    found: Sequence[Image],
    gone: Collection[str],
    *,
    event: int | None = None,
    at: float | None = None,
) -> None:
    """Writes what tags name now, and forgets those that are gone.

    ``event`` is what told of it, which is counted as a push once; None is none.
    """
    known = _known(db, repository, 0.0 if at is None else at)
    before = {row.tag: row for row in _of_tags(db, repository, [*(one.tag for one in found), *gone])}
    for one in found:
        _put(db, repository, one, before.get(one.tag))
    gone = [tag for tag in gone if tag in before]
    if gone:
        db.execute(delete(images).where(images.c.repository == repository, images.c.tag.in_(gone)))
        for table in (labels, layers):
            db.execute(delete(table).where(table.c.repository == repository, table.c.tag.in_(gone)))
    added = sum(one.tag not in before for one in found) - len(gone)
    values: dict[str, Any] = {"images": repositories.c.images + added, "stale": True}
    if at is not None:
        values["updated_at"] = case((repositories.c.updated_at < at, at), else_=repositories.c.updated_at)
    if event is not None and event > known:
        values["event"] = event
        count(db, repository, int((time.time() if at is None else at) // DAY), pushes=1)
    db.execute(update(repositories).where(repositories.c.name == repository).values(values))
    _add_to_totals(db, images=added)


def _known(db: Connection, repository: str, at: float) -> int:
    """Returns the last event that was counted of a repository, which is made known first."""
    event = db.execute(select(repositories.c.event).where(repositories.c.name == repository)).scalar()
    if event is not None:
        return int(event)
    zero = {"images": 0, "size": 0, "pulls": 0, "event": 0}
    db.execute(insert(repositories).values(name=repository, updated_at=at, stale=True, **zero))
    for term in terms_of(repository):
        new = db.execute(select(terms.c.term).where(terms.c.term == term).limit(1)).first() is None
        db.execute(insert(terms).values(term=term, repository=repository))
        if new:
            db.execute(insert(grams), [{"gram": gram, "term": term} for gram in sorted(grams_of(term))])
    _add_to_totals(db, repositories=1)
    return 0


def forget(db: Connection, repository: str) -> None:
    """Forgets a repository that is there no more."""
    row = db.execute(select(repositories).where(repositories.c.name == repository)).first()
    if row is None:
        return
    for table in (images, labels, layers, days):
        db.execute(delete(table).where(table.c.repository == repository))
    own = db.execute(select(terms.c.term).where(terms.c.repository == repository)).scalars().all()
    db.execute(delete(terms).where(terms.c.repository == repository))
    for term in own:
        if db.execute(select(terms.c.term).where(terms.c.term == term).limit(1)).first() is None:
            db.execute(delete(grams).where(grams.c.gram.in_(sorted(grams_of(term))), grams.c.term == term))
    db.execute(delete(repositories).where(repositories.c.name == repository))
    _add_to_totals(db, repositories=-1, images=-row.images, size=-row.size)


def resize(db: Connection, sizes: Mapping[str, int], today: int) -> None:
    """Writes what repositories hold, in bytes, and what all of them do on this day."""
    known = select(repositories.c.name, repositories.c.size).where(repositories.c.name.in_(sorted(sizes)))
    before = {row.name: row.size for row in db.execute(known)}
    for name in sorted(before):
        values = {"size": sizes[name], "stale": False}
        db.execute(update(repositories).where(repositories.c.name == name).values(values))
    _add_to_totals(db, size=sum(sizes[name] - before[name] for name in before))
    count(db, "", today)
    total = select(totals.c.size).where(totals.c.name == EVERYTHING).scalar_subquery()
    of_today = and_(days.c.repository == "", days.c.day == today)
    db.execute(update(days).where(of_today).values(size=total))


def stale_names(db: Connection, limit: int) -> list[str]:
    """Returns repositories whose size has to be looked up."""
    query = select(repositories.c.name).where(repositories.c.stale.is_(True)).order_by(repositories.c.name)
    return list(db.execute(query.limit(limit)).scalars())


def count(db: Connection, repository: str, day: int, *, pulls: int = 0, pushes: int = 0) -> None:
    """Adds to what a repository, or all of them, had on a day."""
    for name in dict.fromkeys((repository, "")):
        row = _insert(db, days).values(repository=name, day=day, pulls=pulls, pushes=pushes, size=0)
        added = {"pulls": days.c.pulls + row.excluded.pulls, "pushes": days.c.pushes + row.excluded.pushes}
        db.execute(row.on_conflict_do_update(index_elements=["repository", "day"], set_=added))


def verify(db: Connection, repository: str, digest: str, *, verified: bool) -> None:
    """Writes whether the signatures of what some tags name are good."""
    named = and_(images.c.repository == repository, images.c.digest == digest)
    db.execute(update(images).where(named).values(verified=verified))


def tags_of_digest(db: Connection, repository: str, digest: str) -> list[str]:
    """Returns the tags that are known to name a manifest."""
    query = select(images.c.tag).where(images.c.digest == digest, images.c.repository == repository)
    return list(db.execute(query.limit(BATCH)).scalars())


def digests_of(db: Connection, repository: str, after: str) -> dict[str, str]:
    """Returns the next tags behind ``after`` with their digests, by name; "" for what has to be looked at anyway."""
    query = select(images.c.tag, images.c.digest, images.c.layered).where(images.c.repository == repository)
    rows = db.execute(query.where(images.c.tag > after).order_by(images.c.tag).limit(BATCH))
    return {row.tag: row.digest if row.layered else "" for row in rows}


def names_after(db: Connection, after: str) -> list[str]:
    """Returns the next repositories behind ``after``."""
    query = select(repositories.c.name).where(repositories.c.name > after).order_by(repositories.c.name)
    return list(db.execute(query.limit(BATCH)).scalars())


def compared_at(db: Connection) -> float:
    """Returns when all was last compared with the registry; 0 for never."""
    return float(db.execute(select(totals.c.compared_at).where(totals.c.name == EVERYTHING)).scalar() or 0.0)


def note_compared(db: Connection, at: float) -> None:
    """Notes that all was compared, in seconds since the epoch, and forgets days that are no more shown."""
    db.execute(delete(days).where(days.c.day < int(at // DAY) - KEPT_DAYS))
    _add_to_totals(db)
    db.execute(update(totals).where(totals.c.name == EVERYTHING).values(compared_at=at))


def add_pulls(db: Connection, noted: Mapping[tuple[str, str, int], int]) -> None:
    """Adds pulls, counted by repository, tag and day; the tag is empty where it was pulled by digest.

    Pulls of what is not known, since it came a moment ago or is gone, count for all of the repositories alone.
    """
    by_repository: dict[str, int] = {}
    by_day: dict[tuple[str, int], int] = {}
    for (repository, tag, day), number in sorted(noted.items()):
        by_repository[repository] = by_repository.get(repository, 0) + number
        by_day[repository, day] = by_day.get((repository, day), 0) + number
        if tag:
            named = and_(images.c.repository == repository, images.c.tag == tag)
            db.execute(update(images).where(named).values(pulls=images.c.pulls + number))
    for repository, number in by_repository.items():
        more = {"pulls": repositories.c.pulls + number}
        db.execute(update(repositories).where(repositories.c.name == repository).values(more))
    query = select(repositories.c.name).where(repositories.c.name.in_(sorted(by_repository)))
    known = set(db.execute(query).scalars())
    for (repository, day), number in by_day.items():
        count(db, repository if repository in known else "", day, pulls=number)
    _add_to_totals(db, pulls=sum(by_repository.values()))


def _put(db: Connection, repository: str, image: Image, before: Any) -> None:
    """Writes an image; ``before`` is what its tag named, or None."""
    named = {"repository": repository, "tag": image.tag}
    apart = ("tag", "labels", "layers")
    values = {name: getattr(image, name) for name in image.__struct_fields__ if name not in apart} | {"layered": True}
    if before is not None and before.digest == image.digest and not image.pushed_by:
        # A comparison does not know it.
        values["pushed_by"] = before.pushed_by
    if before is None:
        db.execute(insert(images).values(**named, **values, pulls=0))
    else:
        own = and_(images.c.repository == repository, images.c.tag == image.tag)
        db.execute(update(images).where(own).values(values))
        for table in (labels, layers):
            db.execute(delete(table).where(table.c.repository == repository, table.c.tag == image.tag))
    if image.layers:
        db.execute(insert(layers), [{**named, "digest": fitted(digest, LONGEST_DIGEST)} for digest in image.layers])
    if image.labels:
        db.execute(insert(labels), [{**named, "key": key, "value": value} for key, value in image.labels.items()])


def _of_tags(db: Connection, repository: str, tags: Sequence[str]) -> Sequence[Any]:
    query = select(images.c.tag, images.c.digest, images.c.pushed_by)
    return db.execute(query.where(images.c.repository == repository, images.c.tag.in_(sorted(set(tags))))).all()


def _add_to_totals(db: Connection, **added: int) -> None:
    zero = dict.fromkeys(("repositories", "images", "size", "pulls"), 0)
    row = _insert(db, totals).values(name=EVERYTHING, compared_at=0.0, **(zero | added))
    sums = {name: totals.c[name] + row.excluded[name] for name in zero}
    db.execute(row.on_conflict_do_update(index_elements=["name"], set_=sums))


def _insert(db: Connection, table: Any) -> Any:
    return (postgresql if db.dialect.name == "postgresql" else sqlite).insert(table)
