"""Copies the blobs of the previous store to the new one, while servers use both."""

import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

from drift_core.errors import BlobUnknown, RegistryError, StorageFull
from drift_core.model import BlobStat
from drift_core.protocols.storage import BlobStore
from drift_core.registry.migrating import copy_blob, side_by_side

SHOWN_FAILURES = 100
"""Failures that a run keeps; of the others it keeps the count."""


class Copied(Struct, frozen=True):
    """A blob that is now in the new store, or why it is not; ``size`` in bytes."""

    digest: str
    size: int
    error: str | None = None


class Missing(Struct, frozen=True):
    """What the previous store has and the new one does not: how many blobs, and their bytes."""

    blobs: int
    size: int


class Migrated(Struct):
    """What a run has done so far, as the command tells it; sizes in bytes. Of failures only the first are kept."""

    copied: int = 0
    size: int = 0
    left: int = 0
    left_size: int = 0
    failed: int = 0
    failures: list[Copied] = []

    def add(self, item: Missing | Copied) -> None:
        """Counts what a run has yielded."""
        if isinstance(item, Missing):
            # What failed is tried again in the next round.
            self.left, self.left_size, self.failed, self.failures = item.blobs, item.size, 0, []
        elif item.error is None:
            self.copied += 1
            self.size += item.size
        else:
            self.failed += 1
            if len(self.failures) < SHOWN_FAILURES:
                self.failures.append(item)


class Migration:
    """One run. Memory is bounded by ``jobs``, the blobs that are copied at a time."""

    def __init__(self, new: BlobStore, previous: BlobStore, jobs: int) -> None:
        self._new = new
        self._previous = previous
        self._jobs = jobs

    async def run(self) -> AsyncIterator[Missing | Copied]:
        """Yields what is missing, then each blob when it is done, and so again until nothing more can be copied.

        The last thing that is yielded as missing is what is left: what a server that ended in the middle of a commit
        left behind is found in the second round. A blob that cannot be copied, such as a damaged one, is yielded with
        the reason, and the rest goes on; one that was deleted meanwhile is left out.

        Raises:
            StorageFull: there is no space in the new store.
            Unavailable: the stores cannot be listed.
        """
        progress = True
        while progress:
            progress = False
            yield await self.missing()
            async for copied in self._copy_all():
                progress = progress or copied.error is None
                yield copied

    async def missing(self) -> Missing:
        """Returns how much there is left to copy. Raises `Unavailable`."""
        blobs = size = 0
        async for stat in self._left():
            blobs += 1
            size += stat.size
        return Missing(blobs, size)

    async def _copy_all(self) -> AsyncIterator[Copied]:
        running: set[asyncio.Task[Copied | None]] = set()
        try:
            async for stat in self._left():
                running.add(asyncio.create_task(self._copy(stat)))
                if len(running) == self._jobs:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for copied in _results(done):
                        yield copied
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for copied in _results(done):
                    yield copied
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _left(self) -> AsyncIterator[BlobStat]:
        async for new, previous in side_by_side(self._new, self._previous):
            if new is None and previous is not None:
                yield previous

    async def _copy(self, stat: BlobStat) -> Copied | None:
        try:
            await copy_blob(self._previous, self._new, stat.digest)
        except BlobUnknown:
            return None
        except StorageFull:
            raise
        except RegistryError as error:
            return Copied(str(stat.digest), stat.size, error.message)
        return Copied(str(stat.digest), stat.size)


def _results(done: "set[asyncio.Task[Copied | None]]") -> list[Copied]:
    return [copied for copied in (task.result() for task in done) if copied is not None]
