"""Every SQL statement of the core: plain functions of a connection, run through `Database.read` or `Database.write`.

A function that ends in nothing found returns None or an empty list; what that means to a client is the registry's say.
Statements are built once, when this is imported: to build one takes longer than to run it. Those of pulls and pushes
are a `Statement`, which SQLAlchemy compiles and the driver runs.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    insert,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata.locks import shared
from drift_core.metadata.reach import UNKNOWN, hold, reached, subject_of_tag
from drift_core.metadata.statement import Statement
from drift_core.metadata.tables import (
    blobs,
    manifest_blobs,
    manifest_children,
    manifests,
    repositories,
    repository_blobs,
    tags,
    uploads,
)
from drift_core.model import Descriptor, Digest, Visible

DESCRIPTOR_BYTES = 1200
"""Most bytes of a descriptor without its annotations, as JSON."""

# SQLite takes 32,766 parameters in a statement and PostgreSQL 65,535; short lists also keep the plan cache small.
_LIST = 500

_CONDITIONS = 500
"""Most globs that one query compares: SQLite takes expressions of a depth of 1000."""


class StoredManifest(Struct, frozen=True):
    """A manifest as it was pushed; ``size`` in bytes."""

    digest: Digest
    media_type: str
    size: int
    content: bytes


class NewManifest(Struct, frozen=True, kw_only=True):
    """What a push records of a manifest: its bytes and its edges."""

    digest: Digest
    media_type: str
    content: bytes
    artifact_type: str | None
    annotations: dict[str, str] | None
    subject: str | None
    blobs: frozenset[str]
    children: frozenset[str]


def _batches(values: Collection[str]) -> Iterable[Sequence[str]]:
    ordered = sorted(values)
    for start in range(0, len(ordered), _LIST):
        yield ordered[start : start + _LIST]


_REPOSITORY_ID = Statement(select(repositories.c.id).where(repositories.c.name == bindparam("name")))
_ADD_REPOSITORY = Statement(insert(repositories).returning(repositories.c.id), "name", "created_at")


def repository_id(db: Connection, name: str) -> int | None:
    """Returns the row of a repository, or None."""
    found: int | None = _REPOSITORY_ID.value(db, name=name)
    return found


def ensure_repository(db: Connection, name: str) -> int:
    """Returns the row of a repository, made now if it is new."""
    found = repository_id(db, name)
    if found is not None:
        return found
    added: int = _ADD_REPOSITORY.value(db, name=name, created_at=time.time())
    return added


_REPOSITORY_NAMES = Statement(
    select(repositories.c.name)
    .where(repositories.c.name > bindparam("after"))
    .order_by(repositories.c.name)
    .limit(bindparam("limit"))
)


def repository_names(db: Connection, after: str, limit: int) -> list[str]:
    """Returns up to ``limit`` names in binary order, behind ``after``."""
    return [name for (name,) in _REPOSITORY_NAMES.rows(db, after=after, limit=limit)]


def visible_repository_names(db: Connection, after: str, limit: int, policies: Sequence[Visible]) -> list[str]:
    """Returns up to ``limit`` names in binary order, behind ``after``, of what a policy lets see and none denies.

    Each allowed glob is one range of the index, so that what the sender may not see costs nothing; only what follows
    the first ``*`` of a glob, or is denied, is compared name by name. What a policy denies in more than `_CONDITIONS`
    globs is left to the verdicts.
    """
    name = repositories.c.name
    fits = [_permitted(policy) for policy in policies if len(policy.denied) + len(policy.despite) < _CONDITIONS]
    globs = _widest(glob for policy in policies for glob in policy.allowed)
    # No character of a name is larger than z.
    ranges = [
        [name >= begin, name < f"{begin}{{", _like(glob)] for glob in globs if "*" in glob for begin in [_begin(glob)]
    ]
    ranges += [[name.in_(part)] for part in _batches([glob for glob in globs if "*" not in glob])]
    found: set[str] = set()
    for one in ranges:
        query = select(name).where(name > after, *one, *fits).order_by(name).limit(limit)
        found.update(db.execute(query).scalars())
    return sorted(found)[:limit]


def _permitted(policy: Visible) -> ColumnElement[bool]:
    return or_(and_(true(), *(~_like(glob) for glob in policy.denied)), *(_like(glob) for glob in policy.despite))


def _begin(glob: str) -> str:
    return glob.partition("*")[0]


def _widest(globs: Iterable[str]) -> list[str]:
    """Returns globs without those that are within another's prefix, so that no range is read twice."""
    every = set(globs)
    wide: list[str] = []
    for prefix in sorted(glob[:-1] for glob in every if glob.endswith("*") and "*" not in glob[:-1]):
        if not wide or not prefix.startswith(wide[-1]):
            wide.append(prefix)

    def is_within(begin: str) -> bool:
        # Of prefixes none of which begins another, only the last one before a text can begin it.
        place = bisect_right(wide, begin)
        return place > 0 and begin.startswith(wide[place - 1])

    return [f"{prefix}*" for prefix in wide] + sorted(glob for glob in every if not is_within(_begin(glob)))


