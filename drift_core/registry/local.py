"""The registry for commands and for work beside requests: no HTTP between them, and beside servers that run."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from msgspec import structs
from sqlalchemy import Connection

from drift_core.errors import ManifestTooLarge, UploadTooLarge
from drift_core.metadata import inventory, queries
from drift_core.metadata.database import Database
from drift_core.model import BlobStat, Descriptor, Digest, Identity
from drift_core.protocols.registry import Quarantined, References, Tag
from drift_core.registry.document import read_manifest
from drift_core.registry.manifests import LARGE_MANIFEST, UNCONDITIONAL, Condition
from drift_core.registry.registry import Registry
from drift_core.registry.rules import check_name, check_tag

T = TypeVar("T")

PAGE = 500
"""Names of one query."""


Verify = Callable[[str, str], Awaitable[bool]]
"""What judges signatures, which stands above this layer; see `LocalRegistry.is_verified`."""


class Local:
    """See `LocalRegistry`. Everything is done as ``identity``."""

    def __init__(
        self, registry: Registry, database: Database, identity: Identity | None, verify: Verify | None = None
    ) -> None:
        self._registry = registry
        self._database = database
        self._identity = identity
        self._verify = verify
        self.max_manifest_size = registry.rules.max_manifest_size

    def on_behalf(self, identity: Identity | None) -> "Local":
        """See `LocalRegistry`."""
        return Local(self._registry, self._database, identity, self._verify)

    async def examine(self, content: bytes, media_type: str | None, digest: Digest) -> References:
        """See `LocalRegistry`."""
        if len(content) > self.max_manifest_size:
            raise ManifestTooLarge(max_bytes=self.max_manifest_size)
        read = partial(read_manifest, content, media_type, digest)
        manifest = read() if len(content) < LARGE_MANIFEST else await asyncio.to_thread(read)
        record, sizes = manifest.record, manifest.sizes
        return References(
            record.media_type,
            {Digest(blob): sizes[blob] for blob in sorted(record.blobs)},
            {Digest(child): sizes[child] for child in sorted(record.children)},
            record.subject,
        )

    async def held_blobs(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """See `LocalRegistry`."""
        return await self._in(repository, lambda db, row: set(queries.held_blobs(db, row, digests))) or set()

    async def held_manifests(self, repository: str, digests: Collection[Digest]) -> set[str]:
        """See `LocalRegistry`."""
        return await self._in(repository, lambda db, row: set(queries.held_manifests(db, row, digests))) or set()

    async def tagged(self, repository: str, tags: Collection[str]) -> dict[str, Digest]:
        """See `LocalRegistry`."""
        return await self._in(repository, lambda db, row: inventory.tags_named(db, row, tags)) or {}

    async def mount_blob(self, repository: str, digest: Digest) -> bool:
        """See `LocalRegistry`."""
        for source in await self._registry.blobs.holders(digest):
            if await self._registry.blobs.mount(check_name(repository), digest, source, self._identity):
                return True
        return False

    async def is_known(self, digest: Digest) -> bool:
        """See `LocalRegistry`."""
        return bool(await self._registry.blobs.holders(digest))

    async def push_blob(self, repository: str, digest: Digest, chunks: AsyncIterable[bytes]) -> None:
        """See `LocalRegistry`."""
        uploads = self._registry.uploads
        upload = await uploads.begin(check_name(repository), digest.algorithm)
        try:
            await uploads.append(repository, upload, 0, chunks, None)
            await uploads.commit(repository, upload, digest, self._identity)
        except UploadTooLarge:  # is gone already
            raise
        except Exception:
            await uploads.cancel(repository, upload)
            raise

    async def push_manifest(
        self,
        repository: str,
        content: bytes,
        media_type: str | None,
        digest: Digest,
        tags: Sequence[str],
        *,
        instead_of: Digest | None = None,
    ) -> None:
        """See `LocalRegistry`."""
        if len(content) > self.max_manifest_size:
            raise ManifestTooLarge(max_bytes=self.max_manifest_size)
        for tag in tags:
            check_tag(tag)
        condition = UNCONDITIONAL if instead_of is None else Condition(if_match=frozenset({instead_of}))
        name = check_name(repository)
        await self._registry.manifests.put(name, content, media_type, digest, tags, self._identity, condition)

    async def repositories(self) -> AsyncIterator[str]:
        """See `LocalRegistry`."""
        after, more = "", True
        while more:
            page = await self._registry.listing.repositories(after, PAGE)
            for name in page.entries:
                yield name
                after = name
            more = page.more

    async def tags(self, repository: str) -> AsyncIterator[Tag]:
        """See `LocalRegistry`."""
        after = ""
        while page := await self._in(repository, partial(_tags, after=after)):
            for tag in page:
                yield structs.replace(tag, undeletable=self._registry.rules.not_to_delete(tag.name))
            after = page[-1].name

    async def unnamed_manifests(self, repository: str) -> AsyncIterator[Digest]:
        """See `LocalRegistry`."""
        after = ""
        while page := await self._in(repository, partial(_unnamed, after=after)):
            for digest in page:
                yield digest
            after = page[-1]

    async def referrers(self, repository: str, subject: Digest) -> AsyncIterator[Descriptor]:
        """See `LocalRegistry`."""
        after, more = "", True
        while more:
            page = await self._registry.listing.referrers(repository, subject, None, after, PAGE)
            for descriptor in page.entries:
                yield descriptor
                after = descriptor.digest
            more = page.more

    async def manifest(self, repository: str, reference: Digest | str) -> tuple[str, bytes]:
        """See `LocalRegistry`."""
        stored = await self._registry.manifests.get(repository, reference, self._identity)
        return stored.media_type, stored.content

    async def is_verified(self, repository: str, reference: str) -> bool:
        """See `LocalRegistry`."""
        return self._verify is not None and await self._verify(repository, reference)

    async def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """See `LocalRegistry`."""
        size = await self._registry.blobs.size(repository, digest)
        await self._registry.blobs.admit_pull(repository, digest, size, self._identity)
        async for chunk in await self._registry.blobs.read(digest, 0, size):
            yield chunk

    async def delete_tag(self, repository: str, tag: str, digest: Digest) -> None:
        """See `LocalRegistry`."""
        still = Condition(if_match=frozenset({digest}))
        await self._registry.manifests.delete_tag(repository, tag, self._identity, still)

    async def stored_blobs(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `LocalRegistry`."""
        behind = after or ""
        while page := await self._database.read(partial(inventory.sound_blobs_after, after=behind, limit=PAGE)):
            for stat in page:
                yield stat
            behind = page[-1].digest

    def stored_bytes(self, digest: Digest) -> AsyncIterator[bytes]:
        """See `LocalRegistry`."""
        return self._registry.blobs.stored(digest)

    async def quarantine(self, digest: Digest, reason: str) -> None:
        """See `LocalRegistry`."""
        await self._database.write(partial(inventory.quarantine, digest=digest, reason=reason))

    async def quarantined(self) -> AsyncIterator[Quarantined]:
        """See `LocalRegistry`."""
        after = ""
        while page := await self._database.read(partial(inventory.quarantined_after, after=after, limit=PAGE)):
            for one in page:
                yield one
            after = page[-1].digest

    async def _in(self, repository: str, query: Callable[[Connection, int], T]) -> T | None:
        """Returns ``query(connection, row)`` of a repository, or None where there is none."""

        def run(db: Connection) -> T | None:
            row = queries.repository_id(db, repository)
            return None if row is None else query(db, row)

        return await self._database.read(run)


def _tags(db: Connection, row: int, after: str) -> list[Tag]:
    return inventory.tags_after(db, row, after, PAGE)


def _unnamed(db: Connection, row: int, after: str) -> list[Digest]:
    return inventory.unnamed_manifests_after(db, row, after, PAGE)
