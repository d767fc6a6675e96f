"""The feature as the core sees it: takes events, keeps them for their targets, and sends them beside requests."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy.exc import DBAPIError

from drift_core.api import Action, Event, LocalRegistry, RegistryError, Services, Subscriber, SupportsBackground, pages
from drift_webhooks.config import Target, WebhooksConfig
from drift_webhooks.measures import Measures
from drift_webhooks.message import body_of
from drift_webhooks.pages import pages_over
from drift_webhooks.queue import STEP, add, overdue, purge
from drift_webhooks.routes import routes_over
from drift_webhooks.sending import DAY, Feed

PURGE_SECONDS = 3600.0


class Webhooks:
    """Its commands and pages work on ``config`` and ``records``."""

    name = "webhooks"

    def __init__(self, config: WebhooksConfig, services: Services) -> None:
        self.config = config
        self.records = services.records
        self._measures = Measures(services.metrics)
        self._log = services.log
        self.subscribed: Collection[Action] = {action for one in config.targets.values() for action in one.actions}
        self._wanted = [(name, _wanted(target)) for name, target in config.targets.items()]

    async def on_event(self, event: Event) -> None:
        """Keeps an event for each target that wants it; see `Subscriber`."""
        names = [
            name
            for name, wanted in self._wanted
            if event.action in self.config.targets[name].actions and wanted.fullmatch(event.repository)
        ]
        if names:
            body = body_of(event, self.config.source)
            await self.records.write(partial(add, targets=names, event_id=event.id, body=body, now=time.time()))

    async def work(self, registry: LocalRegistry) -> None:  # noqa: ARG002 - it needs none
        """See `SupportsBackground`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forget())
            for name, target in self.config.targets.items():
                group.create_task(Feed(name, target, self.config.source, self.records, self._measures, self._log).run())

    async def _forget(self) -> None:
        while True:
            now, left = time.time(), STEP
            try:
                while left == STEP:
                    left = await self.records.write(partial(overdue, added_before=now - 2 * DAY, now=now))
                left = STEP
                while left == STEP:
                    before = now - self.config.keep_days * DAY
                    left = await self.records.write(partial(purge, before=before, targets=list(self.config.targets)))
            except (RegistryError, DBAPIError) as error:
                self._log.warning("what is old cannot be forgotten now", error=str(error))
            await asyncio.sleep(PURGE_SECONDS)

    def routes(self) -> Sequence[Any]:
        """See `SupportsRoutes`."""
        return routes_over(self)

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)


def _wanted(target: Target) -> re.Pattern[str]:
    return re.compile("|".join(".*".join(map(re.escape, glob.split("*"))) for glob in target.repositories))


@asynccontextmanager
async def open_webhooks(config: WebhooksConfig, services: Services) -> AsyncIterator[Webhooks]:
    """Opens the feature; nothing is sent before `Webhooks.work`."""
    yield Webhooks(config, services)


_subscriber: type[Subscriber] = Webhooks
_background: type[SupportsBackground] = Webhooks