def _like(glob: str) -> ColumnElement[bool]:
    parts = (part.replace("!", "!!").replace("_", "!_").replace("%", "!%") for part in glob.split("*"))
    return repositories.c.name.like("%".join(parts), escape="!")


_BLOB_SIZE = Statement(
    select(blobs.c.size)
    .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
    .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
    .where(
        repositories.c.name == bindparam("repository"),
        blobs.c.digest == bindparam("digest"),
        blobs.c.damaged_at.is_(None),
    )
)


def blob_size(db: Connection, repository: str, digest: str) -> int | None:
    """Returns the bytes of a blob that the repository holds, or None; one in quarantine counts as not held."""
    size: int | None = _BLOB_SIZE.value(db, repository=repository, digest=digest)
    return size


_BLOB_HOLDERS = (
    select(repositories.c.name)
    .join(repository_blobs, repository_blobs.c.repository_id == repositories.c.id)
    .where(repository_blobs.c.digest == bindparam("digest"))
    .limit(bindparam("limit"))
)


def blob_holders(db: Connection, digest: str, limit: int) -> list[str]:
    """Returns up to ``limit`` names of repositories that hold a blob."""
    return list(db.execute(_BLOB_HOLDERS, {"digest": digest, "limit": limit}).scalars())


_ADD_BLOB = Statement(upsert(blobs).on_conflict_do_nothing(), "digest", "size", "created_at")
# A statement of its own: an upsert would lock the row, for which pushes of the same blob would wait.
_MEND_BLOB = Statement(
    update(blobs)
    .where(blobs.c.digest == bindparam("mended"), blobs.c.damaged_at.is_not(None))
    .values(damaged_at=null(), damage=null())
)
_LINK_BLOB = Statement(
    upsert(repository_blobs).on_conflict_do_nothing().returning(repository_blobs.c.digest), "repository_id", "digest"
)


def link_blob(db: Connection, repository: str, digest: str, size: int) -> bool:
    """Records that the store holds a blob and that the repository may give it out; False where it did already.

    The bytes were pushed just now: a quarantine ends. They are kept for a time of grace, until a manifest needs them.
    """
    shared(db, f"repository:{repository}")
    row = ensure_repository(db, repository)
    _ADD_BLOB.run(db, digest=digest, size=size, created_at=time.time())
    _MEND_BLOB.run(db, mended=digest)
    return link_again(db, row, digest)


def mount_blob(db: Connection, repository: str, digest: str, source: str) -> tuple[int, bool] | None:
    """Links a blob that ``source`` holds; returns its bytes, and what `link_blob` does.

    None, and nothing done, where ``source`` does not hold it now.
    """
    size = blob_size(db, source, digest)
    if size is None:
        return None
    shared(db, f"repository:{repository}")
    return size, link_again(db, ensure_repository(db, repository), digest)


def blob_users(db: Connection, repository: str, digest: str, limit: int) -> list[str]:
    """Returns up to ``limit`` digests of manifests of a repository that name a blob."""
    query = _in_repository(select(manifests.c.digest))
    query = query.join(manifest_blobs, manifest_blobs.c.manifest_id == manifests.c.id)
    here = or_(manifest_blobs.c.repository_id == repositories.c.id, manifest_blobs.c.repository_id == UNKNOWN)
    query = query.where(here, manifest_blobs.c.digest == digest).limit(limit)
    return list(db.execute(query, {"repository": repository}).scalars())


def link_again(db: Connection, repository: int, digest: str) -> bool:
    """Makes a repository hold a recorded blob for a time of grace at least; False where it did already."""
    linked = _LINK_BLOB.value(db, repository_id=repository, digest=digest) is not None
    hold(db, repository, "blob", digest)
    return linked


