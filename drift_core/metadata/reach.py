"""Since when nothing reaches a manifest or a blob within its repository: kept up to date by every change.

The table ``unreached`` has a row for whatever may have lost the last thing that reached it, from the moment at which it
did, or was wanted last. A row too many is taken out when it is looked at; there is never one too few.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    Table,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata.clock import now
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import (
    manifest_blobs,
    manifest_children,
    manifests,
    repository_blobs,
    tags,
    unreached,
)

Kind = Literal["blob", "manifest"]

TABLES: Mapping[Kind, Table] = {"blob": repository_blobs, "manifest": manifests}
"""What a repository holds."""

EDGES: Mapping[Kind, Table] = {"blob": manifest_blobs, "manifest": manifest_children}
"""What names it."""

UNKNOWN = 0
"""The repository of an edge that an older version has written, which counts as any; see `adopt_edges`."""

_LIST = 500
"""Most digests of one statement; see `queries`."""

_COLUMNS = ("repository_id", "kind", "digest", "since")

_NEWEST = 20
"""Manifests of which one may reach a blob; more are not looked through to answer a request."""


def _enter(rows: Select[tuple[int, str, str, float]]) -> Statement:
    new = upsert(unreached).from_select(_COLUMNS, rows)
    later = case((unreached.c.since > new.excluded.since, unreached.c.since), else_=new.excluded.since)
    return Statement(
        new.on_conflict_do_update(index_elements=["repository_id", "kind", "digest"], set_={"since": later}).returning(
            unreached.c.digest
        )
    )


def _one(kind: Kind, since: ColumnElement[float]) -> Statement:
    table = TABLES[kind]
    return _enter(
        select(table.c.repository_id, literal(kind), table.c.digest, since).where(
            table.c.repository_id == bindparam("repository"), table.c.digest == bindparam("digest")
        )
    )


_HOLD: dict[Kind, Statement] = {"blob": _one("blob", now()), "manifest": _one("manifest", now())}


def hold(db: Connection, repository: int, kind: Kind, digest: str) -> bool:
    """Notes that something was wanted now, whatever reaches it; False where the repository does not hold it.

    It is not removed before its time of grace, which begins anew, nor are its parts.
    """
    return _HOLD[kind].value(db, repository=repository, digest=digest) is not None


@lru_cache
def _forget(count: int) -> Statement:
    return Statement(
        delete(unreached).where(
            unreached.c.repository_id == bindparam("repository"),
            unreached.c.kind == bindparam("kind"),
            unreached.c.digest.in_([bindparam(f"digest{number}") for number in range(count)]),
        )
    )


def reached(db: Connection, repository: int, kind: Kind, digests: Collection[str]) -> None:
    """Notes that something reaches these now."""
    ordered = sorted(digests)
    for start in range(0, len(ordered), _LIST):
        part = ordered[start : start + _LIST]
        values = {f"digest{number}": digest for number, digest in enumerate(part)}
        _forget(len(part)).run(db, repository=repository, kind=kind, **values)


_LASTING = tags.c.name.not_like("sha___-%")
"""A tag that does not end with the manifest that it is about; see `scheme_tags`."""


def _owners(edges: Table, digests: Any) -> Select[tuple[int]]:
    """Returns the newest manifests that name one of ``digests``."""
    query = select(edges.c.manifest_id).where(
        edges.c.repository_id == bindparam("repository"), edges.c.digest.in_(digests)
    )
    return query.order_by(edges.c.manifest_id.desc()).limit(_NEWEST)


def _is_tagged(owners: Select[tuple[int]]) -> Statement:
    return Statement(select(tags.c.name).where(tags.c.manifest_id.in_(owners), _LASTING).limit(1))


_BY_TAGGED = _is_tagged(_owners(manifest_blobs, [bindparam("digest")]))
_BY_TAGGED_INDEX = _is_tagged(_owners(manifest_children, [bindparam("digest")]))
_BY_TAGGED_INDEX_OF = _is_tagged(
    _owners(
        manifest_children,
        select(manifests.c.digest).where(manifests.c.id.in_(_owners(manifest_blobs, [bindparam("digest")]))),
    )
)
_TAGGED = Statement(
    select(tags.c.name)
    .join(manifests, manifests.c.id == tags.c.manifest_id)
    .where(manifests.c.repository_id == bindparam("repository"), manifests.c.digest == bindparam("digest"), _LASTING)
    .limit(1)
)


def is_plainly_reached(db: Connection, repository: int, kind: Kind, digest: str) -> bool:
    """Says whether a tag names a manifest, or an index of it, or one that has a blob; False is "perhaps not".

    What is reached so stays for a whole time of grace after that ends.
    """
    statements = (_TAGGED, _BY_TAGGED_INDEX) if kind == "manifest" else (_BY_TAGGED, _BY_TAGGED_INDEX_OF)
    return any(one.value(db, repository=repository, digest=digest) is not None for one in statements)


_SINCE = literal(0.0) + bindparam("since", type_=Float)


def _parts(kind: Kind) -> Statement:
    edges, table = EDGES[kind], TABLES[kind]
    return _enter(
        select(table.c.repository_id, literal(kind), table.c.digest, _SINCE)
        .join(edges, (edges.c.digest == table.c.digest) & (edges.c.repository_id == table.c.repository_id))
        .where(edges.c.manifest_id == bindparam("manifest"))
    )


_ENTER = _one("manifest", _SINCE)
_RELEASE = (_parts("blob"), _parts("manifest"))
_RELEASE_REFERRERS = _enter(
    select(manifests.c.repository_id, literal("manifest"), manifests.c.digest, _SINCE).where(
        manifests.c.repository_id == bindparam("repository"), manifests.c.subject == bindparam("digest")
    )
)


def release(db: Connection, repository: int, manifest: int, digest: str, since: float) -> None:
    """Notes that a manifest, which is about to be removed, reaches nothing any more, and has not ``since`` then."""
    for statement in _RELEASE:
        statement.run(db, manifest=manifest, since=since)
    _RELEASE_REFERRERS.run(db, repository=repository, digest=digest, since=since)


def lost_a_tag(db: Connection, repository: int, digest: str, since: float) -> None:
    """Notes that a tag names a manifest no more, and that it is unreached ``since`` then if nothing else does."""
    _ENTER.run(db, repository=repository, digest=digest, since=since)


def moment(db: Connection) -> float:
    """Returns this moment by the clock of the database, in seconds since the epoch."""
    return float(db.execute(select(now())).scalar_one())


_WAITS = Statement(
    select(unreached.c.since).where(
        unreached.c.repository_id == bindparam("repository"),
        unreached.c.kind == bindparam("kind"),
        unreached.c.digest == bindparam("digest"),
    )
)


def waits_since(db: Connection, repository: int, kind: Kind, digest: str) -> float | None:
    """Returns since when something is entered as unreached, in seconds since the epoch; None where it is not."""
    since: float | None = _WAITS.value(db, repository=repository, kind=kind, digest=digest)
    return since


def _named(edges: Table) -> Statement:
    here = edges.c.repository_id.in_([bindparam("repository"), bindparam("unknown")])
    return Statement(select(edges.c.digest).where(here, edges.c.digest == bindparam("digest")).limit(1))


_NAMED: Mapping[Kind, Statement] = {kind: _named(edges) for kind, edges in EDGES.items()}


def is_named(db: Connection, repository: int, kind: Kind, digest: str) -> bool:
    """Says whether a manifest of the repository has this blob, or an index this manifest."""
    return _NAMED[kind].value(db, repository=repository, unknown=UNKNOWN, digest=digest) is not None


def waits(db: Connection, repository: int, kind: Kind, digest: str) -> bool:
    """Says whether there is a row of something."""
    row = (unreached.c.repository_id == repository) & (unreached.c.kind == kind) & (unreached.c.digest == digest)
    return db.execute(select(unreached.c.digest).where(row)).first() is not None


def naming(db: Connection, repository: int, digest: str) -> list[str]:
    """Returns the indexes of a repository that name a manifest."""
    query = select(manifests.c.digest).join(manifest_children, manifest_children.c.manifest_id == manifests.c.id)
    query = query.where(manifest_children.c.repository_id == repository, manifest_children.c.digest == digest)
    return list(db.execute(query).scalars())


def is_there(db: Connection, repository: int, kind: Kind, digest: str) -> bool:
    """Says whether a repository holds a blob, or a manifest."""
    table = TABLES[kind]
    here = select(table.c.digest).where(table.c.repository_id == repository, table.c.digest == digest)
    return db.execute(here).first() is not None


def has_referrers(db: Connection, repository: int, digest: str) -> bool:
    """Says whether a manifest of the repository has this subject, or a tag of cosign's scheme names it."""
    query = select(manifests.c.id).where(manifests.c.repository_id == repository, manifests.c.subject == digest)
    return db.execute(query.limit(1)).first() is not None or bool(scheme_tags(db, repository, digest))


