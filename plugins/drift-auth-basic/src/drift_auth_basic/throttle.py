"""How often somebody may guess: wrong passwords are counted, and too many end the trying for a while."""

import math
import time
from collections.abc import Callable, Hashable
from typing import Final

from drift_core.api import TooManyRequests, network_of

MOST: Final = 20_000
"""How many users, and addresses, are counted at a time; beyond that the oldest counts are forgotten."""


class Throttle:
    """Counts for each user from each address, so that nobody locks a user out from elsewhere, and for each address.

    A right password ends the count of the user, not of the address: who has an account of their own could go on
    guessing otherwise.
    """

    def __init__(
        self, per_user: int, per_address: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._users = _Failures(per_user, seconds, clock)
        self._addresses = _Failures(per_address, seconds, clock)

    def admit(self, name: str, address: str) -> None:
        """Returns where one more try is allowed. Raises `TooManyRequests`."""
        network = network_of(address)
        wait = max(self._users.wait((name, network)), self._addresses.wait(network))
        if wait > 0:
            raise TooManyRequests("too many wrong passwords", retry_after=math.ceil(wait))

    def failed(self, name: str, address: str) -> bool:
        """Counts a wrong password, and returns whether it is the last one for a while."""
        network = network_of(address)
        # Both have to count.
        return any([self._users.add((name, network)), self._addresses.add(network)])

    def succeeded(self, name: str, address: str) -> None:
        """Forgets the wrong passwords of a user who has typed the right one."""
        self._users.forget((name, network_of(address)))


class _Failures:
    """Counts by key, each from its first failure for some seconds; ``limit`` 0 never makes anybody wait."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._counts: dict[Hashable, tuple[float, int]] = {}

    def wait(self, key: Hashable) -> float:
        """Returns for how many seconds nothing more may be tried, 0 for none."""
        ends, count = self._counts.get(key, (0.0, 0))
        return max(0.0, ends - self._clock()) if 0 < self._limit <= count else 0.0

    def add(self, key: Hashable) -> bool:
        """Counts one, and returns whether the limit is reached by it."""
        now = self._clock()
        # All windows are equally long: the oldest, which come first, are those that are over.
        while self._counts and (len(self._counts) >= MOST or next(iter(self._counts.values()))[0] <= now):
            del self._counts[next(iter(self._counts))]
        ends, count = self._counts.get(key, (now + self._seconds, 0))
        self._counts[key] = ends, count + 1
        return count + 1 == self._limit

    def forget(self, key: Hashable) -> None:
        """Ends a count."""
        self._counts.pop(key, None)
