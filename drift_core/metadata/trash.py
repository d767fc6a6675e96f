"""What was removed and can still come back: the records of it, until its bytes are purged.

A blob's bytes stay in the store, and its row in ``blobs``, as long as a repository holds it or the trash has it.
"""

from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata import queries, reach
from drift_core.metadata.clock import now
from drift_core.metadata.locks import exclusive
from drift_core.metadata.queries import StoredManifest
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import blobs, manifests, purges, repositories, repository_blobs, tags, trash
from drift_core.model import Digest

_LOCK = "trash"


class Thrown(Struct, frozen=True):
    """Something in the trash; ``size`` in bytes, ``removed_at`` in seconds since the epoch.

    ``repository`` is None of a blob that nobody held; ``tag`` is that of a ``kind`` "tag", which named ``digest``.
    """

    id: int
    removed_at: float
    repository: str | None
    kind: str
    digest: Digest
    size: int
    reason: str
    tag: str | None


class ThrownManifest(Struct, frozen=True):
    """What went with a manifest: the tags that named it or stood for its referrers. ``subject`` is its own, if any."""

    tags: tuple[str, ...]
    subject: str | None


def throw_manifest(
    db: Connection, repository: int, digest: str, reason: str, since: float, keeps: Callable[[str], object]
) -> ThrownManifest | None:
    """Removes a manifest, its edges, and the tags that name it or stand for its referrers.

    A tag of a referrer stays that ``keeps`` says to. What it reached is unreached ``since`` then. None, and nothing
    done, where there is no such manifest.
    """
    row = db.execute(
        select(manifests).where(manifests.c.repository_id == repository, manifests.c.digest == digest)
    ).first()
    if row is None:
        return None
    ended = queries.tags_of(db, repository, digest)
    _throw_tags_of(db, repository, row.id, digest, reason)
    for tag, artifact in reach.scheme_tags(db, repository, digest):
        if not keeps(tag):
            throw_tag(db, repository, tag, artifact, f"{reason}: it stands for a referrer of {digest}")
            reach.lost_a_tag(db, repository, artifact, since)
            ended.append(tag)
    reach.release(db, repository, row.id, digest, since)
    values = {"media_type": row.media_type, "subject": row.subject, "content": row.content}
    _throw(db, repository, "manifest", digest, row.size, reason, values)
    queries.delete_manifest(db, repository, digest)
    reach.reached(db, repository, "manifest", [digest])
    return ThrownManifest(tuple(ended), row.subject)


def _throw_tags_of(db: Connection, repository: int, manifest: int, digest: str, reason: str) -> None:
    """Keeps the tags that name a manifest, with which they go."""
    columns = ("removed_at", "repository_id", "kind", "digest", "size", "reason", "tag")
    values = (now(), literal(repository), literal("tag"), literal(digest), literal(0), literal(reason), tags.c.name)
    db.execute(insert(trash).from_select(columns, select(*values).where(tags.c.manifest_id == manifest)))


def throw_tag(db: Connection, repository: int, tag: str, digest: str, reason: str) -> None:
    """Removes a tag that names ``digest``; what that means for the manifest is the caller's to note."""
    _throw(db, repository, "tag", digest, 0, reason, {"tag": tag})
    queries.delete_tag(db, repository, tag)


_SIZE = Statement(
    select(blobs.c.size)
    .join(repository_blobs)
    .where(repository_blobs.c.repository_id == bindparam("repository"), blobs.c.digest == bindparam("digest"))
)


def throw_blob(db: Connection, repository: int, digest: str, reason: str) -> int | None:
    """Takes a blob away from a repository and returns its bytes; None where it did not hold it."""
    size: int | None = _SIZE.value(db, repository=repository, digest=digest)
    if size is None:
        return None
    _throw(db, repository, "blob", digest, size, reason, {})
    queries.unlink_blob(db, repository, digest)
    reach.reached(db, repository, "blob", [digest])
    return size


_THROWN = ("repository_id", "kind", "digest", "size", "reason", "tag", "media_type", "subject", "content")
_THROW = Statement(insert(trash).values(removed_at=now()), *_THROWN)


