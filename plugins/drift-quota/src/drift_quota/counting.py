"""The work beside requests: counts every repository once, then adds up what changes."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

from structlog.typing import FilteringBoundLogger

from drift_core.api import LocalRegistry, Records
from drift_quota.ledger import (
    FOLDED_AT_ONCE,
    Counted,
    count,
    counted_before,
    fold,
    mark_complete,
    uncounted,
)
from drift_quota.measures import Measures

FOLD_SECONDS = 2.0
"""How long changes lie before they are added up; the gate adds those that lie there itself."""

FOLD_EVERY = 100
"""Repositories that are counted between two folds."""


class Counting:
    """Counts and adds up; every method raises `Unavailable`."""

    def __init__(self, records: Records, measures: Measures, log: FilteringBoundLogger) -> None:
        self._records = records
        self._measures = measures
        self._log = log

    async def run(self, registry: LocalRegistry) -> None:
        """Works until cancelled.

        All are counted anew at the beginning, since nobody adds up what changes while the plugin is not enabled.
        """
        number = 0
        async for _ in self.count_all(registry):
            number += 1
            if number % FOLD_EVERY == 0:
                await self.fold()
        self._log.info("counted what every repository holds", repositories=number)
        while True:
            await self.fold()
            await asyncio.sleep(FOLD_SECONDS)

    async def count_all(self, registry: LocalRegistry) -> AsyncIterator[tuple[str, Counted]]:
        """Counts every repository, and yields each with what came of it."""
        began = time.time()
        async for repository in registry.repositories():
            yield repository, await self.count(repository)
        # Those of which the registry lists nothing any more.
        while left := await self._records.read(partial(counted_before, moment=began)):
            for repository in left:
                yield repository, await self.count(repository)
        await self._records.write(mark_complete)

    async def count(self, repository: str) -> Counted:
        """Counts what one repository holds."""
        counted = await self._records.write(partial(count, repository=repository))
        self._measures.counted.inc()
        if counted.before not in (None, counted.held):
            self._measures.corrected.inc()
            self._log.warning(
                "a repository held another size than was known",
                repository=repository,
                known=counted.before,
                held=counted.held,
            )
        return counted

    async def fold(self) -> None:
        """Adds up what has changed, and counts repositories that are new."""
        while repositories := await self._records.read(uncounted):
            for repository in repositories:
                await self.count(repository)
        while folded := await self._records.write(fold):
            self._measures.folded.inc(folded)
            if folded < FOLDED_AT_ONCE:
                return
