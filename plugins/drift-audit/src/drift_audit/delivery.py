"""Sends every record to every sink: at least once, in order, by one process at a time, and behind a restart."""

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from sqlalchemy import Connection, or_, select, update
from sqlalchemy.exc import DBAPIError
from structlog.typing import FilteringBoundLogger

from drift_audit.chain import end_of
from drift_audit.measures import Measures
from drift_audit.tables import records, sinks
from drift_core.api import Records, RegistryError

HOLD_SECONDS = 15.0
"""How long others wait for a process that says nothing any more."""

RENEW_SECONDS = 5.0
"""Between two renewals, and between two attempts to take over."""

LOOK_SECONDS = 0.25
"""How often to look whether anything was committed, which asks no disk."""

ASK_SECONDS = 1.0
"""How often to ask the database all the same: of what other nodes commit this one may not have heard."""

LONGEST_SECONDS = 60.0
"""Longest pause of a sink that is down, before jitter."""


class Item(Struct, frozen=True):
    """A record on its way: its place in the chain, and its bytes."""

    sequence: int
    content: bytes


class SinkError(Exception):
    """A sink did not take what it was sent; the message says why, and holds no secret."""


class Sink(Protocol):
    """One place to which records are sent. ``batch_size`` is the most it takes at once, ``attempts`` at least 1.

    ``attempts`` are made before the sink counts as down; each is given up after ``deadline_seconds``.
    """

    name: str
    batch_size: int
    attempts: int
    deadline_seconds: float

    async def send(self, items: Sequence[Item]) -> Sequence[int]:
        """Returns once all are taken, with the places of those that never will be.

        Raises:
            SinkError: the sink did not take them now; they are sent again.
        """
        ...

    async def close(self) -> None:
        """Gives back what the sink holds."""
        ...


class Delivery:
    """Feeds the sinks, each by a task of its own."""

    def __init__(self, records: Records, sinks_: Sequence[Sink], measures: Measures, log: FilteringBoundLogger) -> None:
        self._feeds = [_Feed(records, sink, measures, log) for sink in sinks_]
        self.names = tuple(sink.name for sink in sinks_)

    async def run(self) -> None:
        """Sends until cancelled, and then gives up what it holds."""
        async with asyncio.TaskGroup() as group:
            for feed in self._feeds:
                group.create_task(feed.run())


class _Lost(Exception):
    """Another process has taken over."""


