"""The object service as the event loop sees it, with all that one opened store has to work with."""

from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any

from structlog.typing import FilteringBoundLogger

from drift_core.api import Digest, Records, StorageFull, Struct, Unavailable, UploadInvalid
from drift_storage_s3.bucket import Body, Bucket, Part, Reader
from drift_storage_s3.buffers import Buffer, Buffers
from drift_storage_s3.hashing import Hashes, Running
from drift_storage_s3.holding import Holds
from drift_storage_s3.measures import Measures
from drift_storage_s3.tasks import Tasks
from drift_storage_s3.threads import Threads

MOST_PARTS = 10_000
"""The highest number of a part (S3, "Multipart upload limits")."""

NUMBER_ATTEMPTS = 4
"""How often a part is sent to a service that takes no number twice."""


class Numbers:
    """The numbers of an upload's parts, of which ``last`` was used last."""

    def __init__(self, last: int) -> None:
        self.last = last

    def take(self) -> int:
        """Returns the next number. Raises `UploadInvalid` where there is none."""
        if self.last >= MOST_PARTS:
            message = f"the blob has more than {MOST_PARTS} parts"
            raise UploadInvalid(message)
        self.last += 1
        return self.last


class ObjectService(Struct, frozen=True):
    """The bucket, and what stands between it and the event loop; ``store`` is its name in the records."""

    store: str
    bucket: Bucket
    records: Records
    threads: Threads
    tasks: Tasks
    buffers: Buffers
    hashes: Hashes
    holds: Holds
    measures: Measures
    log: FilteringBoundLogger

    async def put(self, key: str, content: Body) -> None:
        """Writes an object. Raises `Unavailable`, or `StorageFull`."""
        await self.threads.ask("put", self.bucket.put, key, content)
        self.measures.bytes.labels("sent").inc(len(content))

    async def read(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yields the bytes ``[start, stop)`` of an object, which are not empty.

        Raises `Missing` before the first of them, and `Unavailable`.
        """
        opening = self.threads.submit(self.bucket.get, key, start, stop)
        last: Future[Any] = opening
        try:
            blocks = iter(await self.threads.answer("get", opening))
            last = reading = self.threads.submit(next, blocks)
            while start < stop:
                block = await self.threads.result(reading)
                start += len(block)
                if start < stop:
                    # While whoever asked uses this block; it is no more than one ahead.
                    last = reading = self.threads.submit(next, blocks)
                self.measures.bytes.labels("received").inc(len(block))
                yield block
        finally:
            # Where this was left or cancelled a thread may still read.
            last.add_done_callback(lambda _: _close(opening))

    async def put_part(self, key: str, multipart: str, numbers: Numbers, content: Body) -> Part:
        """Sends a part under the next number, and to a service that takes none twice again under further ones.

        Raises:
            UploadGone: there is no such multipart upload.
            UploadInvalid: there is no number left.
            Unavailable, StorageFull: the service fails.
        """
        attempts = 1 if self.bucket.reuses_numbers else NUMBER_ATTEMPTS
        for attempt in range(attempts):
            try:
                part = await self.threads.ask("put_part", self.bucket.put_part, key, multipart, numbers.take(), content)
            except StorageFull:
                raise
            except Unavailable:
                if attempt == attempts - 1:
                    raise
            else:
                self.measures.bytes.labels("sent").inc(len(content))
                return part
        raise AssertionError

    async def load(self, key: str, size: int, buffer: Buffer) -> None:
        """Reads an object of ``size`` bytes into a buffer. Raises `Missing`, and `Unavailable`."""
        async with aclosing(self.read(key, 0, size)) as blocks:
            async for block in blocks:
                buffer.fill(memoryview(block))

    async def digest_of(self, key: str, size: int, algorithm: str) -> Digest:
        """Reads a whole object to hash it. Raises `Missing`, and `Unavailable`."""
        running = Running(algorithm)
        if size:
            async with aclosing(self.read(key, 0, size)) as blocks:
                async for block in blocks:
                    await self.threads.hash(running.update, block)
        return running.digest()

    def lost(self, key: str) -> Unavailable:
        """Logs that an object is not there, or not what was written, and returns what a client may know of it."""
        self.log.error("the object service has lost an object, or has other bytes than it was sent", key=key)
        return Unavailable("the object service has lost a part of the blob")


def _close(opening: "Future[Reader]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
