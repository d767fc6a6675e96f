"""What the gate knows of usage: read again only after somebody has committed a change."""

import time
from functools import partial

from msgspec import Struct

from drift_core.api import Records
from drift_quota.ledger import Held, held

MOST = 10_000
"""Repositories of which a process remembers what they hold; beyond that the oldest are forgotten."""


SECONDS = 1.0
"""How long it is believed at most: within a command nobody asks PostgreSQL for the commits of others."""


class _Read(Struct, frozen=True):
    version: bytes
    at: float
    held: Held


class Watch:
    """What repositories hold, as of the last commit that this process knows of.

    Not a `Snapshot`, which loads whole tables, and may be a quarter of a second old: who pushes one blob after the
    other is refused at the first that does not fit.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: dict[str, _Read] = {}

    async def held(self, repository: str) -> Held:
        """Returns what a repository and its organization hold. Raises `Unavailable`."""
        # Before the query: what is committed while it runs has to be asked for again.
        version, now = self._records.version(), time.monotonic()
        known = self._known.get(repository)
        if known is not None and known.version == version and now - known.at < SECONDS:
            return known.held
        found = await self._records.read(partial(held, repository=repository))
        self._known.pop(repository, None)
        self._known[repository] = _Read(version, now, found)
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        return found