class _Feed:
    """One sink, whenever this process holds it."""

    def __init__(self, records_: Records, sink: Sink, measures: Measures, log: FilteringBoundLogger) -> None:
        self._records = records_
        self._sink = sink
        self._log = log.bind(sink=sink.name)
        self._failures = measures.sink_failures.labels(sink.name)
        self._refusals = measures.sink_refusals.labels(sink.name)
        self._lag = measures.sink_lag.labels(sink.name)
        self._holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._held_until = 0.0
        self._position = 0
        self._pause = 0.0

    async def run(self) -> None:
        """Waits for its turn and sends; whatever fails begins again."""
        try:
            while True:
                try:
                    if await self._take():
                        await self._feed()
                except _Lost:
                    self._log.warning("another process feeds the sink now")
                except (RegistryError, DBAPIError) as error:
                    self._log.warning("the audit trail cannot be read now", error=str(error))
                except Exception as error:  # noqa: BLE001 - a defect in one sink must not end the others
                    self._log.exception("feeding the sink failed and begins again", error=str(error))
                self._held_until = 0.0
                await self._sink.close()
                await asyncio.sleep(RENEW_SECONDS)
        finally:
            await self._sink.close()
            await self._release()

    async def _take(self) -> bool:
        """Tries to become the one who feeds the sink; writes only where it is free."""
        mine = sinks.c.name == self._sink.name
        free = or_(sinks.c.holder.is_(None), sinks.c.held_until < _now())

        def look(db: Connection) -> bool:
            return db.execute(select(sinks.c.name).where(mine, free)).first() is not None

        def take(db: Connection) -> tuple[int, int] | None:
            hold = update(sinks).where(mine, free).values(holder=self._holder, held_until=_now(HOLD_SECONDS))
            if db.execute(hold).rowcount == 0:
                return None
            position = int(db.execute(select(sinks.c.position).where(mine)).scalar_one())
            last = end_of(db, "last")
            return position, position if last is None else last.sequence

        if not await self._records.read(look):
            return False
        asked = time.monotonic()
        taken = await self._records.write(take)
        if taken is None:
            return False
        position, last = taken
        if position > last:
            # The sink would be silent until the trail is there.
            self._log.error(
                "the position of the sink was set behind the end of the trail", position=position, last=last
            )
            position = last
        self._position, self._held_until, self._pause = position, asked + HOLD_SECONDS, 0.0
        return True

    async def _feed(self) -> None:
        while True:
            version = self._records.version()
            items, last = await self._records.read(self._next)
            self._lag.set(last - self._position)
            if not items:
                await self._wait_for_more(version)
                continue
            # Nobody else may send meanwhile: what takes longer than the hold is cut off, and sent again.
            await self._keep(self._position)
            if await self._send(items):
                await self._keep(items[-1].sequence)
                self._position, self._pause = items[-1].sequence, 0.0
                if len(items) < self._sink.batch_size:
                    # Each batch costs a commit: a few records more are worth the wait.
                    await asyncio.sleep(LOOK_SECONDS)
            else:
                await self._rest()

    def _next(self, db: Connection) -> tuple[list[Item], int]:
        behind = select(records.c.sequence, records.c.content).where(records.c.sequence > self._position)
        rows = db.execute(behind.order_by(records.c.sequence).limit(self._sink.batch_size))
        items = [Item(sequence, content) for sequence, content in rows]
        last = end_of(db, "last")
        return items, self._position if last is None else last.sequence

    async def _send(self, items: Sequence[Item]) -> bool:
        for attempt in range(self._sink.attempts):
            if attempt:
                await asyncio.sleep(_jittered(0.1 * 2**attempt))
                await self._keep(self._position)
            try:
                async with asyncio.timeout(self._sink.deadline_seconds):
                    refused = await self._sink.send(items)
            except (SinkError, OSError) as error:
                self._failures.inc()
                reason = str(error) or f"no answer within {self._sink.deadline_seconds:g} s"
                self._log.warning("the sink did not take audit records", error=reason, sequence=items[0].sequence)
            else:
                if refused:
                    self._refusals.inc(len(refused))
                    self._log.error("the sink will never take some audit records", sequences=list(refused))
                return True
        return False

    async def _rest(self) -> None:
        self._pause = min(LONGEST_SECONDS, max(1.0, self._pause * 2))
        until = time.monotonic() + _jittered(self._pause)
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, RENEW_SECONDS))
            await self._keep(self._position)

    async def _wait_for_more(self, version: bytes) -> None:
        began = time.monotonic()
        while self._records.version() == version and time.monotonic() - began < ASK_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if self._held_until - time.monotonic() < HOLD_SECONDS - RENEW_SECONDS:
                await self._keep(self._position)
                return

    async def _keep(self, position: int) -> None:
        """Writes how far the sink is, and holds it longer, where either is news. Raises `_Lost`."""
        asked = time.monotonic()
        if position == self._position and self._held_until - asked > HOLD_SECONDS - RENEW_SECONDS:
            return
        mine = (sinks.c.name == self._sink.name) & (sinks.c.holder == self._holder)
        change = update(sinks).where(mine).values(position=position, held_until=_now(HOLD_SECONDS))

        def keep(db: Connection) -> bool:
            return db.execute(change).rowcount > 0

        if not await self._records.write(keep):
            raise _Lost
        self._held_until = asked + HOLD_SECONDS

    async def _release(self) -> None:
        mine = (sinks.c.name == self._sink.name) & (sinks.c.holder == self._holder)
        if self._held_until:
            try:
                await self._records.write(lambda db: db.execute(update(sinks).where(mine).values(holder=None)).rowcount)
            except (RegistryError, DBAPIError) as error:
                self._log.warning("others wait for the sink", seconds=HOLD_SECONDS, error=str(error))


def _now(seconds: float = 0.0) -> int:
    return int((time.time() + seconds) * 1000)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
