"""Serves browsers on ``[server] ui_addr``: logs their requests, and hands them to the feature that is the console."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from drift_core.asking import answer
from drift_core.config import Config
from drift_core.errors import PluginError, RegistryError
from drift_core.http.access import ENDPOINT, RequestLog, defect, request_log
from drift_core.http.client import Clients
from drift_core.http.limits import Limits
from drift_core.http.message import ClientGone, Request, error_reply
from drift_core.http.pages import core_pages
from drift_core.metrics import Metrics
from drift_core.model import Identity
from drift_core.pages import Figure, Page
from drift_core.plugins import Plugins
from drift_core.protocols.access import Credentials
from drift_core.protocols.console import Console, Login, SupportsFigures, SupportsLogins, SupportsLogout, SupportsPages
from drift_core.protocols.features import SupportsSiteHeaders
from drift_core.protocols.transport import AsgiApp
from drift_core.registry.registry import Registry
from drift_core.runtime import Runtime

LOGINS = b"/auth/"
"""Below this path lie the routes by which browsers log in elsewhere."""

EVENTS = b"text/event-stream"

CORE = "core"
"""What stands in place of a plugin's name for pages of the core."""


def build_site(config: Config, runtime: Runtime, plugins: Plugins, app: RequestLog, stopping: asyncio.Event) -> AsgiApp:
    """Returns what is served on ``ui_addr``: ``app`` where nobody is the console, since it is then not served.

    The routes of ``app`` by which a browser logs in are answered there, too: a cookie is of the host that set it.
    ``stopping`` is set when the drain begins.
    """
    feature = runtime.sites.feature
    if feature is None or not runtime.sites.transports:
        return app
    made = _Pages(runtime.metrics)
    pages = [*made.of_core(config, runtime, plugins), *made.of_features(runtime.named_features)]
    logins = _logins(runtime)
    leaving = _Leaving(runtime.features)
    clients, limits = Clients(config.server.trusted_proxies), Limits(config.registry, runtime.guard)

    async def stands(identity: Identity, credentials: Credentials) -> bool:
        if runtime.registry.several_nodes:
            # A page that is kept up to date asks long after its request has looked.
            await runtime.registry.look()
        return await runtime.guard.stands(identity, credentials)

    try:
        console = Console(
            pages=pages,
            logins=logins,
            attempt=limits.admit_anybody,
            visit=limits.count,
            failed=made.failed,
            stands=stands,
            log_out=leaving.log_out,
            log_out_everywhere=leaving.log_out_everywhere,
            figures=partial(made.figures, runtime.named_features),
            stopping=stopping,
        )
        site = feature.site(console)
    except Exception as error:
        raise PluginError(f"the console: {type(error).__name__}: {error}") from error
    behind = _Logged(site, runtime.registry, clients)
    spoken = [one for one in runtime.features if isinstance(one, SupportsSiteHeaders)]
    headers = [header for feature in spoken for header in feature.site_headers]
    logged = request_log(behind, clients, app.measures, runtime.observers, headers)

    async def either(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("raw_path") or scope["path"].encode() if scope["type"] == "http" else b""
        if logins and path.startswith(LOGINS):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await logged(scope, receive, send)

    return either


class _Logged:
    """The console within the log: it is told who asks, and what it did not foresee is answered."""

    def __init__(self, site: AsgiApp, registry: Registry, clients: Clients) -> None:
        self._site = site
        self._registry = registry
        self._clients = clients

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"][ENDPOINT] = "console"
        begun = False

        async def begin(event: Any) -> None:
            nonlocal begun
            begun = True
            if event["type"] == "http.response.start" and (b"content-type", EVENTS) in event["headers"]:
                # How long somebody looks at a page is not how long the console takes.
                scope["state"][ENDPOINT] = "console-events"
            await send(event)

        try:
            if self._registry.several_nodes:
                await self._registry.look()
            credentials = self._clients.credentials(scope)
            scope["auth"] = credentials
            answer(credentials)
            await self._site(scope, receive, begin)
        except ClientGone:
            # Nobody is left to answer.
            return
        except Exception as error:
            if begun:
                raise
            told = error if isinstance(error, RegistryError) else defect(scope, error)
            await error_reply(told).send(Request(scope, receive), send)


class _Pages:
    """Makes the pages, and knows whose each is. Fails open: a plugin that cannot make its own is left out."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._plugins: dict[str, str] = {}

    def of_core(self, config: Config, runtime: Runtime, plugins: Plugins) -> Sequence[Page]:
        """Returns the core's."""
        pages = core_pages(config, runtime, plugins)
        self._plugins |= {page.path: CORE for page in pages}
        return pages

    def of_features(self, features: Sequence[tuple[str, object]]) -> Sequence[Page]:
        """Returns those of features; of two with one path the first."""
        found: list[Page] = []
        for plugin, feature in features:
            if not isinstance(feature, SupportsPages):
                continue
            try:
                pages = list(feature.pages())
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the pages of others are shown
                self._note(plugin, "its pages cannot be made", error)
                continue
            for page in pages:
                if page.path in self._plugins:
                    other = self._plugins[page.path]
                    self._note(plugin, "a page has the path of another", ValueError(f"{page.path} is that of {other}"))
                    continue
                self._plugins[page.path] = plugin
                found.append(page)
        return found

    async def figures(self, features: Sequence[tuple[str, object]]) -> Sequence[Figure]:
        """Returns those of features. Fails open, like pages."""
        found: list[Figure] = []
        for plugin, feature in features:
            if isinstance(feature, SupportsFigures):
                try:
                    found += await feature.figures()
                except Exception as error:  # noqa: BLE001 - whatever a plugin raises, those of others are shown
                    self._note(plugin, "its figures cannot be told", error)
        return found

    def failed(self, page: Page, error: Exception) -> None:
        """See `Console`; a page that is not known here is the console's own."""
        self._note(self._plugins.get(page.path, "console"), f"the page {page.path} cannot be shown", error)

    def _note(self, plugin: str, event: str, error: Exception) -> None:
        self._metrics.page_failures.labels(plugin).inc()
        log = structlog.get_logger("drift.pages", plugin=plugin)
        log.warning(event, error=f"{type(error).__name__}: {error}", exc_info=error)


class _Leaving:
    """Ends the logins that features keep beside that of the console."""

    def __init__(self, features: Sequence[object]) -> None:
        self._features = [feature for feature in features if isinstance(feature, SupportsLogout)]

    async def log_out(self, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """See `Console`."""
        return [header for feature in self._features for header in await feature.log_out(credentials)]

    async def log_out_everywhere(self, identity: Identity) -> None:
        """See `Console`."""
        for feature in self._features:
            await feature.log_out_everywhere(identity)


def _logins(runtime: Runtime) -> list[Login]:
    return [login for feature in runtime.features if isinstance(feature, SupportsLogins) for login in feature.logins]
