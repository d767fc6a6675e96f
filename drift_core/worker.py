"""What one worker process does: opens the runtime, builds the application, and serves it on every transport."""

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from drift_core.background import work_in_background
from drift_core.config import Config
from drift_core.errors import StartError
from drift_core.http.app import build_app
from drift_core.plugins import load_plugins
from drift_core.runtime import open_runtime


async def serve(config: Config, index: int, ready: Callable[[], None]) -> None:
    """Serves until cancelled, then drains; calls ``ready`` when every transport accepts connections.

    The worker with ``index`` 0 stands for background work, too: the supervisor lets nobody else use this address, so
    that a new one of the same name is never beside the old. Raises `StartError` where it cannot start.
    """
    async with open_runtime(config, load_plugins(config)) as runtime:
        if not runtime.transports:
            message = "no transport is installed and enabled; drift-http-httptools provides one"
            raise StartError(message)
        app = build_app(config, runtime.registry, runtime.guard, runtime.features)
        waiting = len(runtime.transports)
        # What is there now stays: the collector of cycles need not look at it again and again.
        gc.collect()
        gc.freeze()

        def one_ready() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                ready()

        async with asyncio.TaskGroup() as group:
            for transport in runtime.transports:
                group.create_task(transport.serve(app, one_ready))
            if index == 0:
                holder = f"{_place()}/{config.server.bind_addr}"
                group.create_task(work_in_background(runtime, holder, config.plugins.subscriber_seconds))


def _place() -> str:
    """Names where an address can be used once: a network namespace of a machine that has not been started again.

    The name of the host alone would be that of two containers, too.
    """
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