_UNLINK = Statement(
    delete(repository_blobs).where(
        repository_blobs.c.repository_id == bindparam("repository"), repository_blobs.c.digest == bindparam("digest")
    )
)


def unlink_blob(db: Connection, repository: int, digest: str) -> None:
    """Takes a blob away from a repository; one that it does not hold is no error."""
    _UNLINK.run(db, repository=repository, digest=digest)


def forget_blob(db: Connection, digest: str) -> None:
    """Takes a blob away from every repository, since the store has lost it."""
    db.execute(delete(repository_blobs).where(repository_blobs.c.digest == digest))
    db.execute(delete(blobs).where(blobs.c.digest == digest))


def blobs_after(db: Connection, after: str, limit: int) -> list[tuple[Digest, int]]:
    """Returns up to ``limit`` recorded blobs in order of digest, behind ``after``."""
    query = select(blobs.c.digest, blobs.c.size).where(blobs.c.digest > after).order_by(blobs.c.digest).limit(limit)
    return [(Digest(digest), size) for digest, size in db.execute(query)]


def known_blobs(db: Connection, digests: Collection[str]) -> set[str]:
    """Returns those of ``digests`` that are recorded."""
    found: set[str] = set()
    for batch in _batches(digests):
        found.update(db.execute(select(blobs.c.digest).where(blobs.c.digest.in_(batch))).scalars())
    return found


_ADD_UPLOAD = Statement(insert(uploads), "id", "repository", "started_at")
_UPLOAD_REPOSITORY = Statement(select(uploads.c.repository).where(uploads.c.id == bindparam("upload")))
_REMOVE_UPLOAD = Statement(delete(uploads).where(uploads.c.id == bindparam("upload")))


def add_upload(db: Connection, upload: str, repository: str) -> None:
    """Records to which repository an upload belongs."""
    _ADD_UPLOAD.run(db, id=upload, repository=repository, started_at=time.time())


def upload_repository(db: Connection, upload: str) -> str | None:
    """Returns the repository that an upload belongs to, or None."""
    found: str | None = _UPLOAD_REPOSITORY.value(db, upload=upload)
    return found


def remove_upload(db: Connection, upload: str) -> None:
    """Forgets an upload."""
    _REMOVE_UPLOAD.run(db, upload=upload)


def uploads_before(db: Connection, started_before: float, limit: int) -> list[str]:
    """Returns up to ``limit`` uploads that began before a time in seconds since the epoch."""
    query = select(uploads.c.id).where(uploads.c.started_at < started_before).limit(limit)
    return list(db.execute(query).scalars())


def uploads_after(db: Connection, after: str, started_before: float, limit: int) -> list[str]:
    """Returns up to ``limit`` uploads of before a time, in order of their ids, behind ``after``."""
    query = select(uploads.c.id).where(uploads.c.id > after, uploads.c.started_at < started_before)
    return list(db.execute(query.order_by(uploads.c.id).limit(limit)).scalars())


def _in_repository(query: Select[Any]) -> Select[Any]:
    """Adds the condition that a manifest lies in the repository of the parameter ``repository``."""
    return query.join(repositories, repositories.c.id == manifests.c.repository_id).where(
        repositories.c.name == bindparam("repository")
    )


_STORED = (manifests.c.digest, manifests.c.media_type, manifests.c.size, manifests.c.content)
_MANIFEST_BY_DIGEST = Statement(_in_repository(select(*_STORED)).where(manifests.c.digest == bindparam("digest")))
_MANIFEST_BY_TAG = Statement(
    _in_repository(select(*_STORED))
    .join(tags, tags.c.manifest_id == manifests.c.id)
    .where(tags.c.name == bindparam("tag"), tags.c.repository_id == repositories.c.id)
)


def manifest_by_digest(db: Connection, repository: str, digest: str) -> StoredManifest | None:
    """Returns a manifest of a repository, or None."""
    row = _MANIFEST_BY_DIGEST.row(db, repository=repository, digest=digest)
    return None if row is None else StoredManifest(Digest(row[0]), *row[1:])


def manifest_by_tag(db: Connection, repository: str, tag: str) -> StoredManifest | None:
    """Returns the manifest that a tag of a repository names, or None."""
    row = _MANIFEST_BY_TAG.row(db, repository=repository, tag=tag)
    return None if row is None else StoredManifest(Digest(row[0]), *row[1:])


