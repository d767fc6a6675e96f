"""The store: what `BlobStore` promises, in terms of blocking calls that run in threads."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar
from uuid import uuid4

from structlog.typing import FilteringBoundLogger

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobStore,
    Digest,
    Services,
    StartError,
    SupportsLocalPath,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadUnknown,
)
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.hashing import Hashes
from drift_storage_fs.jobs import SETTLE_SECONDS, Jobs
from drift_storage_fs.layout import UPLOAD, Layout, sync_folder
from drift_storage_fs.measures import Space
from drift_storage_fs.reading import BlobReader, list_blobs, list_prefixes, stat_blob
from drift_storage_fs.uploading import BATCH, Committer, UploadFile, create_upload, remove_upload

T = TypeVar("T")

READER_THREADS = 4
"""Threads for what must not queue behind fsyncs and long hashes: reads, and questions about a file."""

BUSY_SECONDS = 5.0
"""How long to wait for an upload that another task or process holds, such as a broken connection that still ends."""

BUSY_DELAYS = (0.005, 0.1)
"""First and longest pause between two tries, in seconds."""


class FilesystemStore:
    """Blobs and uploads as plain files below one folder, shared by any number of workers."""

    def __init__(self, layout: Layout, config: FilesystemConfig, log: FilteringBoundLogger) -> None:
        self._layout = layout
        self._fsync = config.fsync
        self._log = log
        self._hashes = Hashes(layout)
        self._committer = Committer(layout, self._hashes, fsync=config.fsync)
        self._writers = Jobs("write", config.writer_threads, log)
        self._readers = Jobs("read", READER_THREADS, log)

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore.stat`."""
        return await self._readers.run(stat_blob, self._layout, digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore.read`; a ``stop`` behind the end raises `Unavailable` before the first chunk."""
        reader = BlobReader(self._layout, digest, start, stop)
        job: Future[bytes] | None = None
        try:
            while not reader.done:
                job = self._readers.submit(reader.next)
                block = await self._readers.result(job)
                if block:
                    yield block
        finally:
            if job is not None and not (job.done() and reader.closed):
                self._readers.submit_last(reader.close_after, job)

    def local_path(self, digest: Digest) -> str:
        """See `SupportsLocalPath.local_path`."""
        return self._layout.blob_path(digest)

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """See `BlobStore.begin`; an unknown algorithm is ignored, as the hint that it is."""
        upload = UploadId(uuid4().hex)
        job = self._readers.submit(create_upload, self._layout, self._hashes, upload, algorithm)
        try:
            await self._readers.result(job)
        except asyncio.CancelledError:  # nobody will ever know its name
            job.add_done_callback(
                lambda _: self._readers.submit_last(remove_upload, self._layout, self._hashes, upload)
            )
            raise
        return upload

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore.received`."""
        return await self._readers.run(self._received, upload)

    def _received(self, upload: UploadId) -> int:
        try:
            return self._layout.upload(upload).stat().st_size
        except FileNotFoundError:
            self._layout.require(self._layout.uploads)
            raise UploadUnknown from None

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore.append`; holds at most one batch in flight and one that is being received."""
        lock = partial(UploadFile.lock_at, self._layout, self._hashes, upload, offset)
        file = await self._while_busy(lock, late=UploadFile.close)
        job: Future[None] | None = None
        batch: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                batch.append(chunk)
                size += len(chunk)
                if size >= BATCH:
                    if job is not None:
                        await self._writers.result(job)
                    job = self._writers.submit(file.write, batch)
                    batch, size = [], 0
        except BaseException:
            await self._finish_broken(file, job, batch)
            raise
        return await self._writers.settle(self._writers.submit_last(file.finish, job, batch))

    async def _finish_broken(self, file: UploadFile, job: Future[None] | None, batch: list[bytes]) -> None:
        """Keeps what arrived; its own failure must not hide the one that led here."""
        try:
            await self._writers.settle(self._writers.submit_last(file.finish, job, batch), SETTLE_SECONDS)
        except (Unavailable, UploadUnknown, TimeoutError) as error:
            self._log.warning("upload cut short", upload=file.upload, error=str(error))

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore.commit`; raises `UploadBusy` where the upload is still being appended to."""
        return await self._while_busy(partial(self._committer.commit, upload, digest))

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore.abort`; an append that is under way ends with `UploadUnknown`."""
        if UPLOAD.fullmatch(upload) is not None:
            await self._readers.run(remove_upload, self._layout, self._hashes, upload)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore.delete`."""
        await self._writers.run(self._delete, digest)

    def _delete(self, digest: Digest) -> None:
        path = self._layout.blob(digest)
        try:
            path.unlink()
        except FileNotFoundError:
            self._layout.require(self._layout.blobs / digest.algorithm)
            return
        if self._fsync:
            sync_folder(path.parent)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore.scan`; holds one prefix folder at a time, a 256th of the blobs."""
        for algorithm in sorted(ALGORITHMS):
            for folder in await self._readers.run(list_prefixes, self._layout, algorithm, after):
                for blob in await self._readers.run(list_blobs, folder, after):
                    yield blob

    async def check(self) -> None:
        """See `BlobStore.check`."""
        await self._writers.run(self._layout.probe)

    async def aclose(self) -> None:
        """Waits for running calls and ends the threads."""
        loop = asyncio.get_running_loop()
        for jobs in (self._writers, self._readers):
            await loop.run_in_executor(None, jobs.shut_down)

    async def _while_busy(self, call: Callable[[], T | None], late: Callable[[T], None] | None = None) -> T:
        """Runs a call until it returns something; ``late`` gets what came after a cancellation."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BUSY_SECONDS
        pause, longest = BUSY_DELAYS
        while True:
            job = self._writers.submit(call)
            try:
                result = await self._writers.result(job)
            except asyncio.CancelledError:
                if late is not None:
                    self._writers.submit_last(_give, job, late)
                raise
            if result is not None:
                return result
            if loop.time() >= deadline:
                raise UploadBusy
            await asyncio.sleep(pause)
            pause = min(longest, pause * 2)


def _give(job: Future[T | None], receiver: Callable[[T], None]) -> None:
    result = job.result()
    if result is not None:
        receiver(result)


@asynccontextmanager
async def open_store(config: FilesystemConfig, services: Services) -> AsyncIterator[FilesystemStore]:
    """Opens the store below ``config.path``, which is made if it is missing.

    Raises:
        StartError: the folder cannot be made or written to.
    """
    layout = Layout(config.path)
    store = FilesystemStore(layout, config, services.log)
    space = Space(layout.root)
    try:
        await _prepare(layout, fsync=config.fsync)
        services.metrics.register(space)
        try:
            yield store
        finally:
            services.metrics.unregister(space)
    finally:
        await store.aclose()


async def _prepare(layout: Layout, *, fsync: bool) -> None:
    def prepare() -> None:
        layout.prepare(fsync=fsync)
        layout.probe()

    try:
        await asyncio.to_thread(prepare)
    except (OSError, Unavailable) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else error.message
        place = getattr(error, "filename", None) or layout.root
        message = f"storage.path {layout.root}: cannot be used: {reason} ({place})"
        raise StartError(message) from error


_: tuple[type[BlobStore], type[SupportsLocalPath]] = (FilesystemStore, FilesystemStore)
