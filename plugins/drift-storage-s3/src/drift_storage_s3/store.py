"""The store: what `BlobStore` promises, on a bucket for the bytes and tables for what they are."""

import asyncio
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import wait
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from uuid import uuid4

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    RegistryError,
    Services,
    SupportsRedirect,
    Unavailable,
    UploadId,
    UploadUnknown,
)
from drift_storage_s3 import placement, uploads
from drift_storage_s3.appending import Append
from drift_storage_s3.bucket import Bucket, Missing
from drift_storage_s3.buffers import Buffers
from drift_storage_s3.committing import Committer
from drift_storage_s3.config import MIB, S3Config, StoreConfig
from drift_storage_s3.hashing import DEFAULT_ALGORITHM, Hashes
from drift_storage_s3.holding import Holds
from drift_storage_s3.measures import Measures
from drift_storage_s3.placement import Placed
from drift_storage_s3.service import ObjectService
from drift_storage_s3.sweeping import Sweeper
from drift_storage_s3.tasks import Tasks
from drift_storage_s3.threads import Threads
from drift_storage_s3.uploads import SKIPPED_NUMBERS

UPLOAD = re.compile(r"[0-9a-f]{32}")

PAGE = 500
"""Blobs of a scan that are looked for at once."""

CHECK_SECONDS = 1.0
"""How long a check is as good as a new one."""

KNOWN_BLOBS = 10_000
"""Blobs of which a process remembers where they lie, about 0.5 KiB each."""


