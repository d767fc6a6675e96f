"""Removes the objects and multipart uploads that nothing names, once they are due."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, select, update

from drift_core.api import RegistryError
from drift_storage_s3.service import ObjectService
from drift_storage_s3.tables import garbage, now

SWEEP_SECONDS = 30.0
"""Between two looks for what is due, before jitter."""

TAKEN_SECONDS = 600.0
"""How long one process has for a batch before another one tries."""

BATCH = 1000


class Due(NamedTuple):
    """One thing to remove: an object, or with ``multipart`` a multipart upload and what may have become of it."""

    key: str
    multipart: str | None


class Sweeper:
    """Removes what is due of one store; several processes share the work, and do none of it twice but after a crash."""

    def __init__(self, service: ObjectService) -> None:
        self._service = service
        self._log = service.log

    async def run(self) -> None:
        """Sweeps until cancelled; what fails is tried again."""
        while True:
            # Not all processes at the same moment.
            await asyncio.sleep(SWEEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                while await self.sweep():
                    pass
            except RegistryError as error:
                self._log.warning("cannot remove unneeded objects now", error=error.message)
            except Exception as error:  # noqa: BLE001 - a defect here must not end the sweeps to come
                self._log.exception("a sweep failed and begins again", error=str(error))

    async def sweep(self) -> int:
        """Removes one batch of what is due and returns how many there were. Raises `Unavailable`."""
        if not await self._service.records.read(self._look):
            return 0
        batch = await self._service.records.write(self._take)
        if not batch:
            return 0
        objects = [due.key for due in batch]
        for due in batch:
            if due.multipart is not None:
                await self._service.threads.ask("abort", self._service.bucket.abort, due.key, due.multipart)
        await self._service.threads.ask("delete", self._service.bucket.delete, objects)
        await self._service.records.write(lambda db: self._forget(db, objects), concurrent=True)
        self._service.measures.swept.inc(len(batch))
        self._log.info("removed unneeded objects", count=len(batch))
        return len(batch)

    def _due(self, db: Connection) -> Any:
        moment = now(db)
        return and_(garbage.c.store == self._service.store, garbage.c.due < moment, garbage.c.taken_until < moment)

    def _look(self, db: Connection) -> bool:
        return db.execute(select(garbage.c.key).where(self._due(db)).limit(1)).first() is not None

    def _take(self, db: Connection) -> list[Due]:
        found = db.execute(
            select(garbage.c.key, garbage.c.multipart).where(self._due(db)).order_by(garbage.c.due).limit(BATCH)
        )
        batch = [Due(key, multipart) for key, multipart in found]
        self._mark(db, [due.key for due in batch])
        return batch

    def _mark(self, db: Connection, keys: Sequence[str]) -> None:
        taken = and_(garbage.c.store == self._service.store, garbage.c.key.in_(keys))
        db.execute(update(garbage).where(taken).values(taken_until=now(db) + TAKEN_SECONDS))

    def _forget(self, db: Connection, keys: Sequence[str]) -> None:
        db.execute(delete(garbage).where(garbage.c.store == self._service.store, garbage.c.key.in_(keys)))
