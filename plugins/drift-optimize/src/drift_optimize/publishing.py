"""Pushes the forms of an image, and points tags at them as the configuration says."""

from collections.abc import Collection, Sequence

from msgspec import Struct

from drift_core.api import Descriptor, Digest, LocalRegistry, RegistryError
from drift_optimize.config import OptimizationConfig
from drift_optimize.forming import chunked
from drift_optimize.images import EMPTY, Formed, is_made, write_table

LONGEST_TAG = 128

TABLE_TAG = "-esgztoc"
"""The end of the tag of an image of tables of contents (stargz-snapshotter, "eStargz with external TOC")."""

INDEX_TAG = "-index"

STAYS = (403, 404, 412)
"""How a tag is refused that is immutable, gone, or moved meanwhile."""


class Original(Struct, frozen=True):
    """What was worked on: an image or an index, and the tag by which, None for none."""

    repository: str
    descriptor: Descriptor
    tag: str | None


async def publish(
    registry: LocalRegistry, config: OptimizationConfig, original: Original, formed: Sequence[Formed], index: Formed
) -> tuple[str, ...]:
    """Pushes ``formed``, and ``index`` with all of them where it is wanted; returns the digests and tags.

    Tags are set only while the tag of the original names it. What somebody pushes to that tag meanwhile stays there.
    Raises what a push would meet.
    """
    repository, digest, tag = original.repository, Digest.parse(original.descriptor.digest), original.tag
    if tag is not None and (await registry.tagged(repository, [tag])).get(tag) != digest:
        tag = None
    published: list[str] = []
    for one in formed:
        tags = _beside(tag, f"-{one.form}") if "tag" in config.publish else []
        await push(registry, repository, one, tags)
        published += [one.descriptor.digest, *tags]
        if one.tables:
            # Clients of eStargz look for it beside the tag that they pull.
            await registry.push_blob(repository, Digest.of(EMPTY), chunked(EMPTY))
            await push(registry, repository, write_table(one.tables), [f"{name}{TABLE_TAG}" for name in tags])
    if tag is None:
        return tuple(published)
    if "index" in config.publish:
        tags = _beside(tag, INDEX_TAG) if config.preserve_original else [tag]
        await push(registry, repository, index, tags, None if config.preserve_original else digest)
        return (*published, index.descriptor.digest, *tags)
    if not config.preserve_original:
        await push(registry, repository, formed[0], [tag], digest)
        published.append(tag)
    return tuple(published)


def _beside(tag: str | None, end: str) -> list[str]:
    """Returns a tag that begins like another one, or none where it would be too long for what may follow it."""
    return [] if tag is None or len(tag) + len(end) + len(TABLE_TAG) > LONGEST_TAG else [f"{tag}{end}"]


async def push(
    registry: LocalRegistry, repository: str, one: Formed, tags: Sequence[str], instead_of: Digest | None = None
) -> None:
    """Pushes a manifest; with ``instead_of`` only where the tags name that."""
    made = one.descriptor
    digest = Digest.parse(made.digest)
    await registry.push_manifest(repository, one.content, made.media_type, digest, tags, instead_of=instead_of)


async def withdraw(
    registry: LocalRegistry, repository: str, tag: str, forms: Sequence[str], kept: Collection[str] = ()
) -> None:
    """Removes the tags of forms beside a tag, but for those in ``kept``: what they name is a form of what it named.

    A tag that may not be deleted stays, as does one that names what was not made here.
    """
    ends = [*(f"-{form}" for form in forms), *(f"-{form}{TABLE_TAG}" for form in forms), INDEX_TAG]
    named = await registry.tagged(repository, [f"{tag}{end}" for end in ends])
    for name, digest in named.items():
        if name in kept or name.removesuffix(TABLE_TAG) in kept:
            continue
        try:
            _, content = await registry.manifest(repository, digest)
            if is_made(content):
                await registry.delete_tag(repository, name, digest)
        except RegistryError as error:
            if error.status not in STAYS:
                raise
