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
    """What was worked on: an image or an index, and the tags by which."""

    repository: str
    descriptor: Descriptor
    tags: tuple[str, ...]


async def publish(
    registry: LocalRegistry, config: OptimizationConfig, original: Original, formed: Sequence[Formed], index: Formed
) -> tuple[str, ...]:
    """Pushes ``formed``, and ``index`` with all of them where it is wanted; returns the digests and tags.

    Tags are set only beside tags that name the original, and where there is none that somebody else has set. What
    somebody pushes to a tag meanwhile stays there. Raises what a push would meet.
    """
    repository, digest = original.repository, Digest.parse(original.descriptor.digest)
    named = [tag for tag, names in (await registry.tagged(repository, original.tags)).items() if names == digest]
    published: list[str] = []
    for one in formed:
        tags = await _free(registry, repository, named, f"-{one.form}") if "tag" in config.publish else []
        await push(registry, repository, one, tags)
        published += [one.descriptor.digest, *tags]
        if one.tables:
            # Clients of eStargz look for it beside the tag that they pull.
            await registry.push_blob(repository, Digest.of(EMPTY), chunked(EMPTY))
            beside = await _free(registry, repository, tags, TABLE_TAG)
            await push(registry, repository, write_table(one.tables), beside)
    if "index" in config.publish and named:
        ours = await _free(registry, repository, named, INDEX_TAG) if config.preserve_original else named
        await push(registry, repository, index, ours, None if config.preserve_original else digest)
        return (*published, index.descriptor.digest, *ours)
    if not config.preserve_original and named:
        await push(registry, repository, formed[0], named, digest)
        published += named
    return tuple(published)


async def _free(registry: LocalRegistry, repository: str, tags: Sequence[str], end: str) -> list[str]:
    """Returns ``tags`` with another end, without what would be too long, or names what was not made here."""
    wanted = [f"{tag}{end}" for tag in tags if len(tag) + len(end) <= LONGEST_TAG]
    taken = await registry.tagged(repository, wanted)
    others = {tag for tag, digest in taken.items() if not is_made((await registry.manifest(repository, digest))[1])}
    return [tag for tag in wanted if tag not in others]


async def push(
    registry: LocalRegistry, repository: str, one: Formed, tags: Sequence[str], instead_of: Digest | None = None
) -> None:
    """Pushes a manifest; with ``instead_of`` only where the tags name that."""
    made = one.descriptor
    digest = Digest.parse(made.digest)
    await registry.push_manifest(repository, one.content, made.media_type, digest, tags, instead_of=instead_of)


async def withdraw(
    registry: LocalRegistry,
    repository: str,
    tag: str,
    forms: Sequence[str],
    kept: Collection[str] = (),
    only: Collection[str] | None = None,
) -> None:
    """Removes the tags of forms beside a tag, but for those in ``kept``: what they name is a form of what it named.

    With ``only`` just those that name one of these digests. A tag that may not be deleted stays, as does one that names
    what was not made here.
    """
    ends = [*(f"-{form}" for form in forms), *(f"-{form}{TABLE_TAG}" for form in forms), INDEX_TAG]
    named = await registry.tagged(repository, [f"{tag}{end}" for end in ends])
    for name, digest in named.items():
        if name in kept or name.removesuffix(TABLE_TAG) in kept or (only is not None and digest not in only):
            continue
        try:
            _, content = await registry.manifest(repository, digest)
            if is_made(content):
                await registry.delete_tag(repository, name, digest)
        except RegistryError as error:
            if error.status not in STAYS:
                raise
