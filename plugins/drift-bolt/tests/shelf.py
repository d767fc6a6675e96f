"""A registry in memory, with what the plugin uses of it; two tasks may interleave wherever it awaits."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Sequence

from drift_core.api import BlobUnknown, Digest, ManifestUnknown, Tag


class Shelf:
    """See `LocalRegistry`; ``before_tag`` is called before a tag is set."""

    max_manifest_size = 4 << 20

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.named: dict[str, dict[str, Digest]] = {}
        self.before_tag: Callable[[str, str, Digest], None] = lambda *_: None

    async def push_blob(self, repository: str, digest: Digest, chunks: AsyncIterable[bytes]) -> None:
        self.blobs[repository, digest] = b"".join([chunk async for chunk in chunks])
        await asyncio.sleep(0)

    async def push_manifest(
        self,
        repository: str,
        content: bytes,
        media_type: str,
        digest: Digest,
        tags: Sequence[str],
        *,
        instead_of: Digest | None = None,
    ) -> None:
        assert instead_of is None
        assert Digest.of(content) == digest
        await asyncio.sleep(0)
        self.manifests[repository, digest] = (media_type, content)
        for tag in tags:
            self.before_tag(repository, tag, digest)
            self.named.setdefault(repository, {})[tag] = digest

    async def tagged(self, repository: str, tags: Collection[str]) -> dict[str, Digest]:
        await asyncio.sleep(0)
        known = self.named.get(repository, {})
        return {tag: known[tag] for tag in tags if tag in known}

    async def manifest(self, repository: str, digest: Digest) -> tuple[str, bytes]:
        await asyncio.sleep(0)
        if (repository, digest) not in self.manifests:
            raise ManifestUnknown
        return self.manifests[repository, digest]

    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        if (repository, digest) not in self.blobs:
            raise BlobUnknown
        yield self.blobs[repository, digest]

    async def tags(self, repository: str) -> AsyncIterator[Tag]:
        for name, digest in sorted(self.named.get(repository, {}).items()):
            yield Tag(name, digest, 0.0, 0.0)

    async def delete_tag(self, repository: str, tag: str, digest: Digest) -> None:
        assert self.named[repository].pop(tag) == digest
