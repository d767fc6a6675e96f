"""How the bytes of a pull become a copy beside it, which the pull never has to suffer from."""

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Literal

from drift_core.api import Digest
from drift_storage_cached.folder import Folder, Room, TakenError
from drift_storage_cached.threads import Threads

AHEAD = 2 << 20
"""Bytes of a pull that may wait for the disk before the pull does."""

PATIENCE_SECONDS = 1.0
PATIENCE_SHARE = 0.25
"""A pull waits for the disk for so many seconds, and so much of its time, before it goes on without."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

Outcome = Literal["kept", "left", "slow", "failed"]


class Making:
    """The file of one copy. Everything blocks, and is called one after the other; a failure is kept, not raised."""

    def __init__(self, folder: Folder, digest: Digest) -> None:
        self.failure: OSError | None = None
        self.room: Room | None = None
        """What all copies take since this is one, or since some of them made room on a full disk."""
        self.kept = False
        self.over = False
        """Whether nothing more is to be written."""
        self._folder = folder
        self._digest = digest
        self._hash = hashlib.new(digest.algorithm)
        self._file = -1
        self._path = ""
        self._size = 0

    def write(self, chunks: Sequence[bytes]) -> None:
        """Appends the chunks, which may have any size."""
        self._attempt(lambda: self._write(chunks))

    def keep(self, chunks: Sequence[bytes]) -> None:
        """Appends the last chunks and makes the copy one, if the bytes have its digest; ``kept`` then says so."""
        self._attempt(lambda: self._keep(chunks))
        self.discard()

    def discard(self) -> None:
        """Removes what was written and did not become a copy; there may be nothing."""
        self.over = True
        if self._file < 0:
            return
        try:
            if not self.kept:
                os.unlink(self._path)  # noqa: PTH108
        except OSError as error:
            self.failure = self.failure or error
        finally:
            os.close(self._file)
            self._file = -1

    def _attempt(self, step: Callable[[], None]) -> None:
        if self.over:
            return
        try:
            step()
        except TakenError:
            self.over = True
        except OSError as error:
            self.failure = error
            self.discard()
            if error.errno in FULL:
                self._give_back()

    def _give_back(self) -> None:
        """Frees some of a disk that others may have filled, and need."""
        try:
            self.room = self._folder.give_back()
        except OSError as error:
            self.failure = error

    def _write(self, chunks: Sequence[bytes]) -> None:
        if self._file < 0:
            self._file, self._path = self._folder.begin(self._digest)
        for chunk in chunks:
            self._hash.update(chunk)
            self._append(chunk)

    def _append(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left:
            written = os.pwrite(self._file, left, self._size)
            self._size += written
            left = left[written:]

    def _keep(self, chunks: Sequence[bytes]) -> None:
        # Where nothing is written yet all of it is here: of what is no whole blob nothing has to be.
        if self._file < 0 and not self._is_whole(chunks):
            return
        self._write(chunks)
        if self._hash.hexdigest() != self._digest.encoded:
            return
        # A file that has its place is whole, also after the machine has crashed.
        os.fsync(self._file)
        self.room = self._folder.keep(self._digest, self._path, self._size)
        self.kept = self.room is not None

    def _is_whole(self, chunks: Sequence[bytes]) -> bool:
        return hashlib.new(self._digest.algorithm, b"".join(chunks)).hexdigest() == self._digest.encoded


class Filling:
    """The copy of one blob that is being pulled; ``told`` is called once, when nothing is left to be done for it."""

    def __init__(
        self, making: Making, limit: int, threads: Threads, told: Callable[["Filling", Outcome], None]
    ) -> None:
        self.making = making
        self.ended: asyncio.Future[None] | None = None
        """Done when the file is a copy, or gone; None before the end has begun, and where there was no file."""
        self.outcome: Outcome | None = None
        """How it ends, once that is decided; what comes of it may still be "failed"."""
        self._limit = limit
        self._threads = threads
        self._told = told
        self._chunks: list[bytes] = []
        self._ahead = 0
        self._size = 0
        self._job: Future[None] | None = None
        self._began = time.monotonic()
        self._waited = 0.0

    async def add(self, chunk: bytes) -> None:
        """Takes the next bytes; waits where the disk is far behind, but not for long."""
        if self.outcome is not None:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        self._ahead += len(chunk)
        if self._size > self._limit:
            self.leave()
            return
        # The first chunk may be all that anybody wants, as to answer HEAD.
        if self._size == len(chunk) or (self._busy and self._ahead < AHEAD):
            return
        if not await self._caught_up():
            self._end("slow", self.making.discard)
        elif self.making.failure is not None:
            self._end("failed", self.making.discard)
        elif self.outcome is None:
            chunks, self._chunks, self._ahead = self._chunks, [], 0
            self._job = self._threads.after(self._job, self.making.write, chunks)

    def finish(self) -> None:
        """Makes it a copy, beside all else, once the last bytes are there."""
        if not self._size:
            self.leave()
        elif self.outcome is None:
            chunks, self._chunks = self._chunks, []
            self._end("kept", self.making.keep, chunks)

    def leave(self) -> None:
        """Gives it up; after `finish` that is too late."""
        if self.outcome is None:
            self._end("left", self.making.discard)

    @property
    def _busy(self) -> bool:
        return self._job is not None and not self._job.done()

    async def _caught_up(self) -> bool:
        """Waits for what is being written, and returns whether it was in time."""
        if self._job is None or self._job.done():
            return True
        now = time.monotonic()
        patience = PATIENCE_SECONDS + PATIENCE_SHARE * (now - self._began) - self._waited
        await asyncio.wait({asyncio.wrap_future(self._job)}, timeout=max(patience, 0))
        self._waited += time.monotonic() - now
        return self._job.done()

    def _end(self, outcome: Outcome, call: Callable[..., None], *args: object) -> None:
        self.outcome = outcome
        self._chunks = []
        if self._job is None and outcome != "kept":
            self._told(self, outcome)
            return
        self._job = self._threads.after(self._job, call, *args)
        self.ended = asyncio.wrap_future(self._job)
        self.ended.add_done_callback(lambda _: self._told(self, "failed" if self.making.failure else outcome))
