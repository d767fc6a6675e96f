"""Packs what lies in a store, one blob after the other, and takes the original away once its packed form is proved.

Whatever step a process dies at, a row says what it was at: see `forms`.
"""

import asyncio
import hashlib
import os
import sys
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    Pace,
    RegistryError,
    Services,
    UploadId,
    UploadUnknown,
)
from drift_storage_packed import forms
from drift_storage_packed.codecs import CODECS
from drift_storage_packed.config import PackedConfig
from drift_storage_packed.container import IndexWriter
from drift_storage_packed.forms import Form, Pass
from drift_storage_packed.measures import Measures
from drift_storage_packed.reading import Reader

T = TypeVar("T")

MEGABYTE = 1_000_000
MINUTE = 60.0

SAMPLES = 8
SAMPLE_BYTES = 16 << 10
"""From how many places of a blob how much is packed to guess what the whole would gain."""

SAMPLE_SHARE = 0.5
"""The share of the wanted gain that samples have to show: they lack what the whole has in common."""

BEAT_SECONDS = 10.0
"""Between two signs of life of who packs a blob; far less than `forms.ABANDONED_SECONDS`."""

LOOK_SECONDS = 30.0
"""Between two looks for originals that may go."""

Outcome = Literal["packed", "gains nothing", "damaged", "gone", "failed"]


class Packed(Struct, frozen=True):
    """What came of one blob: its size in bytes before, and after where it was packed."""

    digest: Digest
    size: int
    outcome: Outcome
    packed_size: int = 0


class _EndedError(Exception):
    """The form is not wanted any more: the blob was deleted, or somebody took who makes it for dead."""


