"""Reads packed blobs: any range of the original, from no more of the packed form than the frames that hold it."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from drift_core.api import ALGORITHMS, BlobStore, BlobUnknown, Digest, Hash, Pace, Unavailable
from drift_storage_packed.codecs import BadFrameError
from drift_storage_packed.container import DamagedIndexError, Index, index_size, spans
from drift_storage_packed.forms import Form

T = TypeVar("T")

CACHED_BYTES = 16 << 20
"""Bytes of indexes that each worker remembers."""

BATCH = 1 << 20
"""Bytes that are unpacked by one visit to a thread, at least one frame."""

SMALL = 64 << 10
"""Bytes that are unpacked sooner than another thread is woken up."""


class DamagedFormError(BlobUnknown):
    """What lies packed is not what was packed: nobody gets any of it, and to scrub it is a blob that is lost."""

    text = "the packed form of the blob is damaged"


class Reader:
    """Reads from ``beneath``, and remembers where the frames of a blob lie; for tasks of one event loop.

    ``executor`` has the threads that unpack, None is that of the loop.
    """

    def __init__(self, beneath: BlobStore, executor: Executor | None = None) -> None:
        self._beneath = beneath
        self._executor = executor
        self._indexes: OrderedDict[Digest, Index] = OrderedDict()
        self._held = 0

    async def read(self, form: Form, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes ``[start, stop)`` of the original; ``stop`` None means to the end.

        Raises:
            BlobUnknown: the packed form is not there, or is a `DamagedFormError`; before or after some bytes.
            Unavailable: the range ends behind the blob; or the store beneath fails.
        """
        index = await self.index(form)
        stop = form.size if stop is None else stop
        if max(start, stop) > form.size:
            message = "the range ends behind the blob"
            raise Unavailable(message, digest=str(form.digest), size=form.size)
        if start >= stop:
            return
        frames, first, last = spans(index, start, stop)
        at = frames.start * index.frame_size
        batch: list[bytes] = []
        async for frame, packed in self._frames(form, index, frames, first, last):
            batch.append(packed)
            if len(batch) * index.frame_size < BATCH and frame + 1 < frames.stop:
                continue
            pieces = await self._unpacked(form, index, frame + 1 - len(batch), batch)
            batch = []
            for piece in pieces:
                # Only the first and the last frame hold more than was asked for.
                yield piece[max(0, start - at) : stop - at]
                at += len(piece)

    async def _frames(
        self, form: Form, index: Index, frames: range, first: int, last: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yields each frame with its number."""
        chunks = self._beneath.read(_packed(form), first, last)
        held = bytearray()
        wanted = iter(frames)
        frame = next(wanted)
        async for chunk in chunks:
            held += chunk
            taken = 0
            while frame < frames.stop and len(held) - taken >= index.length(frame):
                end = taken + index.length(frame)
                yield frame, bytes(memoryview(held)[taken:end])
                taken = end
                frame = next(wanted, frames.stop)
            del held[:taken]
        if frame != frames.stop:
            raise DamagedFormError(digest=str(form.digest), reason="it is cut short")

    async def _unpacked(self, form: Form, index: Index, first: int, batch: Sequence[bytes]) -> list[bytes]:
        def unpack() -> list[bytes]:
            return [index.unpack(first + number, packed) for number, packed in enumerate(batch)]

        try:
            if sum(map(len, batch)) <= SMALL and len(batch) * index.frame_size <= SMALL:
                return unpack()
            return await self._in_thread(unpack)
        except BadFrameError as error:
            self.forget(form)
            raise DamagedFormError(digest=str(form.digest), reason="a frame is not what was written") from error

    async def index(self, form: Form) -> Index:
        """Returns where the frames lie. Raises `BlobUnknown`, see `read`, and `Unavailable`."""
        packed = _packed(form)
        index = self._indexes.get(packed)
        if index is not None:
            self._indexes.move_to_end(packed)
            return index
        await self.look(form)
        start = form.packed_size - index_size(form.size, form.frame_size)
        raw = b"".join([chunk async for chunk in self._beneath.read(packed, start, form.packed_size)])
        try:
            index = await self._in_thread(
                partial(Index.parse, raw, form.digest, form.algorithm, form.size, form.frame_size)
            )
        except DamagedIndexError as error:
            raise DamagedFormError(digest=str(form.digest), reason="its index is not what was written") from error
        self._remember(packed, index)
        return index

    async def look(self, form: Form) -> None:
        """Returns where the packed form lies beneath in its full size. Raises `BlobUnknown`, see `read`."""
        stat = await self._beneath.stat(_packed(form))
        if stat.size != form.packed_size:
            raise DamagedFormError(digest=str(form.digest), reason=f"it has {stat.size} bytes")

    def _remember(self, packed: Digest, index: Index) -> None:
        if packed in self._indexes:
            return
        self._indexes[packed] = index
        self._held += index.memory
        while self._held > CACHED_BYTES and len(self._indexes) > 1:
            _, old = self._indexes.popitem(last=False)
            self._held -= old.memory

    def forget(self, form: Form) -> None:
        """Reads the index of a form again next time."""
        index = self._indexes.pop(_packed(form), None)
        if index is not None:
            self._held -= index.memory

    async def verify(self, form: Form, pace: Pace) -> bool:
        """Says whether the packed form, read from the store beneath, is the original. Raises `Unavailable`."""
        self.forget(form)
        state: Hash = ALGORITHMS[form.digest.algorithm].new()
        try:
            async for chunk in self.read(form):
                await self._in_thread(partial(state.update, chunk))
                await pace.take(len(chunk))
        except BlobUnknown:
            return False
        finally:
            self.forget(form)
        return state.hexdigest() == form.digest.encoded

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _packed(form: Form) -> Digest:
    if form.packed is None:
        message = "a form that is not complete cannot be read"
        raise ValueError(message)
    return form.packed
