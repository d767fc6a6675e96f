"""The feature as the core sees it: notes pulls where a rule asks for them, drops tags again and again, and says why."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from drift_core.api import (
    PLUGIN,
    Action,
    Change,
    Gate,
    LocalRegistry,
    Services,
    SupportsBackground,
    SupportsRoutes,
    Tag,
    Unavailable,
    UsesRegistry,
    pages,
)
from drift_retention.ages import DAY, HOUR, LONGEST
from drift_retention.conditions import Pulls
from drift_retention.config import RetentionConfig
from drift_retention.dropping import Drop, Dropper
from drift_retention.judging import Judge, Judged
from drift_retention.ledger import BATCH, expire, forget, pulls_of
from drift_retention.measures import Measures
from drift_retention.pages import pages_over
from drift_retention.recording import Recorder
from drift_retention.routes import routes_over
from drift_retention.runs import Run, load, save

LOOK_SECONDS = 60.0
"""Seconds between two looks whether the next run is due; a command may have made one meanwhile."""


class Retention(UsesRegistry):
    """Its commands work on ``records``, `judge`, `drop` and `finish`."""

    name = "retention"

    def __init__(self, config: RetentionConfig, services: Services) -> None:
        self._config = config
        self._log = services.log
        self._measures = Measures(services.metrics)
        self._judge = Judge(config)
        self.records = services.records
        # What a command reads, such as an export, is no use of an image.
        recording = config.needs_pulls and services.serving
        self.recorder = Recorder(services.records, self._measures, services.log) if recording else None
        self.gated: Collection[Action] = ("manifest.pull",) if recording else ()

    async def admit(self, change: Change) -> None:
        """Notes a pull, and lets it happen; see `Gate`. What a plugin reads is no use of an image."""
        by_plugin = change.identity is not None and change.identity.source == PLUGIN
        if self.recorder is not None and change.digest is not None and not by_plugin:
            self.recorder.note(change.repository, change.digest, change.tags)

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        return routes_over(self)

    async def work(self, registry: LocalRegistry) -> None:
        """See `SupportsBackground`."""
        dry_run = self._config.dry_run
        while True:
            last = await self.records.read(partial(load, dry_run=dry_run))
            if last is not None:
                self._measures.ended.set(last.ended_at)
                if time.time() < last.began_at + self._config.interval_hours * HOUR:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
            run = Run(began_at=time.time())
            try:
                async for drop in self.run(registry, run, dry_run=dry_run):
                    if dry_run:
                        self._log.info("a tag would be dropped", repository=drop.repository, tag=drop.tag)
                await self.finish(run, dry_run=dry_run)
            except Unavailable as error:
                self._log.error("dropping tags stopped, and begins again later", reason=error.message)
                await asyncio.sleep(LOOK_SECONDS)

    async def run(self, registry: LocalRegistry, run: Run, *, dry_run: bool) -> AsyncIterator[Drop]:
        """Drops what no rule keeps in every repository, counts in ``run``, and yields what came of each such tag."""
        async for repository in registry.repositories():
            async for drop in self.drop(registry, repository, run, dry_run=dry_run):
                yield drop

    async def drop(self, registry: LocalRegistry, repository: str, run: Run, *, dry_run: bool) -> AsyncIterator[Drop]:
        """Drops what no rule keeps in one repository; see `run`. Raises `Unavailable`."""
        run.repositories += 1
        if not self._judge.has_rules(repository) and not self._config.needs_pulls:
            return
        tags, pulls = await self._known(registry, repository)
        judged = await self._judged(repository, tags, pulls)
        run.tags += len(judged)
        async for drop in Dropper(registry, self._measures, self._log, dry_run=dry_run).run(repository, judged):
            run.dropped += drop.outcome == "dropped"
            run.refused += drop.outcome == "refused"
            run.failed += drop.outcome == "failed"
            yield drop
        if not dry_run:
            gone = pulls.at.keys() - {tag.name for tag in tags} - {tag.digest for tag in tags}
            await self._forget(repository, sorted(gone), run.began_at - DAY)

    async def judge(self, registry: LocalRegistry, repository: str) -> list[Judged]:
        """Returns for each tag of a repository, by name, whether it is kept and why. Raises `Unavailable`."""
        tags, pulls = await self._known(registry, repository)
        return await self._judged(repository, tags, pulls)

    async def finish(self, run: Run, *, dry_run: bool) -> None:
        """Makes a run over every repository the last one."""
        run.ended_at = time.time()
        if not dry_run:
            while await self.records.write(partial(expire, before=run.began_at - LONGEST)) == BATCH:
                pass
        await self.records.write(partial(save, run=run, dry_run=dry_run))
        self._measures.ended.set(run.ended_at)
        self._log.info(
            "tags were judged",
            dry_run=dry_run,
            repositories=run.repositories,
            tags=run.tags,
            dropped=run.dropped,
            refused=run.refused,
            failed=run.failed,
        )

    async def _known(self, registry: LocalRegistry, repository: str) -> tuple[list[Tag], Pulls]:
        # Pulls first: of a tag that came meanwhile nothing is known, and it is young.
        needed = self._config.needs_pulls
        pulls = await self.records.read(partial(pulls_of, repository=repository)) if needed else Pulls()
        return [tag async for tag in registry.tags(repository)], pulls

    async def _judged(self, repository: str, tags: list[Tag], pulls: Pulls) -> list[Judged]:
        # A hundred thousand tags take a second.
        return await asyncio.to_thread(self._judge.judge, repository, tags, pulls, time.time())

    async def _forget(self, repository: str, names: list[str], before: float) -> None:
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            await self.records.write(partial(forget, repository=repository, names=part, before=before))


@asynccontextmanager
async def open_retention(config: RetentionConfig, services: Services) -> AsyncIterator[Retention]:
    """Opens the feature; nothing is dropped before `Retention.work`."""
    retention = Retention(config, services)
    recorder = retention.recorder
    if recorder is None:
        yield retention
        return
    running = asyncio.create_task(recorder.run())
    try:
        yield retention
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await recorder.flush()


_background: type[SupportsBackground] = Retention
_gate: type[Gate] = Retention
_routes: type[SupportsRoutes] = Retention
