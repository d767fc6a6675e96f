"""What must go on although the request that began it was cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

T = TypeVar("T")

SETTLE_SECONDS = 10.0
"""Longest time that a cancelled request waits for what it began; that then ends by itself."""

CLOSE_SECONDS = 30.0
"""Longest time that a store which is closed waits for what goes on."""


class Tasks:
    """The tasks of one store; for tasks of one loop."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._log = log

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begins something that ends by itself; what it raises comes out of the task for whoever waits for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def settle(self, work: Coroutine[Any, Any, T]) -> T:
        """Does something to its end, even if the caller is cancelled; for `SETTLE_SECONDS` at most from then on.

        Raises:
            asyncio.CancelledError: the caller was cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()
        task = self.start(work)
        cancelled: asyncio.CancelledError | None = None
        deadline = None
        while not task.done() and (deadline is None or loop.time() < deadline):
            try:
                await asyncio.wait((task,), timeout=None if deadline is None else deadline - loop.time())
            except asyncio.CancelledError as error:
                cancelled = error
                deadline = loop.time() + SETTLE_SECONDS if deadline is None else deadline
        if cancelled is not None:
            if not task.done():
                self._log.warning("a cancelled request still writes", seconds=SETTLE_SECONDS)
            raise cancelled
        return task.result()

    async def close(self) -> None:
        """Waits for what goes on, and ends what takes too long."""
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_SECONDS)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be left to ask for it
