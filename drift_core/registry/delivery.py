"""Tells subscribers what was committed: at least once, in order for each repository, from the outbox."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from functools import partial

import structlog
from msgspec import Struct

from drift_core.errors import Unavailable
from drift_core.failures import is_failure, within
from drift_core.metadata import outbox
from drift_core.metadata.database import Database
from drift_core.metadata.lease import Lease
from drift_core.metrics import Metrics
from drift_core.model import Action, Event
from drift_core.protocols.changes import Subscriber

BATCH = 200
"""Events that are read at a time."""

POLL_SECONDS = 0.1
"""Between two looks whether anything was committed, each about 3 us with SQLite and a question with PostgreSQL."""

FIRST_DELAY, LONGEST_DELAY = 1.0, 300.0
"""Seconds until an event that was not taken is told again: at first, and at most."""

BREAK_AFTER = 5
"""Failures in a row after which a subscriber is left alone for a while, whatever the repository."""

PURGE_SECONDS = 60.0
"""Between two removals of events that everybody took."""


class NamedSubscriber(Struct, frozen=True):
    """A subscriber, its plugin, and the actions that it wants; ``name`` is what its position is kept under."""

    name: str
    plugin: str
    actions: frozenset[Action]
    subscriber: Subscriber


class _Pause:
    """How long something that failed is left alone: twice as long each time."""

    def __init__(self) -> None:
        self.until = 0.0
        self._delay = FIRST_DELAY

    def longer(self) -> None:
        self.until = time.monotonic() + self._delay
        self._delay = min(self._delay * 2, LONGEST_DELAY)

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until


class _Line:
    """Events of one repository that wait for a subscriber, in order, since it did not take the first."""

    def __init__(self) -> None:
        self.events: deque[int] = deque()
        self.pause = _Pause()


class Delivery:
    """The delivery of every event to every subscriber, by the holder of ``lease``.

    Whoever lost the lease without knowing it yet may tell a subscriber something once more, but writes no position.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        subscribers: Sequence[NamedSubscriber],
        seconds: float,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._lease = lease
        self._metrics = metrics
        self._subscribers = subscribers
        self._seconds = seconds

    async def run(self) -> None:
        """Delivers until cancelled; a database that does not answer is asked again."""
        async with asyncio.TaskGroup() as group:
            for subscriber in self._subscribers:
                stream = _Stream(self._database, self._lease, subscriber, self._seconds, self._metrics)
                group.create_task(stream.run())
            group.create_task(self._purge())

    async def _purge(self) -> None:
        active = [subscriber.name for subscriber in self._subscribers]
        log = structlog.get_logger("drift.events")
        while True:
            await asyncio.sleep(PURGE_SECONDS)
            try:
                removed = BATCH
                while removed == BATCH:
                    removed = await self._lease.write(lambda db: outbox.purge(db, active, BATCH))
            except Unavailable as error:
                log.warning("cannot remove old events now", error=error.message)


class _Stream:
    """Everything that one subscriber is told."""

    def __init__(
        self, database: Database, lease: Lease, subscriber: NamedSubscriber, seconds: float, metrics: Metrics
    ) -> None:
        self._database = database
        self._lease = lease
        self._name = subscriber.name
        self._subscriber = subscriber.subscriber
        self._actions = subscriber.actions
        self._seconds = seconds
        self._taken = metrics.events_taken.labels(subscriber.name)
        self._took = metrics.event_seconds.labels(subscriber.name)
        self._failed = metrics.event_failures.labels(subscriber.name)
        self._position = 0
        self._lines: defaultdict[str, _Line] = defaultdict(_Line)
        self._failures = 0
        self._breaker = _Pause()
        self._log = structlog.get_logger("drift.events", plugin=subscriber.plugin, subscriber=subscriber.name)

    async def run(self) -> None:
        resumed, seen = False, b""
        while True:
            try:
                if not resumed:
                    await self._resume()
                    resumed = True
                # Asked before the events are read: what is committed meanwhile is seen in the next round.
                await self._database.look()
                version = self._database.version()
                if self._breaker.over and (version != seen or any(line.pause.over for line in self._lines.values())):
                    seen = version if await self._round() else b""
            except Unavailable as error:
                self._log.warning("cannot deliver events now", error=error.message)
                # What is parked is what the database says, whatever was about to be written.
                resumed = False
                await asyncio.sleep(FIRST_DELAY)
            await asyncio.sleep(POLL_SECONDS)

    async def _resume(self) -> None:
        self._position = await self._lease.write(lambda db: outbox.subscribe(db, self._name))
        self._lines.clear()
        for repository, event in await self._database.read(lambda db: outbox.parked(db, self._name)):
            self._lines[repository].events.append(event)

    async def _round(self) -> bool:
        """Tells what is due, then what is new; returns whether nothing new is left."""
        for repository, line in list(self._lines.items()):
            if line.pause.over and self._breaker.over:
                await self._tell_line(repository, line)
        until = await self._database.read(lambda db: outbox.settled(db, self._position))
        found = await self._database.read(lambda db: outbox.events_after(db, self._position, until, BATCH))
        position, parked = self._position, []
        for event in found:
            if not self._breaker.over:
                break
            if event.repository in self._lines or not await self._tell(event):
                self._lines[event.repository].events.append(event.id)
                parked.append(event.id)
            position = event.id
        if position != self._position:
            await self._lease.write(lambda db: outbox.advance(db, self._name, position, parked))
            self._position = position
        return not found

    async def _tell_line(self, repository: str, line: _Line) -> None:
        while line.events:
            identifier = line.events[0]
            event = await self._database.read(partial(outbox.event, identifier=identifier))
            if event is not None and not await self._tell(event):
                return
            await self._lease.write(partial(outbox.unpark, subscriber=self._name, identifier=identifier))
            line.events.popleft()
        del self._lines[repository]

    async def _tell(self, event: Event) -> bool:
        if event.action not in self._actions:
            return True
        began = time.perf_counter()
        try:
            await within(self._seconds, self._subscriber.on_event(event))
        except BaseException as error:
            # Whatever a subscriber raises, it is told again.
            if not is_failure(error):
                raise
            self._failed.inc()
            pause = self._lines[event.repository].pause
            pause.longer()
            self._failures += 1
            if self._failures >= BREAK_AFTER:
                self._breaker.longer()
            self._log.warning(
                "an event was not taken and will be told again",
                event_id=event.id,
                repository=event.repository,
                error=f"{type(error).__name__}: {error}",
                failures_in_a_row=self._failures,
            )
            return False
        finally:
            self._took.observe(time.perf_counter() - began)
        self._taken.inc()
        self._failures = 0
        self._breaker = _Pause()
        return True
