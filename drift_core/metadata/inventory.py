"""Pages of what a repository, or the store, holds: for commands and for work beside requests."""

from collections.abc import Collection

from sqlalchemy import Connection, exists, func, select, update

from drift_core.metadata.clock import now
from drift_core.metadata.tables import blobs, manifest_children, manifests, repositories, repository_blobs, tags
from drift_core.model import BlobStat, Digest
from drift_core.protocols.registry import Quarantined, Tag


def held_bytes(db: Connection, repository: str) -> int:
    """Returns the bytes of all blobs that a repository holds, each once; reads a row for each."""
    query = (
        select(func.coalesce(func.sum(blobs.c.size), 0))
        .join(repository_blobs, repository_blobs.c.digest == blobs.c.digest)
        .join(repositories, repositories.c.id == repository_blobs.c.repository_id)
        .where(repositories.c.name == repository)
    )
    return int(db.execute(query).scalar_one())


def tags_after(db: Connection, repository: int, after: str, limit: int) -> list[Tag]:
    """Returns up to ``limit`` tags behind ``after``, in order."""
    columns = (tags.c.name, manifests.c.digest, tags.c.updated_at, manifests.c.pushed_at)
    query = select(*columns).join(manifests, manifests.c.id == tags.c.manifest_id)
    query = query.where(tags.c.repository_id == repository, tags.c.name > after).order_by(tags.c.name).limit(limit)
    return [Tag(name, Digest(digest), tagged, pushed) for name, digest, tagged, pushed in db.execute(query)]


def sound_blobs_after(db: Connection, after: str, limit: int) -> list[BlobStat]:
    """Returns up to ``limit`` recorded blobs that are not in quarantine, in order of digest, behind ``after``."""
    query = select(blobs.c.digest, blobs.c.size, blobs.c.created_at)
    query = query.where(blobs.c.digest > after, blobs.c.damaged_at.is_(None)).order_by(blobs.c.digest).limit(limit)
    return [BlobStat(Digest(digest), size, created) for digest, size, created in db.execute(query)]


def quarantine(db: Connection, digest: str, reason: str) -> None:
    """Notes that a blob's bytes are not its own any more; who pushes it again ends that."""
    sound = (blobs.c.digest == digest) & blobs.c.damaged_at.is_(None)
    db.execute(update(blobs).where(sound).values(damaged_at=now(), damage=reason))


def quarantined_after(db: Connection, after: str, limit: int) -> list[Quarantined]:
    """Returns up to ``limit`` blobs in quarantine, in order of digest, behind ``after``."""
    query = select(blobs.c.digest, blobs.c.damaged_at, blobs.c.damage)
    query = query.where(blobs.c.digest > after, blobs.c.damaged_at.is_not(None)).order_by(blobs.c.digest).limit(limit)
    return [Quarantined(Digest(digest), since, reason) for digest, since, reason in db.execute(query)]


def tags_named(db: Connection, repository: int, names: Collection[str]) -> dict[str, Digest]:
    """Returns the digest of each of a few tags that there are."""
    query = select(tags.c.name, manifests.c.digest).join(manifests, manifests.c.id == tags.c.manifest_id)
    query = query.where(tags.c.repository_id == repository, tags.c.name.in_(sorted(names)))
    return {name: Digest(digest) for name, digest in db.execute(query)}


def unnamed_manifests_after(db: Connection, repository: int, after: str, limit: int) -> list[Digest]:
    """Returns up to ``limit`` digests behind ``after``, in order, that no tag and no index of the repository names."""
    parents = manifests.alias("parents")
    named = exists().where(tags.c.manifest_id == manifests.c.id)
    child = exists().where(
        manifest_children.c.digest == manifests.c.digest,
        parents.c.id == manifest_children.c.manifest_id,
        parents.c.repository_id == repository,
    )
    query = select(manifests.c.digest).where(
        manifests.c.repository_id == repository, manifests.c.digest > after, ~named, ~child
    )
    query = query.order_by(manifests.c.digest).limit(limit)
    return [Digest(digest) for digest in db.execute(query).scalars()]
