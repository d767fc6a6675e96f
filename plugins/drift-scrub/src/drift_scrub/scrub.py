"""The feature as the core sees it: walks over the stored blobs again and again, beside requests."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from drift_core.api import Digest, LocalRegistry, Pace, Services, SupportsBackground, Unavailable, UsesRegistry, pages
from drift_scrub.config import ScrubConfig
from drift_scrub.measures import Measures
from drift_scrub.pages import pages_over
from drift_scrub.passes import Pass, finish, load, save
from drift_scrub.walking import Checked, Walk

DAY = 86_400.0
MEGABYTE = 1_000_000

SAVE_SECONDS = 5.0
"""Seconds of a pass that are done again where the process that did them dies."""

LOOK_SECONDS = 60.0
"""Seconds between two looks whether the next pass is due; a command may have made one meanwhile."""


class Scrub(UsesRegistry):
    """Its commands work on ``config``, ``records`` and `check`."""

    name = "scrub"

    def __init__(self, config: ScrubConfig, services: Services) -> None:
        self.config = config
        self.records = services.records
        self._measures = Measures(services.metrics)
        self._audit = services.audit
        self._log = services.log

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    async def work(self, registry: LocalRegistry) -> None:
        """See `SupportsBackground`."""
        while True:
            current = await self.records.read(partial(load, name="current"))
            last = await self.records.read(partial(load, name="last"))
            await self._tell(registry)
            if last is not None:
                self._measures.completed.set(last.updated_at)
            if current is None and last is not None:
                due = last.began_at + self.config.interval_days * DAY
                if time.time() < due:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
            try:
                await self._go_on(registry, current or Pass.new())
            except Unavailable as error:
                self._log.error("reading what is stored stopped, and goes on later", reason=error.message)
                await asyncio.sleep(LOOK_SECONDS)

    async def _go_on(self, registry: LocalRegistry, current: Pass) -> None:
        saved = time.monotonic()
        async for _ in self.check(registry, current, self.config.rate_mb_per_second):
            if time.monotonic() - saved >= SAVE_SECONDS:
                await self.records.write(partial(save, pass_=current))
                await self._tell(registry)
                saved = time.monotonic()
        await self.records.write(partial(finish, pass_=current))
        self._log.info(
            "every stored blob was read",
            blobs=current.checked,
            damaged=current.damaged,
            unreadable=current.unreadable,
        )

    async def check(self, registry: LocalRegistry, pass_: Pass, rate: float) -> AsyncIterator[Checked]:
        """Walks to the end of a pass, counts in it, and yields each blob; ``rate`` in millions of bytes per second.

        Raises `Unavailable`.
        """
        pace = Pace(rate * MEGABYTE, time.monotonic, asyncio.sleep)
        walk = Walk(registry, pace, self._measures, self._audit, self._log, asyncio.sleep)
        async for checked in walk.run(None if pass_.position is None else Digest(pass_.position)):
            if checked.outcome == "unreadable":
                pass_.unreadable += 1
            elif checked.outcome != "gone":
                pass_.checked += 1
                pass_.bytes_read += checked.size
            if checked.outcome == "damaged":
                pass_.damaged += 1
            pass_.position = str(checked.digest)
            yield checked

    async def _tell(self, registry: LocalRegistry) -> None:
        number = 0
        async for _ in registry.quarantined():
            number += 1
        self._measures.quarantined.set(number)


@asynccontextmanager
async def open_scrub(config: ScrubConfig, services: Services) -> AsyncIterator[Scrub]:
    """Opens the feature; nothing is read before `Scrub.work`."""
    yield Scrub(config, services)


_: type[SupportsBackground] = Scrub