def _throw(
    db: Connection, repository: int, kind: str, digest: str, size: int, reason: str, values: dict[str, Any]
) -> None:
    row = {"repository_id": repository, "kind": kind, "digest": digest, "size": size, "reason": reason}
    _THROW.run(db, **dict.fromkeys(_THROWN) | row | values)


def thrown(
    db: Connection,
    repository: str | None = None,
    digest: str | None = None,
    since: float = 0.0,
    behind: int | None = None,
    limit: int = 500,
) -> list[Thrown]:
    """Returns up to ``limit`` things of the trash that were removed ``since`` a time, the newest first."""
    columns = (trash.c.id, trash.c.removed_at, repositories.c.name, trash.c.kind, trash.c.digest, trash.c.size)
    query = select(*columns, trash.c.reason, trash.c.tag).select_from(trash).outerjoin(repositories)
    query = query.where(trash.c.removed_at >= since)
    if repository is not None:
        query = query.where(repositories.c.name == repository)
    if digest is not None:
        query = query.where(trash.c.digest == digest)
    if behind is not None:
        query = query.where(trash.c.id < behind)
    rows = db.execute(query.order_by(trash.c.id.desc()).limit(limit))
    return [Thrown(row[0], row[1], row[2], row[3], Digest(row[4]), *row[5:]) for row in rows]


def thrown_manifest(db: Connection, repository: int, digest: str) -> StoredManifest | None:
    """Returns a manifest that was removed from a repository, or None."""
    query = select(trash.c.digest, trash.c.media_type, trash.c.size, trash.c.content).where(
        trash.c.repository_id == repository, trash.c.kind == "manifest", trash.c.digest == digest
    )
    row = db.execute(query.order_by(trash.c.id.desc()).limit(1)).first()
    return None if row is None else StoredManifest(Digest(row[0]), *row[1:])


def thrown_referrers(db: Connection, repository: int, subject: str) -> list[str]:
    """Returns the manifests that were removed from a repository and have this subject."""
    query = select(trash.c.digest).where(trash.c.repository_id == repository, trash.c.subject == subject)
    return sorted(set(db.execute(query).scalars()))


def thrown_tags(db: Connection, repository: int, digest: str) -> list[str]:
    """Returns the tags that were removed from a repository and named ``digest``."""
    query = select(trash.c.tag).where(
        trash.c.repository_id == repository, trash.c.kind == "tag", trash.c.digest == digest
    )
    return sorted(set(db.execute(query).scalars()))


def thrown_scheme_tags(db: Connection, repository: int, subject: str) -> list[tuple[str, str]]:
    """Returns the tags that were removed and stand for referrers of ``subject``, each with what it named."""
    query = select(trash.c.tag, trash.c.digest).where(
        trash.c.repository_id == repository, trash.c.tag.in_(reach.tags_about(subject))
    )
    return sorted({(tag, digest) for tag, digest in db.execute(query)})


def take_back_blob(db: Connection, repository: int, digest: str) -> int | None:
    """Makes a repository hold again a blob that was taken from it; returns its bytes, None where they are gone."""
    thrown_here = (trash.c.repository_id == repository) & (trash.c.kind == "blob") & (trash.c.digest == digest)
    row = db.execute(
        select(blobs.c.size)
        .join(trash, trash.c.digest == blobs.c.digest)
        .where(thrown_here, blobs.c.damaged_at.is_(None))
    ).first()
    if row is None:
        return None
    queries.link_again(db, repository, digest)
    db.execute(delete(trash).where(thrown_here))
    return int(row[0])


def forget(db: Connection, repository: int, kind: str, digest: str, tag: str | None = None) -> None:
    """Takes something out of the trash that is there again."""
    row = (trash.c.repository_id == repository) & (trash.c.kind == kind) & (trash.c.digest == digest)
    db.execute(delete(trash).where(row, trash.c.tag == tag if tag is not None else trash.c.tag.is_(None)))


_STATE = Statement(
    select(
        select(literal(1)).where(purges.c.digest == bindparam("digest")).exists(),
        select(literal(1))
        .where(
            blobs.c.digest == bindparam("digest"),
            ~select(repository_blobs.c.digest).where(repository_blobs.c.digest == blobs.c.digest).exists(),
        )
        .exists(),
    )
)


