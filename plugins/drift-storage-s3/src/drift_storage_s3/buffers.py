"""The memory for parts: a budget that all uploads of a process share, and of which slow senders keep none for long."""

import asyncio
from collections import OrderedDict, deque
from mmap import mmap
from typing import Protocol

from drift_storage_s3.measures import Measures

SPILL_SECONDS = 5.0
"""How long an upload may fill one buffer while others wait for theirs."""

LOOK_SECONDS = 0.5
"""How often to look for such uploads while others wait."""

KEEP_SECONDS = 10.0
"""How long the end of an upload is kept in memory, which its commit sends once more."""

SPARE = 2
"""Buffers that are kept for the next upload; the memory of others goes back to the system."""


class Buffer:
    """Memory for one part, of which ``filled`` bytes are used; ``since`` is when it was handed out."""

    __slots__ = ("_memory", "filled", "since", "size", "view")

    def __init__(self, size: int) -> None:
        # Not a bytearray: pages that were never filled take no memory, and closed ones go back at once.
        self._memory = mmap(-1, size)
        self.view = memoryview(self._memory)
        self.size = size
        self.filled = 0
        self.since = 0.0

    @property
    def room(self) -> int:
        """Bytes that can still be put in."""
        return self.size - self.filled

    @property
    def content(self) -> memoryview:
        """The bytes that are used."""
        return self.view[: self.filled]

    def fill(self, data: memoryview) -> int:
        """Takes in as much as there is room for, and returns how much that is."""
        size = min(self.room, len(data))
        self.view[self.filled : self.filled + size] = data[:size]
        self.filled += size
        return size

    def clear(self) -> None:
        """Makes all of it room again."""
        self.filled = 0

    def close(self) -> None:
        """Gives the memory back, as soon as nobody has a view of it."""
        self.view.release()
        del self._memory


class Holder(Protocol):
    """Who fills a buffer."""

    def spill(self) -> None:
        """Begins to give the buffer back, unless it is about to be sent anyway; for tasks of the same loop."""
        ...


class Buffers:
    """Hands out buffers of at most ``limit`` bytes together, in order of who asked first; for tasks of one loop.

    A ``holder`` None waits for no client with its buffer.
    """

    def __init__(self, limit: int, measures: Measures) -> None:
        self._limit = limit
        self._measures = measures
        self._used = 0
        self._held: dict[Buffer, Holder | None] = {}
        self._spare: list[Buffer] = []
        self._kept: OrderedDict[str, Buffer] = OrderedDict()
        self._waiting: deque[tuple[asyncio.Future[Buffer], int, Holder | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def scarce(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def try_take(self, size: int, holder: Holder | None) -> Buffer | None:
        """Returns an empty buffer, or None where there is none now or others wait."""
        return None if self._waiting else self._grant(size, holder)

    async def take(self, size: int, holder: Holder | None) -> Buffer:
        """Returns an empty buffer, as soon as it is this caller's turn."""
        buffer = self.try_take(size, holder)
        if buffer is not None:
            return buffer
        self._measures.waits.inc()
        future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
        entry = (future, size, holder)
        self._waiting.append(entry)
        self._watch()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(future.result())
            elif entry in self._waiting:
                self._waiting.remove(entry)
                self._serve()
            raise

    def give(self, buffer: Buffer) -> None:
        """Takes a buffer back, which nobody uses any more."""
        del self._held[buffer]
        buffer.clear()
        self._spare.append(buffer)
        self._serve()
        while len(self._spare) > SPARE:
            self._drop(self._spare.pop())

    def keep(self, key: str, buffer: Buffer) -> None:
        """Takes a buffer back with what is the content of the object ``key``, and remembers it for a short time."""
        del self._held[buffer]
        self._kept[key] = buffer
        asyncio.get_running_loop().call_later(KEEP_SECONDS, self.forget, key)
        self._serve()

    def recall(self, key: str, holder: Holder | None) -> Buffer | None:
        """Returns the buffer with the content of an object, if it still has it."""
        buffer = self._kept.pop(key, None)
        if buffer is not None:
            self._hold(buffer, holder)
        return buffer

    def forget(self, key: str) -> None:
        """Gives back the memory of an object that nobody has asked for."""
        buffer = self._kept.pop(key, None)
        if buffer is not None:
            self._drop(buffer)
            self._serve()

    def close(self) -> None:
        """Gives back all memory that nobody holds."""
        if self._timer is not None:
            self._timer.cancel()
        for buffer in (*self._spare, *self._kept.values()):
            self._drop(buffer)
        self._spare.clear()
        self._kept.clear()

    def _grant(self, size: int, holder: Holder | None) -> Buffer | None:
        spare = next((buffer for buffer in self._spare if buffer.size == size), None)
        if spare is not None:
            self._spare.remove(spare)
            return self._hold(spare, holder)
        # An upload that was begun under another configuration may need more than the whole budget.
        while self._used and self._used + size > self._limit:
            if self._spare:
                self._drop(self._spare.pop())
            elif self._kept:
                self._drop(self._kept.popitem(last=False)[1])
            else:
                return None
        self._used += size
        self._measures.buffers.set(self._used)
        return self._hold(Buffer(size), holder)

    def _hold(self, buffer: Buffer, holder: Holder | None) -> Buffer:
        buffer.since = asyncio.get_running_loop().time()
        self._held[buffer] = holder
        return buffer

    def _drop(self, buffer: Buffer) -> None:
        self._used -= buffer.size
        self._measures.buffers.set(self._used)
        buffer.close()

    def _serve(self) -> None:
        while self._waiting:
            future, size, holder = self._waiting[0]
            if not future.done():
                buffer = self._grant(size, holder)
                if buffer is None:
                    return
                future.set_result(buffer)
            self._waiting.popleft()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        limit = asyncio.get_running_loop().time() - SPILL_SECONDS
        slow = sorted((buffer for buffer in self._held if buffer.since < limit), key=lambda buffer: buffer.since)
        for buffer in slow[: len(self._waiting)]:
            holder = self._held[buffer]
            if holder is not None:
                holder.spill()
        self._watch()
