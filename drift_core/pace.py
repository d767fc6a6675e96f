"""Keeps work beside requests to a rate, so that clients do not notice it."""

from collections.abc import Awaitable, Callable

BURST_SECONDS = 1.0
"""How much of what was not used may be caught up with at once."""


class Pace:
    """A token bucket: ``rate`` in bytes per second, 0 for no limit. ``clock`` and ``sleep`` are in seconds."""

    def __init__(self, rate: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        # When all that was taken is paid for.
        self._paid_at = clock()

    async def take(self, size: int) -> None:
        """Returns when ``size`` bytes more are within the rate; a chunk may be larger than the burst."""
        if not self._rate:
            return
        now = self._clock()
        self._paid_at = max(self._paid_at, now - BURST_SECONDS) + size / self._rate
        if self._paid_at > now:
            await self._sleep(self._paid_at - now)
