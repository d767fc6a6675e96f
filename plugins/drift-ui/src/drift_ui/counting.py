"""Counts pulls in memory, and adds them up in the database every few seconds: a pull neither waits for it nor fails."""

import asyncio
import time
from functools import partial
from itertools import islice

from prometheus_client import CollectorRegistry, Counter
from structlog.typing import FilteringBoundLogger

from drift_core.api import Records
from drift_ui.indexing import BATCH, DAY, add_pulls

FLUSH_SECONDS = 10.0
MOST_NOTED = 20_000
"""Different (repository, tag, day) that wait to be written, at most: some MB."""


class Counting:
    """The pulls of one process. One that is killed takes with it what it has not written yet."""

    def __init__(self, records: Records, metrics: CollectorRegistry, log: FilteringBoundLogger) -> None:
        self._records = records
        self._log = log
        self._noted: dict[tuple[str, str, int], int] = {}
        self._lost = Counter("drift_ui_lost_pulls", "Pulls for which there was no room.", registry=metrics)

    def note(self, repository: str, tag: str) -> None:
        """Counts a pull; the tag is empty where it was by digest."""
        key = (repository, tag, int(time.time()) // DAY)
        number = self._noted.get(key)
        if number is None and len(self._noted) >= MOST_NOTED:
            self._lost.inc()
            return
        self._noted[key] = (number or 0) + 1

    async def run(self) -> None:
        """Writes what was counted, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Writes what was counted; what cannot be written now stays, whatever it is that fails."""
        try:
            while self._noted:
                part = dict(islice(self._noted.items(), BATCH))
                await self._records.write(partial(add_pulls, noted=part))
                for key, number in part.items():
                    # It may have been pulled meanwhile.
                    self._noted[key] -= number
                    if not self._noted[key]:
                        del self._noted[key]
        except Exception as error:  # noqa: BLE001 - a defect must not end the counting, nor what closes behind it
            self._log.warning("pulls cannot be counted now", reason=str(error), waiting=len(self._noted))
