"""Records events that no transaction does: many in one commit, before the answer or some time later."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from structlog.typing import FilteringBoundLogger

from drift_audit.measures import Measures
from drift_audit.record import Record, record_of
from drift_core.api import AuditEvent, Records, RegistryError, Unavailable

BATCH = 256
"""Most records of one commit: the more, the longer the first of them waits."""

REST_SECONDS = 1.0
"""How long to wait after a commit that failed."""

URGENT = frozenset({"Error", "Critical"})


Append = Callable[[Connection, Sequence[Record]], None]
"""Adds records to the chain in the transaction of the connection."""


class Notes(Protocol):
    """Takes records, one by one."""

    async def add(self, record: Record) -> None:
        """Keeps a record. Raises `RegistryError` where it cannot be kept and has to be."""
        ...

    async def run(self) -> None:
        """Writes what was added, until cancelled."""
        ...

    async def close(self) -> None:
        """Writes what is left, after `run` has ended."""
        ...


class AwaitedNotes:
    """Commits a record before `add` returns; those that wait together share a commit."""

    def __init__(self, records: Records, append: Append, log: FilteringBoundLogger) -> None:
        self._records = records
        self._append = append
        self._log = log
        self._waiting: list[tuple[Record, asyncio.Future[None]]] = []
        self._more = asyncio.Event()
        self._closed = False

    async def add(self, record: Record) -> None:
        """See `Notes`."""
        if self._closed:
            await write(self._records, self._append, [record])
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        self._more.set()
        await future

    async def run(self) -> None:
        """See `Notes`."""
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._waiting:
                    group, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                    await self._commit(group)
        finally:
            # Nobody would take what comes now.
            self._closed = True

    async def close(self) -> None:
        """See `Notes`."""
        self._closed = True
        group, self._waiting = self._waiting, []
        if group:
            await self._commit(group)

    async def _commit(self, group: Sequence[tuple[Record, asyncio.Future[None]]]) -> None:
        try:
            await write(self._records, self._append, [record for record, _ in group])
        except BaseException as error:
            known = error if isinstance(error, RegistryError) else Unavailable("the audit trail cannot be written")
            # One who left meanwhile changes nothing: the event happened.
            for _, future in group:
                if not future.done():
                    future.set_exception(copy(known))
            if not isinstance(error, Exception):
                raise
            unforeseen = None if isinstance(error, RegistryError) else error
            self._log.error("the audit trail cannot be written", error=str(error), exc_info=unforeseen)
        else:
            for _, future in group:
                if not future.done():
                    future.set_result(None)


class BufferedNotes:
    """Commits records some time later. What finds the buffer full is lost, counted, and told of in a record."""

    def __init__(
        self,
        records: Records,
        append: Append,
        size: int,
        seconds: float,
        measures: Measures,
        log: FilteringBoundLogger,
    ) -> None:
        self._records = records
        self._append = append
        self._size = size
        self._seconds = seconds
        self._measures = measures
        self._log = log
        self._buffer: deque[Record] = deque()
        self._flush = asyncio.Event()
        self._dropped = 0
        self._writing: asyncio.Task[bool] | None = None

    async def add(self, record: Record) -> None:
        """See `Notes`; raises nothing."""
        if len(self._buffer) >= self._size:
            if not self._dropped:
                self._log.warning("the audit buffer is full, and events are lost", buffer_size=self._size)
            self._dropped += 1
            self._measures.dropped.inc()
            return
        self._buffer.append(record)
        if record.severity in URGENT or len(self._buffer) >= self._size:
            self._flush.set()

    async def run(self) -> None:
        """See `Notes`."""
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._flush.wait()
            except TimeoutError:
                pass
            self._flush.clear()
            # What is written already would be written once more by `close`, were it cancelled before it is taken out.
            self._writing = asyncio.create_task(self._write_all())
            if not await asyncio.shield(self._writing):
                await asyncio.sleep(REST_SECONDS)
                self._flush.set()

    async def close(self) -> None:
        """See `Notes`."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if not await self._write_all():
            self._log.error("buffered audit events are lost", count=len(self._buffer))

    async def _write_all(self) -> bool:
        """Writes what is buffered now; returns False where that failed, and keeps it."""
        while self._buffer or self._dropped:
            group = [self._buffer[place] for place in range(min(BATCH, len(self._buffer)))]
            dropped = self._dropped
            lost = [_lost(dropped)] if dropped else []
            try:
                await write(self._records, self._append, [*group, *lost])
            except RegistryError as error:
                self._log.warning("the audit trail cannot be written now", error=error.message)
                return False
            for _ in group:
                self._buffer.popleft()
            self._dropped -= dropped
        return True


async def write(records: Records, append: Append, new: Sequence[Record]) -> None:
    """Appends records to the chain in a transaction of their own. Raises `RegistryError`."""
    try:
        # The chain has a lock of its own.
        await records.write(lambda db: append(db, new), concurrent=True)
    except DBAPIError as error:
        raise Unavailable("the audit trail cannot be written", reason=str(error.orig)) from error


def _lost(count: int) -> Record:
    return record_of(
        AuditEvent(
            type="AuditEventsDropped",
            severity="error",
            success=False,
            reason=f"{count} events were not recorded: the buffer was full",
            parameters={"count": count},
        ),
        None,
    )