class ObjectStore:
    """Blobs and uploads in one bucket, shared by any number of workers and nodes."""

    def __init__(self, service: ObjectService, config: StoreConfig) -> None:
        self._service = service
        self._part_size = config.part_size
        self._connections = config.connections
        self._committer = Committer(service)
        self._places = Places(service)
        self._checking: asyncio.Task[None] | None = None
        self._checked_until = 0.0

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore.stat`."""
        placed = await self._places.find(digest)
        if not await self._is_there(placed):
            placed = await self._places.find(digest, anew=True)
            if not await self._is_there(placed):
                raise BlobUnknown(digest=digest)
        return BlobStat(digest, placed.size, placed.modified)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore.read`; a ``stop`` behind the end raises `Unavailable` before the first chunk."""
        if start < 0 or (stop is not None and stop < start):
            message = f"no range: {start} to {stop}"
            raise ValueError(message)
        for anew in (False, True):
            placed = await self._places.find(digest, anew=anew)
            end = placed.size if stop is None else stop
            if max(start, end) > placed.size:
                message = "the range ends behind the blob"
                raise Unavailable(message, digest=digest, size=placed.size)
            if start == end:
                return
            try:
                async with aclosing(self._service.read(placed.key, start, end)) as blocks:
                    async for block in blocks:
                        yield block
            except Missing:
                # It was pushed again, or deleted.
                continue
            return
        raise BlobUnknown(digest=digest)

    async def begin(self, algorithm: str = DEFAULT_ALGORITHM) -> UploadId:
        """See `BlobStore.begin`; an unknown algorithm is ignored, as the hint that it is."""
        upload = UploadId(uuid4().hex)
        hint = algorithm if algorithm in ALGORITHMS else DEFAULT_ALGORITHM
        await self._service.records.write(
            lambda db: uploads.begin(db, self._service.store, upload, hint, self._part_size), concurrent=True
        )
        return upload

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore.received`; counts what outlives this process."""
        _check_form(upload)
        found = await self._service.records.read(lambda db: uploads.find(db, self._service.store, upload))
        if found is None:
            raise UploadUnknown
        return found.size

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore.append`; waits with what it reads where there is no memory for it."""
        _check_form(upload)
        hold = await self._service.holds.take(upload, offset)
        append = Append(self._service, hold)
        async with hold.kept():
            try:
                await append.begin()
                async for chunk in chunks:
                    await append.take(chunk)
            except BaseException:
                await self._finish_broken(upload, append)
                raise
            return await self._service.tasks.settle(append.finish())

    async def _finish_broken(self, upload: UploadId, append: Append) -> None:
        """Keeps what arrived; its own failure must not hide the one that led here."""
        try:
            await self._service.tasks.settle(append.finish())
        except RegistryError as error:
            self._service.log.warning("upload cut short", upload=upload, error=str(error))

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore.commit`."""
        _check_form(upload)
        made = await self._committer.commit(upload, digest)
        self._places.forget(digest)
        return made

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore.abort`; what the upload has in the bucket goes a little later."""
        if UPLOAD.fullmatch(upload) is None:
            return
        await self._service.records.write(lambda db: uploads.forget(db, self._service.store, upload), concurrent=True)
        self._service.hashes.drop(upload)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore.delete`; the object goes before the record, so that nothing is left that nobody knows."""
        try:
            placed = await self._places.find(digest, anew=True)
        except BlobUnknown:
            return
        await self._service.threads.ask("delete", self._service.bucket.delete, [placed.key])
        await self._service.records.write(lambda db: placement.remove(db, self._service.store, placed), concurrent=True)
        self._places.forget(digest)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore.scan`; leaves out blobs whose objects are lost, for which it asks about each."""
        asking = asyncio.Semaphore(self._connections // 2)

        async def is_there(placed: Placed) -> bool:
            async with asking:
                return await self._is_there(placed)

        while placed := await self._page(after):
            there = await asyncio.gather(*(is_there(one) for one in placed))
            for one, found in zip(placed, there, strict=True):
                if found:
                    yield BlobStat(one.digest, one.size, one.modified)
            after = placed[-1].digest

    async def check(self) -> None:
        """See `BlobStore.check`; those who ask at once, or within a second after it went well, share one."""
        if time.monotonic() < self._checked_until:
            return
        if self._checking is None or self._checking.done():
            self._checking = self._service.tasks.start(self._check())
        await asyncio.shield(self._checking)

    async def _check(self) -> None:
        bucket, content = self._service.bucket, uuid4().hex.encode()
        key = f"probe/{content.decode()}"

        def probe() -> bytes:
            bucket.put(key, content)
            try:
                return b"".join(bucket.get(key, 0, len(content)))
            except Missing:
                return b""
            finally:
                bucket.delete([key])

        # Not behind what requests wait for: a server that has much to do works.
        found = await self._service.threads.probe(probe)
        if found != content:
            message = "the object service does not give back what it was given"
            raise Unavailable(message)
        self._checked_until = time.monotonic() + CHECK_SECONDS

    async def _page(self, after: Digest | None) -> Sequence[Placed]:
        return await self._service.records.read(lambda db: placement.page(db, self._service.store, after, PAGE))

    async def _is_there(self, placed: Placed) -> bool:
        try:
            return await self._service.threads.ask("size", self._service.bucket.size, placed.key) == placed.size
        except Missing:
            return False


class RedirectingStore(ObjectStore):
    """A store whose clients may fetch from the bucket themselves."""

    def __init__(self, service: ObjectService, config: S3Config) -> None:
        super().__init__(service, config)
        self._networks = [ipaddress.ip_network(network) for network in config.redirect_networks or ()]
        # A URL is handed out again for half of its life.
        self._good_seconds = config.redirect_seconds / 2
        self._urls: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """See `SupportsRedirect`; only for GET, since a URL that is signed for it does not answer HEAD."""
        if method != "GET" or not self._is_near(client_address):
            return None
        placed = await self._places.find_now(digest)
        url, until = self._urls.get(placed.key, ("", 0.0))
        if time.monotonic() < until:
            return url
        signed = self._service.bucket.presign(placed.key)
        if signed is not None:
            self._urls[placed.key] = signed, time.monotonic() + self._good_seconds
            if len(self._urls) > KNOWN_BLOBS:
                self._urls.popitem(last=False)
        return signed

    def _is_near(self, client_address: str) -> bool:
        if not self._networks:
            return True
        try:
            address = ipaddress.ip_address(client_address)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


class Places:
    """Where blobs lie, as this process remembers it."""

    def __init__(self, service: ObjectService) -> None:
        self._service = service
        self._known: OrderedDict[Digest, tuple[Placed, bytes]] = OrderedDict()

    async def find(self, digest: Digest, *, anew: bool = False) -> Placed:
        """Returns where a blob lies, or lay: who finds nothing there asks ``anew``. Raises `BlobUnknown`."""
        known = self._known.get(digest)
        if known is not None and not anew:
            return known[0]
        # Before the query: what is committed while it runs has to be asked for again.
        version = self._service.records.version()
        placed = await self._service.records.read(lambda db: placement.find(db, self._service.store, digest))
        if placed is None:
            self.forget(digest)
            raise BlobUnknown(digest=digest)
        self._known[digest] = placed, version
        if len(self._known) > KNOWN_BLOBS:
            self._known.popitem(last=False)
        return placed

    async def find_now(self, digest: Digest) -> Placed:
        """Returns where a blob lies, for somebody who cannot ask again. Raises `BlobUnknown`."""
        known = self._known.get(digest)
        return await self.find(digest, anew=known is not None and known[1] != self._service.records.version())

    def forget(self, digest: Digest) -> None:
        """Asks again the next time."""
        self._known.pop(digest, None)


def _check_form(upload: UploadId) -> None:
    if UPLOAD.fullmatch(upload) is None:
        raise UploadUnknown


@asynccontextmanager
async def open_store(
    driver: str, config: StoreConfig, services: Services, open_bucket: Callable[[Callable[[str], None]], Bucket]
) -> AsyncIterator[ObjectStore]:
    """Opens the store on a bucket; ``open_bucket`` gets what counts a retry of an operation, and may block.

    Raises:
        StartError: the bucket cannot be used; names the key of the configuration.
    """
    loop = asyncio.get_running_loop()
    measures = Measures(driver, services.metrics)
    threads = Threads(config.connections, measures, services.log)
    tasks = Tasks(services.log)
    buffers = Buffers(config.buffer_mb * MIB, measures)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(loop.run_in_executor, None, threads.shut_down)
        bucket = await _open_bucket(threads, stack, open_bucket)
        # Before the bucket is closed, which they may still use.
        stack.push_async_callback(loop.run_in_executor, None, threads.shut_down)
        stack.callback(buffers.close)
        stack.push_async_callback(tasks.close)
        skipped = 0 if bucket.reuses_numbers else SKIPPED_NUMBERS
        holds = Holds(services.records, bucket.name, tasks, services.log, skipped_numbers=skipped)
        service = ObjectService(
            bucket.name, bucket, services.records, threads, tasks, buffers, Hashes(), holds, measures, services.log
        )
        if services.serving:
            sweeping = asyncio.create_task(Sweeper(service).run())
            stack.push_async_callback(_cancelled, sweeping)
        redirects = isinstance(config, S3Config) and config.redirect
        yield (
            RedirectingStore(service, config)
            if isinstance(config, S3Config) and redirects
            else ObjectStore(service, config)
        )


async def _open_bucket(
    threads: Threads, stack: AsyncExitStack, open_bucket: Callable[[Callable[[str], None]], Bucket]
) -> Bucket:
    """Opens and checks the bucket, which the stack closes, also where this is cancelled."""

    def open_and_check() -> Bucket:
        bucket = open_bucket(threads.count_retry)
        stack.callback(bucket.close)
        bucket.check()
        return bucket

    opening = threads.submit(open_and_check)
    try:
        return await threads.answer("open", opening)
    except asyncio.CancelledError:
        await asyncio.get_running_loop().run_in_executor(None, wait, [opening])
        raise


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


_: tuple[type[BlobStore], type[SupportsRedirect]] = (ObjectStore, RedirectingStore)
