"""What a client was told is there stays until its manifest can have arrived, though nothing reaches it yet."""

import time
from collections import OrderedDict

from sqlalchemy import Connection

from drift_core.metadata import queries, reach
from drift_core.metadata.cache import QueryCache
from drift_core.metadata.database import Database
from drift_core.metadata.locks import shared
from drift_core.metadata.reach import Kind
from drift_core.metrics import Metrics
from drift_core.model import Digest

REMEMBERED = 100_000
"""Leases, and things that need none, which each worker remembers; about 20 MB each."""


class Leases:
    """Leases of blobs, or of manifests, for ``seconds``; for tasks of one loop.

    What a tag plainly reaches needs none: when that ends its time of grace begins, which is no shorter.
    """

    def __init__(self, database: Database, kind: Kind, seconds: float, metrics: Metrics) -> None:
        self._database = database
        self._kind: Kind = kind
        self._seconds = seconds
        self._reached = QueryCache[bool](database.version, REMEMBERED, lambda _: 1, metrics.lookups(f"{kind}_leases"))
        self._held: OrderedDict[tuple[str, Digest], float] = OrderedDict()

    async def take(self, repository: str, digest: Digest) -> bool:
        """Keeps something that a repository holds for at least half of the time; False where it does not hold it."""
        key = (repository, digest)

        async def load() -> bool:
            return await self._database.read(lambda db: self._is_reached(db, repository, digest))

        if await self._reached.get(key, load):
            return True
        now = time.monotonic()
        if now - self._held.get(key, -self._seconds) < self._seconds / 2:
            return True
        held = await self._database.write(lambda db: self._hold(db, repository, digest), durable=False)
        if held:
            self._held[key] = now
            if len(self._held) > REMEMBERED:
                self._held.popitem(last=False)
        return held

    def _is_reached(self, db: Connection, repository: str, digest: Digest) -> bool:
        row = queries.repository_id(db, repository)
        return row is not None and reach.is_plainly_reached(db, row, self._kind, digest)

    def _hold(self, db: Connection, repository: str, digest: Digest) -> bool:
        shared(db, f"repository:{repository}")
        row = queries.repository_id(db, repository)
        return row is not None and reach.hold(db, row, self._kind, digest)
