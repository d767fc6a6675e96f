"""Measures how long the database takes, whichever it is."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from drift_core.metadata.database import Database
from drift_core.metrics import Waits

T = TypeVar("T")


class Measured:
    """A `Database` around another one; what it takes counts as ``read`` and ``write``."""

    def __init__(self, database: Database, waits: Waits) -> None:
        self._database = database
        self._waits = waits
        # On the path of every pull: without a call of ours in between.
        self.version = database.version
        self.look = database.look
        self.check = database.check
        self.close = database.close

    @property
    def several_nodes(self) -> bool:
        """See `Database.several_nodes`."""
        return self._database.several_nodes

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        return await self._waits.of("read", self._database.read(query))

    async def write(self, change: Callable[[Connection], T], *, alone: bool = False, durable: bool = True) -> T:
        """See `Database.write`."""
        return await self._waits.of("write", self._database.write(change, alone=alone, durable=durable))
