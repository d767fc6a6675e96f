"""Notes pulls in memory, and writes them to the database about each minute: a pull neither waits for it nor fails."""

import asyncio
import time
from functools import partial
from itertools import islice

from structlog.typing import FilteringBoundLogger

from drift_core.api import Digest, Records, RegistryError
from drift_retention.ages import HOUR
from drift_retention.ledger import BATCH, sign, write_pulls
from drift_retention.measures import Measures

FLUSH_SECONDS = 60.0

MOST_NOTED = 20_000
"""Pulls that wait to be written, at most: some MB."""


class Recorder:
    """Keeps of each tag and digest the hour in which it was last pulled."""

    def __init__(self, records: Records, measures: Measures, log: FilteringBoundLogger) -> None:
        self._records = records
        self._measures = measures
        self._log = log
        self._noted: dict[tuple[str, str], int] = {}
        # What needs no other write in this hour.
        self._written: set[tuple[str, str]] = set()
        self._hour = 0
        self._lost = False
        self._signed_at: float | None = None
        self._full = asyncio.Event()

    def note(self, repository: str, digest: Digest, tags: tuple[str, ...]) -> None:
        """Notes a pull; where there is no room for it, it is counted, and recording begins anew."""
        # The end of the hour, so that nothing looks older than it is.
        hour = (int(time.time()) // HOUR + 1) * HOUR
        if hour != self._hour:
            self._hour = hour
            self._written.clear()
        for name in (str(digest), *tags):
            key = (repository, name)
            if key in self._written:
                continue
            if len(self._noted) >= MOST_NOTED and key not in self._noted:
                self._lost = True
                self._measures.lost.inc()
                continue
            self._noted[key] = hour
        if len(self._noted) >= MOST_NOTED // 2:
            self._full.set()

    async def run(self) -> None:
        """Writes what was noted, until cancelled."""
        while True:
            await self.flush()
            # Also where the database fails: it is asked again a minute later, or when half of the room is taken.
            try:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._full.wait()
            except TimeoutError:
                pass

    async def flush(self) -> None:
        """Writes what was noted; what cannot be written now stays noted."""
        self._full.clear()
        try:
            await self._sign()
            while self._noted:
                part = dict(islice(self._noted.items(), BATCH))
                await self._records.write(partial(write_pulls, noted=part))
                self._note_written(part)
        except RegistryError as error:
            self._log.warning("pulls cannot be recorded now", reason=error.message, waiting=len(self._noted))

    def _note_written(self, part: dict[tuple[str, str], int]) -> None:
        if len(self._written) >= MOST_NOTED:
            self._written.clear()
        for key, hour in part.items():
            # It may have been pulled in another hour meanwhile.
            if self._noted.get(key) == hour:
                del self._noted[key]
            if hour == self._hour:
                self._written.add(key)

    async def _sign(self) -> None:
        now, lost = time.time(), self._lost
        if not lost and self._signed_at is not None and now - self._signed_at < HOUR:
            return
        self._lost = False
        try:
            await self._records.write(partial(sign, now=now, lost=lost))
        except BaseException:
            self._lost = self._lost or lost
            raise
        self._signed_at = now
