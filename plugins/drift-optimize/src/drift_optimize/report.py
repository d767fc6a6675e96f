"""Says what is stored twice: layers of different digests that unpack to the same, as their images say."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from drift_core.api import Descriptor, Digest, LocalRegistry, RegistryError
from drift_optimize.images import INDEXES, MANIFESTS, Image, NoImage
from drift_optimize.optimizing import read_whole

EVERYWHERE = "all repositories"


class Duplicates(Struct):
    """How many different layers there are, and how many of them unpack to what another one does; sizes in bytes."""

    name: str
    layers: int = 0
    bytes: int = 0
    duplicate_layers: int = 0
    duplicate_bytes: int = 0


class Report(Struct, frozen=True):
    """Each repository, those with the most duplicate bytes first, and all together."""

    repositories: list[Duplicates]
    all: Duplicates


class _Count:
    """Counts layers: the largest of those that unpack to the same counts as the one that is needed."""

    def __init__(self, name: str) -> None:
        self._sizes: dict[Digest, dict[str, int]] = {}
        self._name = name

    def add(self, image: Image) -> None:
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
            self._sizes.setdefault(diff_id, {})[layer.digest] = layer.size

    def end(self) -> Duplicates:
        found = Duplicates(self._name)
        for sizes in self._sizes.values():
            found.layers += len(sizes)
            found.bytes += sum(sizes.values())
            found.duplicate_layers += len(sizes) - 1
            found.duplicate_bytes += sum(sizes.values()) - max(sizes.values())
        return found


async def report_of(registry: LocalRegistry) -> Report:
    """Reads every manifest that a tag names, and those of its index; memory grows with the number of layers."""
    everywhere = _Count(EVERYWHERE)
    found: list[Duplicates] = []
    async for repository in registry.repositories():
        own = _Count(repository)
        seen: set[Digest] = set()
        async for tag in registry.tags(repository):
            async for image in images_of(registry, repository, tag.digest, seen):
                own.add(image)
                everywhere.add(image)
        found.append(own.end())
    found.sort(key=lambda one: (-one.duplicate_bytes, one.name))
    return Report(found, everywhere.end())


async def images_of(
    registry: LocalRegistry, repository: str, digest: Digest, seen: set[Digest] | None = None
) -> AsyncIterator[Image]:
    """Yields an image, or those of an index, without what was ``seen``, what is no image and what cannot be read."""
    seen = set() if seen is None else seen
    waiting = [digest]
    while waiting:
        digest = waiting.pop()
        if digest in seen:
            continue
        seen.add(digest)
        try:
            media_type, content = await registry.manifest(repository, digest)
            if media_type in INDEXES:
                waiting += _children(content)
            elif media_type in MANIFESTS:
                yield await read_whole(registry, repository, Descriptor(media_type, digest, len(content)), content)
        except (NoImage, RegistryError):
            continue


def _children(content: bytes) -> Iterator[Digest]:
    document: dict[str, Any] = msgspec.json.decode(content)
    for entry in document.get("manifests") or ():
        yield Digest.parse(entry["digest"])
