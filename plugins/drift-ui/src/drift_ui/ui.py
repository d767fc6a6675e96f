"""The feature as the core sees it: follows events, counts pulls, and serves browsers."""

import asyncio
import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

from drift_core.api import (
    Action,
    AsgiApp,
    Console,
    Event,
    LocalRegistry,
    Services,
    Subscriber,
    SupportsBackground,
    SupportsPulls,
    SupportsRegistry,
    SupportsSite,
    UsesRegistry,
    pages,
)
from drift_ui.config import UiConfig
from drift_ui.counting import Counting
from drift_ui.finding import Finding
from drift_ui.following import Following
from drift_ui.layers import Layers
from drift_ui.live import MostLive
from drift_ui.permitting import Permitting
from drift_ui.sessions import Sessions
from drift_ui.showing.bills import Bills
from drift_ui.showing.comparing import Comparing
from drift_ui.showing.dashboard import Dashboard
from drift_ui.showing.files import Files
from drift_ui.showing.manifests import Manifests
from drift_ui.showing.preferences import Preferences
from drift_ui.showing.repositories import Shelves
from drift_ui.showing.searching import Searching
from drift_ui.site import HostOf, Site


class Ui(UsesRegistry):
    """See `drift_core.api.SupportsSite`. Its lists are behind the registry by the moment that events take."""

    name = "ui"
    subscribed: Collection[Action] = ("manifest.push", "manifest.delete", "tag.delete")

    def __init__(self, config: UiConfig, services: Services) -> None:
        self._config = config
        self._services = services
        self.following = Following(services.records, services.log)
        counted = config.count_pulls and services.serving
        self.counting = Counting(services.records, services.metrics, services.log) if counted else None

    def pulled(self, repository: str, tag: str | None) -> None:
        """See `SupportsPulls`."""
        if self.counting is not None:
            self.counting.note(repository, tag or "")

    async def on_event(self, event: Event) -> None:
        """See `Subscriber`."""
        await self.following.take(self.registry, event)

    async def work(self, registry: LocalRegistry) -> None:
        """See `SupportsBackground`."""
        await self.following.work(registry)

    def site(self, console: Console) -> AsgiApp:
        """See `SupportsSite`."""
        sessions = Sessions(self._services.records, self._config)
        services = self._services
        host = HostOf(services.server.bind_addr, self._config.registry_host)
        most = MostLive(math.ceil(self._config.live_pages / services.server.workers), self._config.live_pages_per_user)
        own = self._pages(sessions, console)
        return Site(console, own, sessions, services.access, services.audit, host, most)

    def _pages(self, sessions: Sessions, console: Console) -> list[pages.Page]:
        """Returns the pages that the console has by itself, in the order of the menu."""
        registry, access, layers = self.registry, self._services.access, Layers()
        finding = Finding(self._services.records, Permitting(access))
        makers = (
            Dashboard(finding, access, console.figures),
            Shelves(finding),
            Searching(finding),
            Comparing(registry, layers, access, self._services.audit),
            Manifests(finding, registry),
            Files(registry, layers),
            Bills(registry),
            Preferences(sessions, console.log_out_everywhere),
        )
        return [page for maker in makers for page in maker.own()]


@asynccontextmanager
async def open_ui(config: UiConfig, services: Services) -> AsyncIterator[Ui]:
    """Opens the feature; nothing is served before `Ui.site`."""
    ui = Ui(config, services)
    if ui.counting is None:
        yield ui
        return
    running = asyncio.create_task(ui.counting.run())
    try:
        yield ui
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await ui.counting.flush()


_background: type[SupportsBackground] = Ui
_pulls: type[SupportsPulls] = Ui
_registry: type[SupportsRegistry] = Ui
_site: type[SupportsSite] = Ui
_subscriber: type[Subscriber] = Ui