class _Packing:
    """One blob on its way into an upload. ``hashed`` and ``digest`` are of what was read and of what was written."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.size = 0
        self.index = IndexWriter(form.digest, form.algorithm, form.frame_size)
        self.original = ALGORITHMS[form.digest.algorithm].new()
        self.written = hashlib.sha256()

    def pack(self, pack: Callable[[bytes], bytes], piece: bytes) -> bytes:
        """Returns the frame of the next piece; blocks."""
        self.original.update(piece)
        packed = pack(piece)
        self.index.add(packed, len(piece))
        return self.count(packed)

    def finish(self) -> bytes:
        """Returns what follows the last frame; blocks."""
        return self.count(self.index.finish())

    def count(self, packed: bytes) -> bytes:
        self.written.update(packed)
        self.size += len(packed)
        return packed

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self.written.hexdigest()}")

    @property
    def whole(self) -> bool:
        """Says whether what was read is what its digest says."""
        return self.original.hexdigest() == self.form.digest.encoded


class Packer:
    """Packs one blob at a time, by one thread of low priority, in a few frames of memory."""

    def __init__(self, config: PackedConfig, services: Services, beneath: BlobStore, measures: Measures) -> None:
        self.config = config
        self._beneath = beneath
        self._records = services.records
        self._log = services.log
        self._measures = measures
        self._thread = ThreadPoolExecutor(1, "pack", initializer=_be_nice)
        self._reader = Reader(beneath, self._thread)
        self._one = asyncio.Lock()

    async def work(self) -> None:
        """Packs what is there and what comes, until cancelled; what cannot be done now is done later."""
        interval = self.config.interval_minutes * MINUTE
        told_at = -interval
        while True:
            try:
                await self._work_once(interval)
                if time.monotonic() - told_at >= interval:
                    self._measures.tell(await self._records.read(forms.totals))
                    told_at = time.monotonic()
            except RegistryError as error:
                self._log.warning("packing stopped, and goes on later", reason=error.message)
            await asyncio.sleep(min(LOOK_SECONDS, interval))

    async def _work_once(self, interval: float) -> None:
        last = await self._records.read(partial(forms.load_pass, name="last"))
        current = await self._records.read(partial(forms.load_pass, name="current"))
        due = 0.0 if last is None else last.updated_at + interval
        if self.config.pack and (current is not None or time.time() >= due):
            async for _ in self.run(current or Pass.new()):
                pass
        else:
            await self.tidy()

    async def run(self, pass_: Pass, rate: float | None = None) -> AsyncIterator[Packed]:
        """Looks through the store once, and yields what came of each blob that was looked at.

        ``rate`` is in millions of bytes per second, None that of the configuration. One runs at a time. Raises
        `Unavailable`.
        """
        speed = self.config.rate_mb_per_second if rate is None else rate
        pace = Pace(speed * MEGABYTE, time.monotonic, asyncio.sleep)
        async with self._one:
            await self.tidy()
            position = None if pass_.position is None else Digest(pass_.position)
            async for page in pages(self._beneath.scan(position)):
                for blob in await self._candidates(page, pace):
                    yield await self._look(blob, pace)
                    # Also within a page: until then the disk has both forms.
                    await self.tidy()
                pass_.position = str(page[-1].digest)
                await self._records.write(partial(forms.save_pass, pass_=pass_))
            await self._records.write(partial(forms.finish_pass, pass_=pass_))
            await self.tidy()

    async def _candidates(self, page: list[BlobStat], pace: Pace) -> list[BlobStat]:
        """Returns the blobs of a page that are to be packed, after a look at those that were committed again."""
        digests = [blob.digest for blob in page]
        hidden = await self._records.read(partial(forms.hidden, digests=digests))
        packed = await self._records.read(partial(forms.of_digests, digests=digests))
        known = await self._records.read(partial(forms.known, digests=digests, recipe=self.config.recipe))
        newest = time.time() - self.config.min_age_minutes * MINUTE
        smallest = max(1, self.config.min_size)
        for blob in page:
            form = packed.get(blob.digest)
            if form is not None and form.state == "packed" and not form.original_left:
                await self._compare(form, blob, pace)
        return [
            blob
            for blob in page
            if blob.digest not in hidden | known | packed.keys() and blob.size >= smallest and blob.modified <= newest
        ]

    async def _compare(self, form: Form, blob: BlobStat, pace: Pace) -> None:
        """Decides which of the two stays of a blob that lies packed and was committed again."""
        if await self._reader.verify(form, pace):
            mark = partial(forms.change, form=form, expected=["packed"], original_left=True, modified=blob.modified)
            await self._records.write(mark)
        else:
            self._log.warning("a packed blob was damaged; its original is there again", digest=str(form.digest))
            await self.release(form)

    async def _look(self, blob: BlobStat, pace: Pace) -> Packed:
        try:
            if not await self._gains(blob, pace):
                return await self._skip(blob, "gains nothing")
            return await self._pack(blob, pace)
        except BlobUnknown:
            return Packed(blob.digest, blob.size, "gone")

    async def _skip(self, blob: BlobStat, outcome: Outcome) -> Packed:
        self._measures.skipped.labels(outcome).inc()
        await self._records.write(partial(forms.skip, digest=blob.digest, reason=outcome, recipe=self.config.recipe))
        return Packed(blob.digest, blob.size, outcome)

    async def _gains(self, blob: BlobStat, pace: Pace) -> bool:
        """Guesses from a few places whether it is worth reading everything."""
        if blob.size <= SAMPLES * SAMPLE_BYTES:
            return True
        stride = (blob.size - SAMPLE_BYTES) // (SAMPLES - 1)
        pack = CODECS[self.config.algorithm].packer(self.config.chosen_level)
        before = after = 0
        for number in range(SAMPLES):
            start = number * stride
            sample = b"".join([chunk async for chunk in self._beneath.read(blob.digest, start, start + SAMPLE_BYTES)])
            await pace.take(len(sample))
            self._measures.read.inc(len(sample))
            before += len(sample)
            after += len(await self._in_thread(partial(pack, sample)))
        return after <= before * (1 - SAMPLE_SHARE * self.config.min_gain)

    async def _pack(self, blob: BlobStat, pace: Pace) -> Packed:
        upload = await self._beneath.begin()
        begin = partial(
            forms.begin,
            blob=blob,
            upload=upload,
            algorithm=self.config.algorithm,
            frame_size=self.config.frame_kib << 10,
        )
        form = await self._records.write(begin)
        if form is None:
            await self._beneath.abort(upload)
            return Packed(blob.digest, blob.size, "failed")
        outcome: Outcome = "failed"
        packing = _Packing(form)
        try:
            outcome = await self._make(form, packing, upload, pace)
        except (_EndedError, UploadUnknown):
            outcome = "gone"
        finally:
            if outcome != "packed":
                # A process that is stopped in here leaves it to the next one.
                await self._records.write(partial(forms.change, form=form, expected=["making"], state="ending"))
        if outcome == "packed":
            self._measures.packed.inc()
            self._log.info("packed a blob", digest=str(blob.digest), size=blob.size, packed_size=packing.size)
            return Packed(blob.digest, blob.size, outcome, packing.size)
        # Also where somebody else has ended it, before the last of it lay beneath.
        await self.clear(form)
        if outcome in ("gains nothing", "damaged"):
            return await self._skip(blob, outcome)
        return Packed(blob.digest, blob.size, outcome)

    async def _make(self, form: Form, packing: _Packing, upload: UploadId, pace: Pace) -> Outcome:
        await self._beneath.append(upload, 0, self._frames(packing, pace))
        if not packing.whole:
            self._log.error("a stored blob is damaged, and stays as it is", digest=str(form.digest))
            return "damaged"
        if packing.size > form.size * (1 - self.config.min_gain):
            return "gains nothing"
        digest = packing.digest
        await self._keep(form, packed=str(digest), packed_size=packing.size)
        await self._beneath.commit(upload, digest)
        complete = replace(form, packed=digest, packed_size=packing.size)
        if not await self._reader.verify(complete, pace):
            self._log.error("what was packed does not come back", digest=str(form.digest))
            return "failed"
        await self._keep(form, state="packed", original_left=True, upload=None)
        return "packed"

    async def _keep(self, form: Form, **values: Any) -> None:
        """Notes how far a form is. Raises `_EndedError` where it is not wanted any more."""
        if not await self._records.write(partial(forms.change, form=form, expected=["making"], **values)):
            raise _EndedError

    async def _frames(self, packing: _Packing, pace: Pace) -> AsyncIterator[bytes]:
        form = packing.form
        pack = CODECS[form.algorithm].packer(self.config.chosen_level)
        seen = time.monotonic()
        async for piece in _pieces(self._beneath.read(form.digest), form.frame_size):
            await pace.take(len(piece))
            self._measures.read.inc(len(piece))
            yield await self._in_thread(partial(packing.pack, pack, piece))
            if time.monotonic() - seen > BEAT_SECONDS:
                await self._keep(form)
                seen = time.monotonic()
        yield await self._in_thread(packing.finish)

    async def tidy(self) -> None:
        """Takes away what has had its time: originals that are packed, forms that are ended. Raises `Unavailable`."""
        if await self._records.read(forms.overdue):
            await self._records.write(forms.recover)
        while found := await self._records.read(forms.ending):
            for form in found:
                await self.clear(form)
        before = time.time() - self.config.keep_original_minutes * MINUTE
        while found := await self._records.read(partial(forms.unsettled, before=before)):
            for form in found:
                await self._settle(form)

    async def _settle(self, form: Form) -> None:
        """Takes the original of a packed blob away."""
        if await self._records.write(partial(forms.change, form=form, expected=["packed"], state="moving")):
            await self._beneath.delete(form.digest)
            done = partial(forms.change, form=form, expected=["moving"], state="packed", original_left=False)
            await self._records.write(done)

    async def release(self, form: Form) -> None:
        """Removes the packed form of a blob whose original lies beneath. Raises `Unavailable`."""
        if await self._records.write(partial(forms.change, form=form, expected=["packed", "moving"], state="ending")):
            await self.clear(form)

    async def clear(self, form: Form) -> None:
        """Removes what lies beneath of a form that is ending. Raises `Unavailable`."""
        one = await self._records.read(partial(forms.same, form=form))
        if one is None:
            return
        if one.upload is not None:
            await self._beneath.abort(UploadId(one.upload))
        if one.packed is not None and not one.pushed:
            await self._beneath.delete(one.packed)
        await self._records.write(partial(forms.change, form=form, expected=["ending"], state="released"))

    async def unpack(self) -> AsyncIterator[Packed]:
        """Brings every original back, and yields what came of each blob; goes on where it was ended.

        What is packed of a damaged blob stays. Raises `Unavailable`.
        """
        async with self._one:
            await self.tidy()
            place: Digest | None = None
            while found := await self._records.read(partial(forms.in_use, after=place)):
                for form in found:
                    yield await self._bring_back(form)
                place = found[-1].digest

    async def _bring_back(self, form: Form) -> Packed:
        if form.upload is not None:
            # Of a process that was killed.
            await self._beneath.abort(UploadId(form.upload))
        upload = await self._beneath.begin(form.digest.algorithm)
        change = partial(forms.change, form=form)
        try:
            if not await self._records.write(partial(change, expected=["packed"], upload=upload)):
                return Packed(form.digest, form.size, "gone")
            await self._beneath.append(upload, 0, self._reader.read(form))
            if not await self._records.write(partial(change, expected=["packed"], state="moving")):
                return Packed(form.digest, form.size, "gone")
            await self._beneath.commit(upload, form.digest)
        except BlobUnknown:
            return Packed(form.digest, form.size, "damaged")
        finally:
            await self._beneath.abort(upload)
        await self.release(form)
        return Packed(form.digest, form.size, "packed", form.packed_size)

    async def aclose(self) -> None:
        """Waits for what the thread is at, and ends it."""
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


async def _pieces(chunks: AsyncIterable[bytes], size: int) -> AsyncIterator[bytes]:
    """Yields the same bytes in pieces of ``size``, the last one shorter."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        taken = 0
        while len(held) - taken >= size:
            yield bytes(memoryview(held)[taken : taken + size])
            taken += size
        del held[:taken]
    if held:
        yield bytes(held)


async def pages(blobs: AsyncIterable[BlobStat]) -> AsyncIterator[list[BlobStat]]:
    """Yields what a scan yields in lists of at most `forms.PAGE`, none of them empty."""
    page: list[BlobStat] = []
    async for blob in blobs:
        page.append(blob)
        if len(page) == forms.PAGE:
            yield page
            page = []
    if page:
        yield page


def _be_nice() -> None:
    """Lets requests go first: on Linux a thread has a priority of its own (setpriority(2), "C library/kernel")."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
