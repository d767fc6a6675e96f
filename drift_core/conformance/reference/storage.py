"""A `BlobStore` in memory."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct, field

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    UploadBusy,
    UploadId,
    UploadUnknown,
)

CHUNK = 64 * 1024


class Upload(Struct, eq=False):
    """Bytes that are not yet a blob; who holds ``writing`` may change them."""

    content: bytearray = field(default_factory=bytearray)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Blob(Struct, frozen=True):
    """Bytes, and when they were committed."""

    content: bytes
    modified: float


class MemoryPlace(Struct):
    """Where stores of one event loop keep what they share, as workers share a disk."""

    uploads: dict[UploadId, Upload] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)


class MemoryStore:
    """Keeps everything in a `MemoryPlace`; an append that finds another one waits ``patience`` seconds for its end."""

    patience = 0.2

    def __init__(self, place: MemoryPlace) -> None:
        self.place = place

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        blob = self.blob(digest)
        return BlobStat(digest, len(blob.content), blob.modified)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        content = self.blob(digest).content[start:stop]
        for begin in range(0, len(content), CHUNK):
            yield content[begin : begin + CHUNK]
            await asyncio.sleep(0)

    async def begin(self, algorithm: str = "sha256") -> UploadId:  # noqa: ARG002 - hashes at the end
        """See `BlobStore`."""
        name = UploadId(uuid.uuid4().hex)
        self.place.uploads[name] = Upload()
        return name

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore`."""
        return len(self.upload(upload).content)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore`."""
        async with self.writing(upload) as held:
            if offset not in {None, len(held.content)}:
                raise OffsetMismatch(len(held.content))
            async for chunk in chunks:
                self.upload(upload)
                held.content += chunk
            return len(held.content)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        async with self.writing(upload) as held:
            content = bytes(held.content)
            await self.verify(content, digest)
            self.place.blobs[digest] = Blob(content, time.time())
            del self.place.uploads[upload]
            return await self.stat(digest)

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore`."""
        self.place.uploads.pop(upload, None)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`."""
        self.place.blobs.pop(digest, None)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`."""
        for digest in sorted(self.place.blobs):
            if digest in self.place.blobs and (after is None or digest > after):
                yield await self.stat(digest)

    async def check(self) -> None:
        """See `BlobStore`."""

    def blob(self, digest: Digest) -> Blob:
        """Returns what is kept. Raises `BlobUnknown`."""
        blob = self.place.blobs.get(digest)
        if blob is None:
            raise BlobUnknown(digest=str(digest))
        return blob

    def upload(self, name: UploadId) -> Upload:
        """Returns what is kept. Raises `UploadUnknown`."""
        upload = self.place.uploads.get(name)
        if upload is None:
            raise UploadUnknown
        return upload

    @asynccontextmanager
    async def writing(self, name: UploadId) -> AsyncIterator[Upload]:
        """Holds the upload for one caller. Raises `UploadUnknown`, also where it went while waiting; `UploadBusy`."""
        upload = self.upload(name)
        try:
            async with asyncio.timeout(self.patience):
                await upload.writing.acquire()
        except TimeoutError:
            raise UploadBusy from None
        try:
            yield self.upload(name)
        finally:
            upload.writing.release()

    async def verify(self, content: bytes, digest: Digest) -> None:
        """Raises `DigestInvalid`."""
        hashed = ALGORITHMS[digest.algorithm].new()
        hashed.update(content)
        if hashed.hexdigest() != digest.encoded:
            raise DigestInvalid(digest=str(digest))


@asynccontextmanager
async def open_memory_store(
    place: MemoryPlace | None = None, kind: type[MemoryStore] = MemoryStore
) -> AsyncIterator[MemoryStore]:
    """Opens a store in ``place`` (None: one of its own); ``kind`` may be a mutant."""
    yield kind(place or MemoryPlace())
