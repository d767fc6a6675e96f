"""The registry as an ordinary Litestar application, for servers other than `drift serve` and applications of others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from litestar import Litestar, asgi

from drift_core.background import work_in_background
from drift_core.config import Config
from drift_core.errors import ConfigError
from drift_core.http.app import build_app
from drift_core.logs import configure_logs
from drift_core.metadata.nodes import this_process
from drift_core.plugins import load_plugins
from drift_core.protocols.transport import AsgiApp
from drift_core.runtime import open_runtime, prepare


def application(config: Config) -> Litestar:
    """Returns the application; its lifespan opens the database and the drivers, and works in the background.

    Raises:
        ConfigError: nobody has to log in, and the configuration does not say that this is meant: which address the
            server listens on is not known here.
    """
    if not structlog.is_configured():
        # The defaults of structlog show the values of variables, and with them credentials, in tracebacks.
        configure_logs(config.logging)
    if config.auth is None:
        raise ConfigError("auth", 'is missing; configure it, or write auth.mode = "none" to serve everybody')
    served: list[AsgiApp] = []

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        plugins = load_plugins(config)
        prepare(config, plugins)
        async with open_runtime(config, plugins) as runtime:
            served.append(build_app(config, runtime))
            background = asyncio.create_task(work_in_background(runtime, this_process(config), config))
            try:
                yield
            finally:
                served.clear()
                background.cancel()
                with suppress(asyncio.CancelledError):
                    await background

    @asgi("/", is_mount=True)
    async def registry(scope: Any, receive: Any, send: Any) -> None:
        await served[0](scope, receive, send)

    return Litestar([registry], lifespan=[lifespan], openapi_config=None, logging_config=None)
