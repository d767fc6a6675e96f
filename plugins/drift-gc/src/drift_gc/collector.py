"""The collector: what `Collector` promises, in batches, at a pace, and not more than a share of the registry."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from structlog.typing import FilteringBoundLogger

from drift_core.api import (
    Candidate,
    Collector,
    Contents,
    Denied,
    Digest,
    Removal,
    Services,
    SupportsRoots,
    SupportsSchedule,
)
from drift_gc.config import CollectorConfig
from drift_gc.measures import Measures
from drift_gc.pace import Clock, Pace

BATCH: Final = 5
"""Most removals in one transaction, for which others that write have to wait."""

REASONS: Final = {"blob": "no manifest needs it", "manifest": "no tag, index or subject reaches it"}


class OnlineCollector:
    """Holds no lock and no state between two runs: each batch is looked at again when it is removed."""

    def __init__(
        self, config: CollectorConfig, measures: Measures, log: FilteringBoundLogger, clock: Clock | None = None
    ) -> None:
        self.interval = config.interval_hours * 3600
        self.dry_run = config.dry_run
        self.dry_first = config.dry_first
        self._config = config
        self._measures = measures
        self._log = log
        self._clock = clock or Clock()
        # At a slow pace a whole batch would go at once, and then nothing for minutes.
        rate = config.removals_per_second
        self._batch = BATCH if rate == 0 else max(1, min(BATCH, int(rate)))

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        """See `Collector.collect`.

        Raises:
            Denied: it would remove too large a share; a dry run only logs that.
        """
        kept = {digest for source in roots async for digest in source.roots()}
        before = time.time() - self._config.grace_period_hours * 3600
        await self._check_share(contents, before, kept, dry_run=dry_run)
        pace = Pace(self._config.removals_per_second, self._clock)
        left = self._config.max_blobs_per_run
        async for batch in self._batches(contents, before, kept):
            removed = batch[:left] if dry_run else await self._remove(contents, batch[:left], pace)
            left -= len(removed)
            for candidate in removed:
                yield _removal(candidate)
            if left == 0:
                self._log.info("the run ends at its limit", max_blobs_per_run=self._config.max_blobs_per_run)
                return

    async def _batches(
        self, contents: Contents, before: float, kept: set[Digest]
    ) -> AsyncIterator[Sequence[Candidate]]:
        batch: list[Candidate] = []
        async for candidate in contents.unreached(before):
            if candidate.digest in kept:
                continue
            batch.append(candidate)
            if len(batch) == self._batch:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _remove(self, contents: Contents, batch: Sequence[Candidate], pace: Pace) -> Sequence[Candidate]:
        await pace.wait()
        removed = await contents.remove(batch)
        pace.went(len(removed))
        return removed

    async def _check_share(self, contents: Contents, before: float, kept: set[Digest], *, dry_run: bool) -> None:
        most, share = self._config.max_blobs_per_run, self._config.max_share
        if share == 1 or most < self._config.min_removals:
            return
        # With no more than the limit allows there is nothing to compare, however many there are.
        total = await contents.total(int(most / share) + 1)
        if most <= total * share:
            return
        count = 0
        async for batch in self._batches(contents, before, kept):
            count = min(most, count + len(batch))
            if count == most:
                break
        if count < self._config.min_removals or count <= total * share:
            return
        self._log.warning(
            "a run would remove too large a share", would_remove=count, total=total, max_share=share, dry_run=dry_run
        )
        if dry_run:
            return
        self._measures.refused_runs.inc()
        raise Denied(
            f"nothing was removed: the run would remove {count} of {total} manifests and blobs, more than"
            f" garbage_collector.max_share = {share:g} of them; look with `drift gc run --dry-run` at what would go,"
            " and if that is right, raise max_share for one run"
        )


def _removal(candidate: Candidate) -> Removal:
    return Removal(candidate.digest, candidate.size, REASONS[candidate.kind], candidate.kind, candidate.repository)


@asynccontextmanager
async def open_collector(config: CollectorConfig, services: Services) -> AsyncIterator[OnlineCollector]:
    """Opens the collector, which does nothing until it is asked."""
    yield OnlineCollector(config, Measures(services.metrics), services.log)


_collector: type[Collector] = OnlineCollector
_schedule: type[SupportsSchedule] = OnlineCollector
