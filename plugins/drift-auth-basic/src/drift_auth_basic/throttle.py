"""How often somebody may guess: wrong passwords are counted, and too many end the trying for a while."""

import math
import time
from collections.abc import Callable

from drift_auth_basic.tally import Tally
from drift_core.api import TooManyRequests, network_of


class Throttle:
    """Counts for each user from each address, so that nobody locks a user out from elsewhere, and for each address.

    A right password ends the count of the user, not of the address: who has an account of their own could go on
    guessing otherwise.
    """

    def __init__(
        self,
        tally: Tally,
        per_user: int,
        per_address: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = _Failures(tally, per_user, seconds, clock)
        self._addresses = _Failures(tally, per_address, seconds, clock)

    def admit(self, name: str, address: str) -> None:
        """Returns where one more try is allowed. Raises `TooManyRequests`."""
        wait = max(self._users.wait(_of_user(name, address)), self._addresses.wait(_of_address(address)))
        if wait > 0:
            raise TooManyRequests("too many wrong passwords", retry_after=math.ceil(wait))

    def failed(self, name: str, address: str) -> bool:
        """Counts a wrong password, and returns whether it is the last one for a while."""
        # Both have to count.
        return any([self._users.add(_of_user(name, address)), self._addresses.add(_of_address(address))])

    def succeeded(self, name: str, address: str) -> None:
        """Forgets the wrong passwords of a user who has typed the right one."""
        self._users.forget(_of_user(name, address))


class _Failures:
    """Counts by key, each from its first failure for some seconds; ``limit`` 0 never makes anybody wait."""

    def __init__(self, tally: Tally, limit: int, seconds: float, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._limit = limit
        self._seconds = seconds
        self._clock = clock

    def wait(self, key: str) -> float:
        """Returns for how many seconds nothing more may be tried, 0 for none."""
        if not self._limit:
            return 0.0
        now = self._clock()
        count, ends = self._tally.count(key, now)
        return ends - now if count >= self._limit else 0.0

    def add(self, key: str) -> bool:
        """Counts one, and returns whether the limit is reached by it."""
        return bool(self._limit) and self._tally.add(key, self._clock(), self._seconds) == self._limit

    def forget(self, key: str) -> None:
        """Ends a count."""
        if self._limit:
            self._tally.forget(key, self._clock())


def _of_user(name: str, address: str) -> str:
    # No address has a line break, and no name.
    return f"{network_of(address)}\n{name}"


def _of_address(address: str) -> str:
    return network_of(address)