def is_bound(db: Connection, repository: int, digest: str) -> bool:
    """Says whether a manifest has referrers, or is one of a manifest that the repository holds."""
    return has_referrers(db, repository, digest) or bool(_held_subjects(db, repository, [digest]))


SCHEME = ("", ".sig", ".att", ".sbom")
"""Ends of tags that stand for referrers: of the specification's "Referrers Tag Schema", and of cosign's artifacts."""


_ABOUT = re.compile(r"(sha\d{3})-([0-9a-f]{64,128})(?:\.sig|\.att|\.sbom)?")


def subject_of_tag(tag: str) -> str | None:
    """Returns the digest of the manifest that a tag is about by its name, or None."""
    match = _ABOUT.fullmatch(tag)
    return None if match is None else f"{match[1]}:{match[2]}"


def tags_about(subject: str) -> list[str]:
    """Returns the names of the tags that would stand for referrers of ``subject``; see `SCHEME`."""
    stem = subject.replace(":", "-", 1)
    return [f"{stem}{end}" for end in SCHEME]


_SCHEME_TAGS = Statement(
    select(tags.c.name, manifests.c.digest)
    .join(manifests, manifests.c.id == tags.c.manifest_id)
    .where(
        tags.c.repository_id == bindparam("repository"),
        tags.c.name.in_([bindparam(f"tag{number}") for number in range(len(SCHEME))]),
    )
)


