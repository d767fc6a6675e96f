"""What a plugin keeps in memory of its tables: loaded again soon after they have changed, without a query otherwise."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Generic

from drift_core.protocols.records import Records, T


class Snapshot(Generic[T]):
    """Everything that decisions need of a plugin's tables, as of at most ``seconds`` ago; for tasks of one loop.

    ``revision`` is a cheap query whose result differs once the tables have changed, such as a counter that each
    change of them adds to; ``load`` is the expensive one. Both get a `sqlalchemy.Connection`.
    """

    def __init__(
        self,
        records: Records,
        revision: Callable[[Any], object],
        load: Callable[[Any], T],
        seconds: float = 0.25,
    ) -> None:
        self._records = records
        self._revision = revision
        self._load = load
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._version: bytes | None = None
        self._asked = 0.0
        self._known: tuple[object, T] | None = None

    async def get(self) -> T:
        """Returns what was loaded last; asks only where somebody has committed a change since.

        Raises `Unavailable` where the database does not answer: what is known may have been revoked.
        """
        known = self._known
        if known is not None and (
            self._version == self._records.version() or time.monotonic() - self._asked < self._seconds
        ):
            return known[1]
        async with self._lock:
            return await self._refreshed()

    async def refresh(self) -> None:
        """Makes the next `get` see what the caller has just changed."""
        async with self._lock:
            self._asked = 0.0
            # Not what `Records.version` is before anybody has looked.
            self._version = None

    async def _refreshed(self) -> T:
        if self._known is not None and time.monotonic() - self._asked < self._seconds:
            return self._known[1]
        # Before the query: what is committed while it runs has to be asked for again.
        began, version = time.monotonic(), self._records.version()

        def query(db: Any) -> tuple[object, T]:
            revision = self._revision(db)
            if self._known is not None and self._known[0] == revision:
                return self._known
            return revision, self._load(db)

        self._known = await self._records.read(query)
        self._asked, self._version = began, version
        return self._known[1]
