"""Blobs as files in a folder: replace the bodies by what your backend does, and keep what the docstrings say."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import uuid4

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    Services,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadUnknown,
)

from ${module}.config import ${prefix}Config

P = ParamSpec("P")
T = TypeVar("T")

CHUNK = 1 << 20
"""Bytes that are read and hashed at a time: what a transfer needs of memory does not grow with the blob."""

BUSY_SECONDS = 2.0
"""How long somebody who finds an upload in use waits for it."""


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what blocking ``work`` does off the loop; it is never left half done, also when we are cancelled."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    try:
        return task.result()
    except OSError as error:
        raise Unavailable(reason=os.strerror(error.errno or 0)) from error


class ${prefix}Store:
    """Any number of tasks and processes may use one folder at once."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        for part in (self._blobs, self._uploads):
            part.mkdir(parents=True, exist_ok=True)

    async def stat(self, digest: Digest) -> BlobStat:
        """Returns size and time of a committed blob. Raises `BlobUnknown`."""
        return await in_thread(self._stat, digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes ``[start, stop)``; a blob that is deleted meanwhile is read whole from the open file."""
        fd = await in_thread(self._open, digest)
        try:
            offset, end = start, os.fstat(fd).st_size if stop is None else stop
            while offset < end:
                chunk = await in_thread(os.pread, fd, min(CHUNK, end - offset), offset)
                if not chunk:
                    raise Unavailable(reason="the blob is shorter than it was")
                offset += len(chunk)
                yield chunk
        finally:
            os.close(fd)

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """Begins an empty upload; which digest will be asked for is not needed here."""
        upload = UploadId(uuid4().hex)
        await in_thread((self._uploads / upload).touch, exist_ok=False)
        return upload

    async def received(self, upload: UploadId) -> int:
        """Returns how many bytes the upload holds. Raises `UploadUnknown`."""
        async with self._opened(upload, lock=False) as fd:
            return os.fstat(fd).st_size

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """Appends at ``offset``, or at the end; what arrived before a failure stays."""
        async with self._opened(upload) as fd:
            size = os.fstat(fd).st_size
            if offset not in (None, size):
                raise OffsetMismatch(size)
            async for chunk in chunks:
                await in_thread(_write, fd, chunk, size)
                size += len(chunk)
            return size

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """Checks the digest, makes the bytes durable, and only then gives them their name."""
        async with self._opened(upload) as fd:
            return await in_thread(self._commit, upload, fd, digest)

    async def abort(self, upload: UploadId) -> None:
        """Forgets an upload; one that is unknown is no error."""
        if _plain(upload):
            await in_thread((self._uploads / upload).unlink, missing_ok=True)

    async def delete(self, digest: Digest) -> None:
        """Removes a blob; one that is unknown is no error."""
        await in_thread((self._blobs / digest).unlink, missing_ok=True)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every blob in order of digest, beginning behind ``after``."""
        for name in sorted(await in_thread(os.listdir, self._blobs)):
            if after is None or name > after:
                try:
                    yield await self.stat(Digest(name))
                except BlobUnknown:
                    continue

    async def check(self) -> None:
        """Proves that bytes can be written now. Raises `Unavailable`."""
        await self.abort(await self.begin())

    def _stat(self, digest: Digest) -> BlobStat:
        try:
            found = (self._blobs / digest).stat()
        except FileNotFoundError:
            raise BlobUnknown(digest=digest) from None
        return BlobStat(digest, found.st_size, found.st_mtime)

    def _open(self, digest: Digest) -> int:
        try:
            return os.open(self._blobs / digest, os.O_RDONLY)
        except FileNotFoundError:
            raise BlobUnknown(digest=digest) from None

    def _commit(self, upload: UploadId, fd: int, digest: Digest) -> BlobStat:
        state, offset = ALGORITHMS[digest.algorithm].new(), 0
        while chunk := os.pread(fd, CHUNK, offset):
            state.update(chunk)
            offset += len(chunk)
        if state.hexdigest() != digest.encoded:
            raise DigestInvalid(digest=digest)
        os.fsync(fd)
        try:
            (self._uploads / upload).replace(self._blobs / digest)
        except FileNotFoundError:
            raise UploadUnknown from None
        folder = os.open(self._blobs, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return BlobStat(digest, offset, os.fstat(fd).st_mtime)

    @asynccontextmanager
    async def _opened(self, upload: UploadId, *, lock: bool = True) -> AsyncIterator[int]:
        """Opens an upload; with ``lock``, for nobody else. Raises `UploadUnknown`, `UploadBusy`."""
        path = self._uploads / upload
        if not _plain(upload):
            raise UploadUnknown
        try:
            fd = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise UploadUnknown from None
        try:
            if lock:
                await _lock(fd)
                # While we waited it may have been committed: to write to it now would change a blob.
                if not path.exists():
                    raise UploadUnknown
            yield fd
        finally:
            os.close(fd)


async def _lock(fd: int) -> None:
    try:
        async with asyncio.timeout(BUSY_SECONDS):
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                else:
                    return
    except TimeoutError:
        raise UploadBusy from None


def _write(fd: int, chunk: bytes, offset: int) -> None:
    rest = memoryview(chunk)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def _plain(upload: UploadId) -> bool:
    """Returns whether the id is one of ours: it comes from a URL, and must not lead out of the folder."""
    return len(upload) == 32 and upload.isalnum()


@asynccontextmanager
async def open_store(config: ${prefix}Config, services: Services) -> AsyncIterator[${prefix}Store]:
    """Opens the store for as long as the server runs."""
    store = await in_thread(${prefix}Store, Path(config.path))
    services.log.debug("the store is open", path=config.path)
    yield store
