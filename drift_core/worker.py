"""What one worker process does: opens the runtime, builds the application, and serves it on every transport."""

import asyncio
from collections.abc import Callable

import structlog

from drift_core.config import Config
from drift_core.errors import RegistryError, StartError
from drift_core.http.app import build_app
from drift_core.http.guard import Guard
from drift_core.plugins import load_plugins
from drift_core.registry.uploads import Uploads
from drift_core.runtime import open_runtime

EXPIRY_INTERVAL = 600.0
"""Seconds between two looks for uploads that have expired."""


async def serve(config: Config, index: int, ready: Callable[[], None]) -> None:
    """Serves until cancelled, then drains; calls ``ready`` when every transport accepts connections.

    The worker with ``index`` 0 also ends expired uploads. Raises `StartError` where it cannot start.
    """
    async with open_runtime(config, load_plugins(config)) as runtime:
        if not runtime.transports:
            message = "no transport is installed; drift-http-granian provides one"
            raise StartError(message)
        guard = Guard(runtime.authenticators, runtime.authorizers)
        app = build_app(runtime.registry, guard, runtime.features)
        waiting = len(runtime.transports)

        def one_ready() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                ready()

        async with asyncio.TaskGroup() as group:
            for transport in runtime.transports:
                group.create_task(transport.serve(app, one_ready))
            if index == 0:
                group.create_task(_expire_uploads(runtime.registry.uploads))


async def _expire_uploads(uploads: Uploads) -> None:
    log = structlog.get_logger("drift.uploads")
    while True:
        try:
            while expired := await uploads.expire():
                log.info("ended expired uploads", count=expired)
        except RegistryError as error:
            log.warning("cannot end expired uploads now", error=error.message)
        await asyncio.sleep(EXPIRY_INTERVAL)
