"""How many requests somebody may make in an hour: one account per identity or address, shared by all workers."""

import math
import mmap
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from secrets import token_bytes

from msgspec import Struct

from drift_core.address import network_of
from drift_core.config import RegistryConfig
from drift_core.errors import TooManyRequests
from drift_core.guard import Guard
from drift_core.model import AuditEvent, Identity, Scope
from drift_core.protocols.access import Credentials

HOUR = 3600.0
ENTRY = struct.Struct("=Qd")
ENTRIES = 1 << 16
PROBED = 8
"""How many entries an account may lie in; where all are in use the one that is free first is given up."""

TOLD_SECONDS = 60.0
TOLD = 1000
"""How often, and of how many at a time, the audit trail is told that somebody is refused."""


class Accounts:
    """When each account is even again, in memory that forked workers share: made before they are forked.

    Two workers that count at the same moment may count one request for two; nobody waits for a lock.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ENTRIES * ENTRY.size)
        # Nobody outside may choose who shares an entry with whom.
        self._key = token_bytes(16)

    def spend(self, name: str, interval: float, burst: float, now: float) -> float:
        """Counts a request, and returns 0; or counts nothing and returns the seconds until one is allowed.

        In the long run one is allowed each ``interval`` seconds, and ``burst`` at once (the generic cell rate
        algorithm: ITU-T I.371, annex A).
        """
        digest = blake2b(name.encode(), digest_size=8, key=self._key).digest()
        tag = int.from_bytes(digest, "little") or 1
        place, even = self._find(tag)
        even = max(even, now)
        wait = even - now - interval * (burst - 1)
        # A part of a second that the clock does not show must not refuse the last request of a burst.
        if wait > 1e-6:  # noqa: PLR2004 - a microsecond
            return wait
        ENTRY.pack_into(self._memory, place, tag, even + interval)
        return 0.0

    def _find(self, tag: int) -> tuple[int, float]:
        earliest, found = math.inf, 0
        for step in range(PROBED):
            place = (tag + step) % ENTRIES * ENTRY.size
            known, even = ENTRY.unpack_from(self._memory, place)
            if known == tag:
                return place, even
            if even < earliest:
                earliest, found = even, place
        return found, 0.0


ACCOUNTS = Accounts()


class Rate(Struct, frozen=True):
    """So many requests in an hour, so many of them at once; 0 is any number."""

    per_hour: int
    burst: int


class Limits:
    """The limits of ``[registry]``: of identities, of addresses that nobody is known from, and of public endpoints."""

    def __init__(self, table: RegistryConfig, guard: Guard, clock: Callable[[], float] = time.monotonic) -> None:
        def rate(per_hour: int | None) -> Rate:
            chosen = table.rate_limit_per_hour if per_hour is None else per_hour
            return Rate(chosen, chosen if table.rate_limit_burst is None else table.rate_limit_burst)

        self._identified = rate(None)
        self._anonymous = rate(table.anonymous_rate_limit_per_hour)
        self._public = rate(table.login_rate_limit_per_hour)
        self._guard = guard
        self._clock = clock
        self._told: OrderedDict[str, float] = OrderedDict()
        self.off = not (self._identified.per_hour or self._anonymous.per_hour or self._public.per_hour)

    async def admit(self, credentials: Credentials, scopes: Sequence[Scope]) -> Identity | None:
        """Returns who asks, as `Guard.admit` does, and counts the request; one that is refused, for its address.

        Who is only told to log in is not counted: clients begin like that. Raises `TooManyRequests`; and what
        `Guard.admit` does.
        """
        anonymous = partial(self.count, credentials, None)
        identity = await self._guard.admit(credentials, scopes, anonymous)
        await self.count(credentials, identity)
        return identity

    async def count(self, credentials: Credentials, identity: Identity | None) -> None:
        """Counts a request of somebody who is known, or of an address. Raises `TooManyRequests`."""
        if identity is None:
            await self._spend(self._anonymous, f"address {network_of(credentials.client_address)}", None)
        else:
            await self._spend(self._identified, f"identity {identity.name}", identity)

    async def admit_anybody(self, credentials: Credentials) -> None:
        """Counts a request to an endpoint that asks nobody, such as a login. Raises `TooManyRequests`."""
        await self._spend(self._public, f"public {network_of(credentials.client_address)}", None)

    async def _spend(self, rate: Rate, name: str, identity: Identity | None) -> None:
        if not rate.per_hour:
            return
        now = self._clock()
        wait = ACCOUNTS.spend(name, HOUR / rate.per_hour, rate.burst, now)
        if not wait:
            return
        reason = f"more than {rate.per_hour} requests in an hour"
        if now - self._told.get(name, -math.inf) > TOLD_SECONDS:
            self._told[name] = now
            self._told.move_to_end(name)
            if len(self._told) > TOLD:
                self._told.popitem(last=False)
            await self._guard.trail.note(
                AuditEvent(
                    type="RateLimitExceeded",
                    severity="warning",
                    success=False,
                    reason=reason,
                    identity=identity,
                    resource_id=name,
                )
            )
        raise TooManyRequests(reason, math.ceil(wait), limit=rate.per_hour)