@lru_cache
def _held_blobs(count: int) -> Statement:
    return Statement(
        select(blobs.c.digest, blobs.c.size)
        .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
        .where(
            repository_blobs.c.repository_id == bindparam("repository"),
            repository_blobs.c.digest.in_([bindparam(f"digest{number}") for number in range(count)]),
            blobs.c.damaged_at.is_(None),
        )
    )


@lru_cache
def _held_manifests(count: int) -> Statement:
    return Statement(
        select(manifests.c.digest, manifests.c.size).where(
            manifests.c.repository_id == bindparam("repository"),
            manifests.c.digest.in_([bindparam(f"digest{number}") for number in range(count)]),
        )
    )


def held_blobs(db: Connection, repository: int, digests: Collection[str]) -> dict[str, int]:
    """Returns the bytes of each of ``digests`` that the repository holds as a blob."""
    return _held(db, _held_blobs, repository, digests)


def held_manifests(db: Connection, repository: int, digests: Collection[str]) -> dict[str, int]:
    """Returns the bytes of each of ``digests`` that the repository holds as a manifest."""
    return _held(db, _held_manifests, repository, digests)


def _held(
    db: Connection, statement: Callable[[int], Statement], repository: int, digests: Collection[str]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for batch in _batches(digests):
        values = {f"digest{number}": digest for number, digest in enumerate(batch)}
        found.update(statement(len(batch)).rows(db, repository=repository, **values))
    return found


_MANIFEST_ID = Statement(
    select(manifests.c.id).where(
        manifests.c.repository_id == bindparam("repository"), manifests.c.digest == bindparam("digest")
    )
)
_ADD_MANIFEST = Statement(
    insert(manifests).returning(manifests.c.id), *(column.name for column in manifests.c if column.name != "id")
)
_ADD_EDGES = tuple(
    Statement(insert(table), "manifest_id", "digest", "repository_id") for table in (manifest_blobs, manifest_children)
)


def manifest_id(db: Connection, repository: int, digest: str) -> int | None:
    """Returns the row of a manifest of a repository, or None."""
    found: int | None = _MANIFEST_ID.value(db, repository=repository, digest=digest)
    return found


def put_manifest(db: Connection, repository: int, new: NewManifest) -> int:
    """Records a manifest and its edges, unless the repository holds it already; returns its row.

    From now on it reaches its parts; what reaches it is the caller's to say: `set_tag`, or `hold`.
    """
    found = manifest_id(db, repository, new.digest)
    if found is not None:
        return found
    annotations = None if not new.annotations else msgspec.json.encode(new.annotations).decode()
    values = {
        "repository_id": repository,
        "digest": new.digest,
        "media_type": new.media_type,
        "size": len(new.content),
        "content": new.content,
        "artifact_type": new.artifact_type,
        "annotations": annotations,
        "subject": new.subject,
        "pushed_at": time.time(),
    }
    row: int = _ADD_MANIFEST.value(db, **values)
    for statement, digests in zip(_ADD_EDGES, (new.blobs, new.children), strict=True):
        edges = [{"manifest_id": row, "digest": digest, "repository_id": repository} for digest in sorted(digests)]
        statement.run_many(db, edges)
    reached(db, repository, "blob", new.blobs)
    reached(db, repository, "manifest", new.children)
    return row


def delete_manifest(db: Connection, repository: int, digest: str) -> bool:
    """Removes a manifest with its edges and the tags that name it; False where there is none."""
    done = db.execute(delete(manifests).where(manifests.c.repository_id == repository, manifests.c.digest == digest))
    return done.rowcount > 0


def manifests_after(db: Connection, after: int, limit: int) -> list[tuple[int, str, StoredManifest]]:
    """Returns up to ``limit`` manifests behind row ``after``, each with its row and the name of its repository."""
    query = (
        select(manifests.c.id, repositories.c.name, *_STORED)
        .join(repositories, repositories.c.id == manifests.c.repository_id)
        .where(manifests.c.id > after)
        .order_by(manifests.c.id)
        .limit(limit)
    )
    return [(row[0], row[1], StoredManifest(Digest(row[2]), *row[3:])) for row in db.execute(query)]


def missing_of(db: Connection, repository: str, digest: str) -> list[str]:
    """Returns the blobs that a recorded manifest names and its repository does not hold."""
    held = select(repository_blobs.c.digest).where(repository_blobs.c.repository_id == manifests.c.repository_id)
    query = _in_repository(select(manifest_blobs.c.digest)).join(
        manifest_blobs, manifest_blobs.c.manifest_id == manifests.c.id
    )
    query = query.where(manifests.c.digest == digest, manifest_blobs.c.digest.not_in(held))
    return list(db.execute(query, {"repository": repository}).scalars())


_TAGGED_DIGEST = Statement(
    select(manifests.c.digest)
    .join(tags, tags.c.manifest_id == manifests.c.id)
    .where(tags.c.repository_id == bindparam("repository"), tags.c.name == bindparam("tag"))
)


def tagged_digest(db: Connection, repository: int, tag: str) -> str | None:
    """Returns the digest that a tag names now, or None."""
    found: str | None = _TAGGED_DIGEST.value(db, repository=repository, tag=tag)
    return found


_NEW_TAG = upsert(tags)
_SET_TAG = Statement(
    _NEW_TAG.on_conflict_do_update(
        index_elements=[tags.c.repository_id, tags.c.name],
        set_={"manifest_id": _NEW_TAG.excluded.manifest_id, "updated_at": _NEW_TAG.excluded.updated_at},
    ),
    *(column.name for column in tags.c),
)


def set_tag(db: Connection, repository: int, tag: str, manifest: int, digest: str) -> None:
    """Points a tag at a manifest of the same repository, by its row and its digest."""
    if subject_of_tag(tag) is None:
        reached(db, repository, "manifest", [digest])
    else:
        # It reaches no further than what it is about, which may be the manifest itself.
        hold(db, repository, "manifest", digest)
    _SET_TAG.run(db, repository_id=repository, name=tag, manifest_id=manifest, updated_at=time.time())


def delete_tag(db: Connection, repository: int, tag: str) -> None:
    """Removes a tag, not the manifest, which the caller holds; one that is unknown is no error."""
    db.execute(delete(tags).where(tags.c.repository_id == repository, tags.c.name == tag))


_TAG_NAMES = Statement(
    select(tags.c.name)
    .where(tags.c.repository_id == bindparam("repository"), tags.c.name > bindparam("after"))
    .order_by(tags.c.name)
    .limit(bindparam("limit"))
)


def tag_names(db: Connection, repository: int, after: str, limit: int) -> list[str]:
    """Returns up to ``limit`` tags in binary order, behind ``after``."""
    return [name for (name,) in _TAG_NAMES.rows(db, repository=repository, after=after, limit=limit)]


def tags_of(db: Connection, repository: int, digest: str) -> list[str]:
    """Returns the tags that name a manifest."""
    query = (
        select(tags.c.name)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .where(manifests.c.repository_id == repository, manifests.c.digest == digest)
    )
    return list(db.execute(query).scalars())


_REFERRERS = (
    _in_repository(
        select(
            manifests.c.media_type,
            manifests.c.digest,
            manifests.c.size,
            manifests.c.artifact_type,
            manifests.c.annotations,
        )
    )
    .where(manifests.c.subject == bindparam("subject"), manifests.c.digest > bindparam("after"))
    .order_by(manifests.c.digest)
    .limit(bindparam("limit"))
)
_REFERRERS_OF_TYPE = _REFERRERS.where(manifests.c.artifact_type == bindparam("artifact_type"))


def referrers(
    db: Connection, repository: str, subject: str, artifact_type: str | None, after: str, limit: int, max_bytes: int
) -> tuple[list[Descriptor], bool]:
    """Returns manifests that name ``subject``, in order of digest, behind ``after``, and whether there are more.

    They are at most ``limit``, with at most ``max_bytes`` of annotations, but at least one.
    """
    query = _REFERRERS if artifact_type is None else _REFERRERS_OF_TYPE
    values = {
        "repository": repository,
        "subject": subject,
        "after": after,
        "limit": limit + 1,
        "artifact_type": artifact_type,
    }
    found: list[Descriptor] = []
    weight = 0
    rows = db.execution_options(yield_per=16).execute(query, values)
    for media_type, digest, size, kind, annotations in rows:
        weight += DESCRIPTOR_BYTES + len((annotations or "").encode())
        if len(found) == limit or (found and weight > max_bytes):
            rows.close()
            return found, True
        known = None if annotations is None else msgspec.json.decode(annotations, type=dict[str, str])
        found.append(Descriptor(media_type, digest, size, kind, known))
    return found, False