def state(db: Connection, digest: str) -> tuple[bool, bool]:
    """Says of a blob whether its bytes are being removed now, and whether they may be soon: no repository holds it."""
    row = _STATE.row(db, digest=digest)
    return (False, False) if row is None else (bool(row[0]), bool(row[1]))


def want(db: Connection, digest: str) -> bool:
    """Notes that somebody pushes what no repository holds: its bytes stay for the time of a lease.

    False where it is recorded no more.
    """
    return db.execute(update(blobs).where(blobs.c.digest == digest).values(wanted_at=now())).rowcount > 0


_PURGED = Statement(select(purges.c.digest).where(purges.c.digest == bindparam("digest")))


def is_purged(db: Connection, digest: str) -> bool:
    """Says whether a blob's bytes are being removed."""
    return _PURGED.value(db, digest=digest) is not None


def empty(db: Connection, removed_before: float, wanted_before: float, limit: int) -> tuple[int, list[Digest], float]:
    """Takes up to ``limit`` things out of the trash for ever; returns how many, and the blobs that are claimed by it.

    The claimed ones are recorded no more: the caller removes their bytes, and then says `purged`. Until then nobody
    can push them.
    """
    exclusive(db, _LOCK)
    claimed_at = reach.moment(db)
    old = select(trash.c.id, trash.c.kind, trash.c.digest).where(trash.c.removed_at <= removed_before)
    rows = db.execute(old.order_by(trash.c.removed_at).limit(limit)).all()
    db.execute(delete(trash).where(trash.c.id.in_([row.id for row in rows])))
    claimed = []
    for digest in sorted({row.digest for row in rows if row.kind == "blob"}):
        # Who makes a repository hold it waits for this lock, and this for theirs.
        row = db.execute(select(blobs.c.wanted_at).where(blobs.c.digest == digest).with_for_update()).first()
        others = select(trash.c.id).where(trash.c.digest == digest, trash.c.kind == "blob").limit(1)
        if row is None or reach.is_held(db, digest) or db.execute(others).first() is not None:
            continue
        if row.wanted_at is not None and row.wanted_at > wanted_before:
            # Whoever wants it may have given up.
            values = {"kind": "blob", "digest": digest, "size": 0, "reason": "a push of it was not completed"}
            db.execute(insert(trash).values(removed_at=now(), **values))
            continue
        db.execute(upsert(purges).values(digest=digest, claimed_at=claimed_at).on_conflict_do_nothing())
        db.execute(delete(blobs).where(blobs.c.digest == digest))
        claimed.append(Digest(digest))
    return len(rows), claimed, claimed_at


def claim_again(db: Connection, claimed_before: float, limit: int) -> tuple[list[Digest], float]:
    """Returns blobs whose bytes somebody should have removed by now who has died meanwhile, claimed anew."""
    old = select(purges.c.digest).where(purges.c.claimed_at <= claimed_before)
    return _claim(db, old.order_by(purges.c.claimed_at).limit(limit))


def claim_further(db: Connection, digests: Collection[str], claimed_at: float) -> tuple[list[Digest], float]:
    """Returns those of one's own claims that nobody has taken over, claimed anew."""
    return _claim(db, select(purges.c.digest).where(_mine(digests, claimed_at)).order_by(purges.c.digest))


def _claim(db: Connection, found: Select[tuple[str]]) -> tuple[list[Digest], float]:
    exclusive(db, _LOCK)
    digests = list(db.execute(found).scalars())
    claimed_at = reach.moment(db)
    db.execute(update(purges).where(purges.c.digest.in_(digests)).values(claimed_at=claimed_at))
    return [Digest(digest) for digest in digests], claimed_at


def _mine(digests: Collection[str], claimed_at: float) -> ColumnElement[bool]:
    return purges.c.digest.in_(sorted(digests)) & (purges.c.claimed_at == claimed_at)


def purged(db: Connection, digests: Collection[str], claimed_at: float) -> None:
    """Notes that the bytes of these are gone, unless somebody else has claimed them since."""
    db.execute(delete(purges).where(_mine(digests, claimed_at)))