def scheme_tags(db: Connection, repository: int, subject: str) -> list[tuple[str, str]]:
    """Returns the tags that stand for referrers of ``subject``, each with the digest that it names."""
    values = {f"tag{number}": tag for number, tag in enumerate(tags_about(subject))}
    return [(name, digest) for name, digest in _SCHEME_TAGS.rows(db, repository=repository, **values)]


@lru_cache
def _above(count: int) -> tuple[Statement, Statement, Statement, Statement]:
    """Returns what finds, of so many manifests, the tags, the latest loss, the indexes, and the subjects."""
    repository: Any = bindparam("repository")
    digests: list[Any] = [bindparam(f"digest{number}") for number in range(count)]
    here = (manifests.c.repository_id == repository) & manifests.c.digest.in_(digests)
    lost = select(func.max(unreached.c.since)).where(
        unreached.c.repository_id == repository, unreached.c.kind == "manifest", unreached.c.digest.in_(digests)
    )
    indexes = (
        select(manifests.c.digest)
        .join(manifest_children, manifest_children.c.manifest_id == manifests.c.id)
        .where(manifest_children.c.repository_id == repository, manifest_children.c.digest.in_(digests))
    )
    artifact = manifests.alias("artifact")
    subjects = (
        select(manifests.c.digest)
        .join(artifact, artifact.c.subject == manifests.c.digest)
        .where(
            manifests.c.repository_id == repository,
            artifact.c.repository_id == repository,
            artifact.c.digest.in_(digests),
        )
    )
    tagged = select(tags.c.name).join(manifests).where(here)
    return Statement(tagged), Statement(lost), Statement(indexes), Statement(subjects)


