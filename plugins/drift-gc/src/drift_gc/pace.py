"""Spreads removals over time, so that requests find the database free."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Clock:
    """Time that goes by: ``now`` in seconds since whenever, and a way to wait for some."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.now = now
        self.sleep = sleep


class Pace:
    """Lets ``per_second`` go on average, 0 being no limit; what was not used is not saved up."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._due = clock.now()

    async def wait(self) -> None:
        """Returns when the next may go."""
        pause = self._due - self._clock.now()
        if pause > 0:
            await self._clock.sleep(pause)

    def went(self, count: int) -> None:
        """Notes that so many went."""
        if self._per_second:
            self._due = max(self._due, self._clock.now()) + count / self._per_second
