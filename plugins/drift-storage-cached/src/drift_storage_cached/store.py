"""The layer as the core sees it: a store before another one, which has copies of some blobs on this node's disk."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial

from drift_core.api import (
    BlobStat,
    BlobStore,
    Digest,
    Services,
    StartError,
    StoreLayer,
    SupportsLocalPath,
    SupportsStored,
    UploadId,
)
from drift_storage_cached.config import CachedConfig
from drift_storage_cached.filling import Filling, Making, Outcome
from drift_storage_cached.folder import Folder, Room
from drift_storage_cached.measures import Measures
from drift_storage_cached.threads import Threads, result_of

BLOCK = 1 << 20

FILLINGS = 16
"""Copies that a process makes at once; further pulls are not copied. Each may hold some MiB in memory."""

REST_SECONDS = 60.0
"""How long no copy is made after the disk was too slow: each pull would wait for it."""

DROP_SECONDS = 1.0
"""How long a push or a deletion waits for the disk of the copies."""

TOUCH_SECONDS = 60.0
"""A copy that is used is marked so once in this time."""

CLOSE_SECONDS = 10.0
"""How long a process that ends waits for copies that are nearly made."""


class NoCopyError(Exception):
    """There is no copy to read from, or not all of it."""


class PassingStore(StoreLayer):
    """See `SupportsStored`: for commands, which want to know what the store beneath has, and make no copies.

    They remove those of what they remove.
    """

    def __init__(self, folder: Folder, services: Services) -> None:
        super().__init__(services)
        self.folder = folder
        self.measures = Measures(services.metrics)
        self._log = services.log
        self._failing = False
        self._rests_until = 0.0
        self._writing = Threads("write", 4)

    def stored(self, digest: Digest) -> AsyncIterator[bytes]:
        """See `SupportsStored`."""
        if isinstance(self.beneath, SupportsStored):
            return self.beneath.stored(digest)
        return self.beneath.read(digest)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`; a push of the same bytes mends a copy, too: it is made anew."""
        made = await self.beneath.commit(upload, digest)
        await self.drop(digest)
        return made

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`; other nodes keep their copies until those make room, and the core gives them to nobody."""
        await self.drop(digest)
        await self.beneath.delete(digest)
        # Somebody may have read it between the two.
        await self.drop(digest)

    async def drop(self, digest: Digest) -> None:
        """Removes the copy of a blob, if there is one; a failure is logged, and no more.

        Where the disk hangs it is removed later, and nobody waits for it any more.
        """
        job = self._writing.begin(self.folder.drop, digest)
        if self.rests:
            return
        try:
            async with asyncio.timeout(DROP_SECONDS):
                self._tell(await result_of(job))
        except TimeoutError:
            self.rest()
        except OSError as error:
            self._failed(error)

    @property
    def rests(self) -> bool:
        """Whether the disk was just too slow, so that nobody should wait for it."""
        return time.monotonic() < self._rests_until

    def rest(self) -> None:
        """Lets the disk alone for a while."""
        self._rests_until = time.monotonic() + REST_SECONDS
        self._failed("the disk is too slow")

    def _tell(self, room: Room | None) -> None:
        if room is not None:
            self.measures.held.set(room.held)
            self.measures.evictions.inc(room.evicted)

    def _failed(self, error: OSError | str) -> None:
        """Counts a failure, and logs the first one after all was well."""
        self.measures.failures.inc()
        if not self._failing:
            self._failing = True
            self._log.warning("the cache of blobs fails; pulls go on without it", reason=str(error))

    async def aclose(self) -> None:
        """Ends the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._writing.close)


class CachedStore(PassingStore):
    """See `BlobStore`, `SupportsLocalPath` and `SupportsStored`: for whoever serves requests.

    A blob of which there is a copy is read from it, whatever became of the one beneath: whether anybody may still have
    it is known to the core. A whole blob that is read from beneath becomes a copy.
    """

    def __init__(self, config: CachedConfig, folder: Folder, services: Services) -> None:
        super().__init__(folder, services)
        self._blob_limit = config.blob_limit
        self._reading = Threads("read", 8)
        self._fillings: dict[Digest, Filling] = {}

    async def prepare(self, *, recount: bool) -> None:
        """Makes the folder ready, and brings what lies there within its limit beside all else. Raises OSError."""
        await self._writing.run(self.folder.prepare)

        def settle() -> None:
            try:
                self._tell(self.folder.settle(recount=recount))
            except OSError as error:
                self._failed(error)

        self._writing.begin(settle)

    def local_path(self, digest: Digest) -> str:
        """See `SupportsLocalPath`; there is a file where there is a copy."""
        path = self.folder.path(digest)
        try:
            found = os.stat(path)  # noqa: PTH116 - a Path costs more than the question
        except OSError:
            return path
        self._hit(path, found.st_mtime, found.st_size)
        return path

    def _hit(self, path: str, used: float, size: int) -> None:
        self.measures.hits.inc()
        self.measures.bytes.inc(size)
        if time.time() - used > TOUCH_SECONDS:
            self._reading.begin(_touch, path)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        at = start
        # Of nothing at all, and of what is no range, the store beneath has more to say.
        if start >= 0 and not self.rests and (stop is None or start < stop):
            try:
                async for chunk in self._read_copy(digest, start, stop):
                    at += len(chunk)
                    yield chunk
            except NoCopyError:
                pass
            except OSError as error:
                self._failed(error)
                await self.drop(digest)
            else:
                return
            self.measures.misses.inc()
        filling = self._fill(digest, at, stop)
        try:
            async for chunk in self.beneath.read(digest, at, stop):
                yield chunk
                if filling is not None:
                    await filling.add(chunk)
                    filling = self._unless_over(filling)
            if filling is not None:
                filling.finish()
        finally:
            if filling is not None:
                filling.leave()

    async def _read_copy(self, digest: Digest, start: int, stop: int | None) -> AsyncIterator[bytes]:
        """Yields a part of a copy, from one descriptor: it may be removed meanwhile. Raises `NoCopyError`, OSError."""
        path = self.folder.path(digest)
        opening = self._reading.begin(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            file = await result_of(opening)
        except FileNotFoundError:
            raise NoCopyError from None
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        job: Future[bytes] | None = None
        try:
            found = os.fstat(file)
            end = found.st_size if stop is None else stop
            if max(start, end) > found.st_size:
                # Cut short by somebody else, or no such range: the store beneath knows.
                await self.drop(digest)
                raise NoCopyError
            self._hit(path, found.st_mtime, end - start)
            while start < end:
                job = self._reading.begin(os.pread, file, min(BLOCK, end - start), start)
                chunk = await result_of(job)
                if not chunk:
                    raise NoCopyError
                start += len(chunk)
                yield chunk
        finally:
            if job is None or job.done():
                os.close(file)
            else:
                job.add_done_callback(lambda _: os.close(file))

    def _fill(self, digest: Digest, start: int, stop: int | None) -> Filling | None:
        """Returns what makes a copy of what is read, or None for what is to have none."""
        small = stop is None or 0 < stop <= self._blob_limit
        busy = digest in self._fillings or len(self._fillings) >= FILLINGS or self.rests
        if start or not small or busy:
            return None
        making = Making(self.folder, digest)
        filling = Filling(making, self._blob_limit, self._writing, partial(self._filled, digest))
        self._fillings[digest] = filling
        return filling

    def _unless_over(self, filling: Filling) -> Filling | None:
        if filling.outcome is None:
            return filling
        if filling.outcome == "slow":
            self.rest()
        return None

    def _filled(self, digest: Digest, filling: Filling, outcome: Outcome) -> None:
        if self._fillings.get(digest) is filling:
            del self._fillings[digest]
        if outcome == "failed" and filling.making.failure is not None:
            self._failed(filling.making.failure)
        elif filling.making.kept:
            self._failing = False
            self.measures.copies.inc()
        self._tell(filling.making.room)

    async def drop(self, digest: Digest) -> None:
        """See `PassingStore.drop`; a copy that is just being made is none either."""
        filling = self._fillings.get(digest)
        if filling is not None:
            filling.leave()
            if filling.ended is not None:
                await asyncio.wait({filling.ended}, timeout=0 if self.rests else DROP_SECONDS)
        await super().drop(digest)

    async def aclose(self) -> None:
        """Ends the threads, after the copies that are nearly made."""
        for filling in tuple(self._fillings.values()):
            filling.leave()
        ending = {filling.ended for filling in self._fillings.values() if filling.ended is not None}
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, self._reading.close)
        await super().aclose()


def _close_opened(opening: Future[int]) -> None:
    if opening.exception() is None:
        os.close(opening.result())


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        # It has just been removed, or lies on a disk that does not even take this: then it is not young, and goes.
        return


@asynccontextmanager
async def open_store(config: CachedConfig, services: Services) -> AsyncIterator[PassingStore]:
    """Opens the layer around the store that the services lend.

    Raises:
        StartError: there is no store beneath, or the folder cannot be used.
    """
    folder = Folder(config.path, config.limit)
    if not services.serving:
        passing = PassingStore(folder, services)
        try:
            yield passing
        finally:
            await passing.aclose()
        return
    store = CachedStore(config, folder, services)
    try:
        try:
            await store.prepare(recount=services.server.worker == 0)
        except OSError as error:
            message = f"storage.cached.path: {folder.root} cannot be used: {error.strerror or error} ({error.filename})"
            raise StartError(message) from error
        yield store
    finally:
        await store.aclose()


_: tuple[type[BlobStore], type[SupportsStored]] = (PassingStore, PassingStore)
__: tuple[type[BlobStore], type[SupportsLocalPath]] = (CachedStore, CachedStore)