def unreached_since(
    db: Connection, repository: int, digest: str, gone: Collection[str] = (), ended: Collection[str] = ()
) -> float | None:
    """Returns since when no tag that is not ``ended`` reaches a manifest; None where one does.

    It is reached through indexes and subjects that are not ``gone``: the last of them that lost its tag, or was wanted,
    says since when. Looks only at what reaches it, level by level: mostly one.
    """
    latest = 0.0
    seen, level = {digest}, [digest]
    while level:
        above: set[str | None] = set()
        for start in range(0, len(level), _LIST):
            part = level[start : start + _LIST]
            values = {"repository": repository, **{f"digest{number}": one for number, one in enumerate(part)}}
            tagged, lost, indexes, subjects = _above(len(part))
            about = {subject_of_tag(name) for (name,) in tagged.rows(db, **values) if name not in ended}
            held = _held(db, repository, about - {None})
            # A tag that is about something which is not there is a tag like any other.
            if about - held:
                return None
            latest = max(latest, lost.value(db, **values) or 0.0)
            above |= held
            above.update(one for (one,) in indexes.rows(db, **values))
            above.update(one for (one,) in subjects.rows(db, **values))
        level = sorted(one for one in above if one is not None and one not in seen and one not in gone)
        seen.update(level)
    return latest


def _held(db: Connection, repository: int, digests: Collection[str | None]) -> set[str | None]:
    here = (manifests.c.repository_id == repository) & manifests.c.digest.in_(digests)
    return set(db.execute(select(manifests.c.digest).where(here)).scalars()) if digests else set()


def _held_subjects(db: Connection, repository: int, digests: Sequence[str]) -> list[str]:
    values = {f"digest{number}": one for number, one in enumerate(digests)}
    *_, subjects = _above(len(digests))
    return [one for (one,) in subjects.rows(db, repository=repository, **values)]


def adopt_edges(db: Connection) -> None:
    """Completes the edges that an older version has written, and enters what it has left unreached beside them."""
    adopted = 0
    for table in (manifest_blobs, manifest_children):
        owner = select(manifests.c.repository_id).where(manifests.c.id == table.c.manifest_id).scalar_subquery()
        adopted += db.execute(
            table.update().where(table.c.repository_id == UNKNOWN).values(repository_id=owner)
        ).rowcount
    if adopted:
        for statement in _ENTER_ALL:
            statement.run(db)


def _unnamed(kind: Kind) -> Select[tuple[int, str, str, float]]:
    table, edges = TABLES[kind], EDGES[kind]
    named = select(edges.c.digest).where(
        edges.c.repository_id == table.c.repository_id, edges.c.digest == table.c.digest
    )
    return select(table.c.repository_id, literal(kind), table.c.digest, now()).where(~named.exists())


_ENTER_ALL = (
    _enter(_unnamed("blob")),
    _enter(_unnamed("manifest").where(~select(tags.c.name).where(tags.c.manifest_id == manifests.c.id).exists())),
)


_HELD = Statement(select(repository_blobs.c.digest).where(repository_blobs.c.digest == bindparam("digest")).limit(1))


def is_held(db: Connection, digest: str) -> bool:
    """Says whether any repository holds a blob."""
    return _HELD.value(db, digest=digest) is not None


def total(db: Connection, at_most: int) -> int:
    """Returns how many manifests and blobs the repositories hold, counted up to ``at_most``."""
    counted = 0
    for table in (manifests, repository_blobs):
        some = select(literal(1)).select_from(table).limit(at_most - counted).subquery()
        counted += db.execute(select(func.count()).select_from(some)).scalar_one()
    return counted
