"""One append: bytes become parts of one size, and what is left of them at the end an object of its own, the tail."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

from drift_core.api import (
    Digest,
    RegistryError,
    Unavailable,
    UploadBusy,
    UploadUnknown,
)
from drift_storage_s3 import uploads
from drift_storage_s3.bucket import Body, Missing, Part, UploadGone
from drift_storage_s3.buffers import Buffer
from drift_storage_s3.hashing import Running
from drift_storage_s3.holding import Hold
from drift_storage_s3.joining import join_parts
from drift_storage_s3.service import Numbers, ObjectService
from drift_storage_s3.uploads import Tail

SMALL = 64 << 10
"""Bytes that an append may have before it takes a buffer: many blobs are smaller."""


class Append:
    """An append while it holds its upload. `take` is called by one task, and `finish` once, behind its last call.

    Whatever touches a buffer runs in a task of its own, one at a time, so that a cancelled request leaves none half
    used.
    """

    def __init__(self, service: ObjectService, hold: Hold) -> None:
        self._service = service
        self._hold = hold
        upload = hold.upload
        self._running = service.hashes.take(upload.id, upload.size)
        if self._running is None and not upload.sent:
            # All that is kept is in the tail, which is read again before anything is added.
            self._running = Running(upload.algorithm)
        self._taken = upload.size
        self._base = upload.sent
        """Where the buffer begins in the upload."""
        self._numbers = Numbers(upload.number)
        self._small: list[bytes] = []
        self._small_size = 0
        self._buffer: Buffer | None = None
        self._has_tail = False
        """Whether the bytes of the tail are in the buffer, or in a part that is being sent."""
        self._sending: asyncio.Task[None] | None = None
        self._unrecorded: list[Part] = []
        self._own_multipart = False
        self._doubtful = False
        self._failure: RegistryError | None = None
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Makes sure that nobody else can write to what the upload has; to be called before all else.

        A process that was only paused may come back and send a part under a number that is in use again. Its multipart
        upload is completed, therefore, and what it has is sent again. Raises what `take` does.
        """
        if self._hold.upload.unfenced and self._hold.upload.sent:
            await asyncio.shield(self._service.tasks.start(self._guarded(self._fence)))

    async def take(self, chunk: bytes) -> None:
        """Takes in what arrived, and returns when there is room for more.

        Raises:
            UploadUnknown, UploadBusy: the upload was aborted, or others have taken over.
            UploadInvalid: it is larger than the service takes.
            Unavailable: the service or the database fails.
        """
        if self._failure is not None:
            raise self._failure
        if not self._lock.locked():
            if self._buffer is None and self._small_size + len(chunk) <= SMALL:
                self._small.append(chunk)
                self._small_size += len(chunk)
                self._taken += len(chunk)
                return
            if self._buffer is not None and len(chunk) < self._buffer.room:
                self._buffer.fill(memoryview(chunk))
                self._taken += len(chunk)
                return
        await asyncio.shield(self._service.tasks.start(self._guarded(partial(self._absorb, chunk))))

    async def finish(self) -> int:
        """Keeps what arrived, lets others hold the upload, and returns the bytes that it now has.

        Raises what `take` does; then what was kept before is still there.
        """
        async with self._lock:
            try:
                tail = await self._keep()
                await self._hold.release(self._numbers.last, tail, self._digest())
            except RegistryError as error:
                await self._let_go(error)
                raise
            else:
                self._remember()
            finally:
                self._give_buffer()
        return self._hold.upload.size

    def spill(self) -> None:
        """See `Holder`."""
        if self._buffer is not None and not self._lock.locked():
            self._service.tasks.start(self._guarded(self._spill))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does one thing with the buffer; its failure is that of the append."""
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                await work()
            except RegistryError as error:
                self._failure = error
                raise

    async def _fence(self) -> None:
        await join_parts(self._service, self._hold, self._numbers)
        self._base, self._numbers = 0, Numbers(0)
        if self._running is None:
            self._running = Running(self._hold.upload.algorithm)

    async def _absorb(self, chunk: bytes) -> None:
        self._taken += len(chunk)
        await self._fill(memoryview(chunk))

    async def _fill(self, data: memoryview) -> None:
        while data:
            while self._buffer is None:
                await self._open()
            data = data[self._buffer.fill(data) :]
            if not self._buffer.room:
                await self._send()

    async def _open(self) -> None:
        """Takes a buffer, and puts into it what comes before: the tail, and what had no buffer yet."""
        upload = self._hold.upload
        tail = None if self._has_tail else upload.tail
        small, self._small, self._small_size = self._small, [], 0
        self._buffer = None if tail is None else self._service.buffers.recall(tail, self)
        if self._buffer is None:
            self._buffer = await self._service.buffers.take(upload.part_size, self)
            if tail is not None:
                await self._load(tail, upload.size - upload.sent)
        self._has_tail = True
        for piece in small:
            await self._fill(memoryview(piece))

    async def _load(self, tail: str, size: int) -> None:
        self._has_tail = True
        try:
            async with aclosing(self._service.read(tail, 0, size)) as blocks:
                async for block in blocks:
                    await self._fill(memoryview(block))
        except Missing as error:
            raise self._service.lost(tail) from error

    async def _send(self) -> None:
        """Begins to send the full buffer as a part, and goes on with another one if there is one to spare."""
        await self._join()
        buffer, self._buffer = self._buffer, None
        assert buffer is not None  # noqa: S101 - it is full
        self._sending = self._service.tasks.start(self._send_part(buffer, self._base))
        self._base += buffer.size
        self._buffer = self._service.buffers.try_take(buffer.size, self)
        if self._buffer is None:
            await self._join()

    async def _join(self) -> None:
        """Returns when no part is being sent. Raises what that did."""
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending

    async def _send_part(self, buffer: Buffer, base: int) -> None:
        try:
            hashing = self._service.tasks.start(self._hash(buffer.content, base))
            try:
                part = await self._put_part(buffer)
            finally:
                await hashing
            self._unrecorded.append(part)
            # Before the whole tail is in parts it is what is kept.
            if base + part.size >= self._hold.upload.size:
                await self._record_parts()
        finally:
            self._service.buffers.give(buffer)

    async def _put_part(self, buffer: Buffer) -> Part:
        multipart = await self._multipart()
        try:
            return await self._service.put_part(*multipart, self._numbers, buffer.content)
        except UploadGone as error:
            # Somebody has aborted the upload, which this raises; or the service has lost it.
            await self._hold.renew()
            raise self._service.lost(multipart[0]) from error
        except Unavailable:
            self._doubtful = True
            raise

    async def _multipart(self) -> tuple[str, str]:
        """Returns key and id of the multipart upload, and begins it where no part of one is recorded."""
        upload = self._hold.upload
        if not upload.sent and not self._own_multipart:
            key = upload.multipart_key()
            multipart = await self._service.threads.ask("create", self._service.bucket.create_multipart, key)
            try:
                await self._hold.change(
                    lambda db, store, held, token: uploads.begin_parts(db, store, held, token, key, multipart)
                )
            except RegistryError:
                # Nobody else knows of it.
                await self._service.threads.ask("abort", self._service.bucket.abort, key, multipart)
                raise
            self._own_multipart, self._numbers = True, Numbers(0)
            return key, multipart
        assert upload.key is not None  # noqa: S101 - it has parts
        assert upload.multipart is not None  # noqa: S101
        return upload.key, upload.multipart

    async def _record_parts(self) -> None:
        added, self._unrecorded = self._unrecorded, []
        await self._hold.change(lambda db, store, held, token: uploads.add_parts(db, store, held, token, added))

    async def _hash(self, content: Body, base: int) -> None:
        """Hashes what of the buffer's content is not yet hashed."""
        if self._running is None:
            return
        rest = memoryview(content)[self._running.offset - base :]
        if len(rest) > SMALL:
            await self._service.threads.hash(self._running.update, rest)
        else:
            self._running.update(rest)

    async def _keep(self) -> Tail | None:
        """Brings all that arrived to the service; the tail that is returned is still to be recorded."""
        try:
            await self._join()
        except RegistryError as error:
            self._failure = self._failure or error
        if self._failure is not None:
            raise self._failure
        return await self._write_tail() if self._taken > self._hold.upload.size else None

    async def _write_tail(self) -> Tail | None:
        """Writes what is behind the last full part."""
        if self._buffer is None and self._hold.upload.tail is not None:
            await self._open()
            await self._join()
        content: Body = b"".join(self._small) if self._buffer is None else self._buffer.content
        self._small, self._small_size = [], 0
        if self._unrecorded:
            await self._record_parts()
        if not content:
            return None
        await self._hash(content, self._base)
        key = await self._hold.new_key()
        await self._service.put(key, content)
        return Tail(key, self._base + len(content), self._digest())

    def _digest(self) -> Digest | None:
        """Returns the digest of all that arrived, where it is known."""
        known = self._running is not None and self._running.offset == self._taken
        return self._running.digest() if self._running is not None and known else None

    async def _spill(self) -> None:
        """Gives the buffer to those who wait; what is in it becomes the tail."""
        if self._buffer is None:
            return
        await self._join()
        if self._taken > self._hold.upload.size:
            tail = await self._write_tail()
            if tail is not None:
                await self._hold.put_tail(tail)
        self._service.measures.spills.inc()
        self._give_buffer()

    def _remember(self) -> None:
        """Keeps in memory what a commit, or the next append, would have to ask for."""
        upload = self._hold.upload
        if self._running is not None and self._running.offset == upload.size:
            self._service.hashes.put(upload.id, self._running)
        # A commit needs the tail only to send it behind the parts.
        if self._buffer is not None and upload.tail is not None and upload.sent:
            self._service.buffers.keep(upload.tail, self._buffer)
            self._buffer = None

    async def _let_go(self, error: RegistryError) -> None:
        if not isinstance(error, UploadUnknown | UploadBusy):
            try:
                await self._hold.release(self._numbers.last, doubtful=self._doubtful)
            except RegistryError as failure:
                # Others may hold it in a few seconds all the same.
                self._service.log.warning("an upload is not let go", upload=self._hold.upload.id, error=str(failure))

    def _give_buffer(self) -> None:
        if self._buffer is not None:
            self._service.buffers.give(self._buffer)
        self._buffer = None
        self._has_tail = False
