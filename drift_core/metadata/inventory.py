"""Pages of what a repository holds, for commands that move whole repositories in or out."""

from collections.abc import Collection

from sqlalchemy import Connection, exists, select

from drift_core.metadata.tables import manifest_children, manifests, tags
from drift_core.model import Digest


def tags_after(db: Connection, repository: int, after: str, limit: int) -> list[tuple[str, Digest]]:
    """Returns up to ``limit`` tags behind ``after``, in order, each with the digest that it names."""
    query = select(tags.c.name, manifests.c.digest).join(manifests, manifests.c.id == tags.c.manifest_id)
    query = query.where(tags.c.repository_id == repository, tags.c.name > after).order_by(tags.c.name).limit(limit)
    return [(name, Digest(digest)) for name, digest in db.execute(query)]


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
