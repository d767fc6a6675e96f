"""What the supervisor runs in its tests, by name; each worker writes what happens to it into a folder."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from drift_core.choosing import Slot
from drift_core.config import Config, load
from drift_core.errors import StartError
from drift_core.logs import configure_logs
from drift_core.supervisor import supervise

FOLDER = Path(os.environ.get("DRIFT_TEST_FOLDER", "."))
SLOTS = [Slot(None, 0, 2), Slot(None, 1, 2), Slot("own", 0, 1)]


async def good(_config: Config, slot: Slot, ready: Callable[[], None]) -> None:
    """Runs until it is cancelled, and then for a little longer."""
    (FOLDER / f"started-{slot}-{os.getpid()}").touch()
    ready()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.5)
        (FOLDER / f"drained-{slot}").touch()
        raise


async def refusing(_config: Config, _slot: Slot, _ready: Callable[[], None]) -> None:
    """Cannot start, as where a driver cannot be opened inside a task group."""
    message = "the moon is not reachable"
    async with asyncio.TaskGroup():
        raise StartError(message)


async def half_refusing(config: Config, slot: Slot, ready: Callable[[], None]) -> None:
    """Serves, but for the transport with a process of its own."""
    if slot.transport is None:
        await good(config, slot, ready)
    await asyncio.sleep(1)
    message = "the moon is not reachable"
    raise StartError(message)


async def stubborn(config: Config, slot: Slot, ready: Callable[[], None]) -> None:
    """Does not end when it is asked."""
    while True:
        try:
            await good(config, slot, ready)
        except asyncio.CancelledError:
            (FOLDER / "ignored").touch()


def main() -> None:
    """Supervises the worker that the first argument names; the others are overrides."""
    settings = load(None, {}, sys.argv[2:])
    configure_logs(settings.logging)
    try:
        raise SystemExit(supervise(settings, SLOTS, globals()[sys.argv[1]]))
    except StartError as error:
        raise SystemExit(f"failed: {error}") from error
