"""A `BlobStore` in memory."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from msgspec import Struct, field

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    StorageFull,
    Unavailable,
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


class RemoteStore(MemoryStore):
    """A store in memory whose every call goes by HTTP to an endpoint first, as that of an object store does."""

    seconds: float | None = 5.0
    """How long the endpoint may take to answer."""

    def __init__(self, place: MemoryPlace, port: int) -> None:
        super().__init__(place)
        self.port = port

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        await self._ask()
        return await super().stat(digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        await self._ask()
        async for chunk in super().read(digest, start, stop):
            await self._ask(wanted=len(chunk))
            yield chunk

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """See `BlobStore`."""
        await self._ask()
        return await super().begin(algorithm)

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore`."""
        await self._ask()
        return await super().received(upload)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore`."""

        async def sent() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                await self._ask(chunk)
                yield chunk

        return await super().append(upload, offset, sent())

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        await self._ask()
        return await super().commit(upload, digest)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`."""
        await self._ask()
        await super().delete(digest)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`."""
        await self._ask()
        async for stat in super().scan(after):
            yield stat

    async def check(self) -> None:
        """See `BlobStore`."""
        await self._ask()

    async def _ask(self, body: bytes = b"", wanted: int = 0) -> None:
        """Sends ``body`` and gets ``wanted`` bytes back. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(self.seconds):
                status = await self._exchange(body, wanted)
        except (OSError, EOFError) as error:  # a time-out is an OSError
            raise Unavailable from error
        if status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise StorageFull
        if status != HTTPStatus.OK:
            raise Unavailable

    async def _exchange(self, body: bytes, wanted: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"POST /{wanted} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(maxsplit=2)[1])
            if status == HTTPStatus.OK:
                await reader.readexactly(wanted)
            return status
        finally:
            writer.transport.abort()


@asynccontextmanager
async def open_endpoint() -> AsyncIterator[int]:
    """Yields the port of an endpoint for `RemoteStore`: it takes any body, and gives the bytes that the path says."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client may break the connection at any time.
        with suppress(OSError, EOFError):
            head = (await reader.readuntil(b"\r\n\r\n")).split()
            await reader.readexactly(int(head[4]))
            wanted = int(head[1][1:])
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n".encode() + bytes(wanted))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
