"""The reference store: blobs and uploads in memory, shared by all that are opened on the same place."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from drift_core.api import (
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    UploadBusy,
    UploadId,
    UploadUnknown,
)

CHUNK = 1 << 16
"""Bytes that a read yields at a time."""


class Upload:
    """Bytes that are no blob yet; whoever appends or commits holds the lock."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.lock = asyncio.Lock()


class MemoryPlace:
    """What stays when a store is closed; ``busy_seconds`` is how long an append waits for another one."""

    def __init__(self, busy_seconds: float = 0.5) -> None:
        self.busy_seconds = busy_seconds
        self.blobs: dict[Digest, tuple[BlobStat, bytes]] = {}
        self.uploads: dict[UploadId, Upload] = {}


class MemoryStore:
    """A `BlobStore`; all stores of one place belong to one event loop."""

    def __init__(self, place: MemoryPlace) -> None:
        self.place = place

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        return self._blob(digest)[0]

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        content = self._blob(digest)[1]
        end = len(content) if stop is None else stop
        for offset in range(start, end, CHUNK):
            yield content[offset : min(offset + CHUNK, end)]
            await asyncio.sleep(0)

    async def begin(self, algorithm: str = "sha256") -> UploadId:  # noqa: ARG002 - only a hint
        """See `BlobStore`."""
        upload = UploadId(uuid4().hex)
        self.place.uploads[upload] = Upload()
        return upload

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore`."""
        return len(self._upload(upload).content)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore`."""
        async with self._locked(upload) as held:
            if offset not in (None, len(held.content)):
                raise OffsetMismatch(len(held.content))
            async for chunk in chunks:
                self._upload(upload)
                held.content += chunk
            return len(held.content)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        async with self._locked(upload) as held:
            content = bytes(held.content)
            if Digest.of(content, digest.algorithm) != digest:
                raise DigestInvalid(digest=digest)
            stat = BlobStat(digest, len(content), time.time())
            self.place.blobs[digest] = (stat, content)
            del self.place.uploads[upload]
            return stat

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore`."""
        self.place.uploads.pop(upload, None)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`."""
        self.place.blobs.pop(digest, None)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`."""
        for digest in sorted(self.place.blobs):
            if after is None or digest > after:
                found = self.place.blobs.get(digest)
                if found is not None:
                    yield found[0]

    async def check(self) -> None:
        """See `BlobStore`."""

    def _blob(self, digest: Digest) -> tuple[BlobStat, bytes]:
        try:
            return self.place.blobs[digest]
        except KeyError:
            raise BlobUnknown(digest=digest) from None

    def _upload(self, upload: UploadId) -> Upload:
        try:
            return self.place.uploads[upload]
        except KeyError:
            raise UploadUnknown(upload=upload[:64]) from None

    @asynccontextmanager
    async def _locked(self, upload: UploadId) -> AsyncIterator[Upload]:
        held = self._upload(upload)
        try:
            await asyncio.wait_for(held.lock.acquire(), self.place.busy_seconds)
        except TimeoutError:
            raise UploadBusy from None
        try:
            self._upload(upload)
            yield held
        finally:
            held.lock.release()


@asynccontextmanager
async def open_memory_store(place: MemoryPlace | None = None) -> AsyncIterator[MemoryStore]:
    """Opens a store on a place, or on a new one."""
    yield MemoryStore(place or MemoryPlace())
