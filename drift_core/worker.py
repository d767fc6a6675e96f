"""What one worker process does: opens the runtime, builds the application, and serves it on every transport."""

import asyncio
import gc
from collections.abc import Callable

from drift_core.background import work_in_background
from drift_core.choosing import Slot
from drift_core.config import Config
from drift_core.errors import StartError
from drift_core.http.app import build_app
from drift_core.http.site import build_site
from drift_core.metadata.nodes import this_node
from drift_core.plugins import load_plugins
from drift_core.runtime import open_runtime


async def serve(config: Config, slot: Slot, ready: Callable[[], None]) -> None:
    """Serves until cancelled, then drains; calls ``ready`` when every transport accepts connections.

    The first worker speaks for the node, and stands for background work: the supervisor lets nobody else use this
    address, so that a new one of the same name is never beside the old. Raises `StartError` where it cannot start.
    """
    plugins = load_plugins(config)
    async with open_runtime(config, plugins, slot) as runtime:
        if not runtime.transports:
            message = "no transport is installed and enabled; drift-http-httptools provides one"
            raise StartError(message)
        app = build_app(config, runtime)
        stopping = asyncio.Event()
        site = build_site(config, runtime, plugins, app, stopping)
        waiting = len(runtime.transports) + len(runtime.sites.transports)
        # What is there now stays: the collector of cycles need not look at it again and again.
        gc.collect()
        gc.freeze()

        def one_ready() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                ready()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_tell_stop(stopping))
                for transport in runtime.transports:
                    group.create_task(transport.serve(app, one_ready))
                for transport in runtime.sites.transports:
                    group.create_task(transport.serve(site, one_ready))
                if slot.transport is None and slot.index == 0:
                    group.create_task(work_in_background(runtime, this_node(config), config))
        finally:
            app.measures.tell()


async def _tell_stop(stopping: asyncio.Event) -> None:
    """Says so when the transports begin to drain: they are cancelled together with this."""
    try:
        await asyncio.Event().wait()
    finally:
        stopping.set()
