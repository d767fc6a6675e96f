"""The audit trail as the core sees it: takes events, answers questions, and feeds the sinks."""

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from drift_audit.chain import Beginning, Key, append, begin, end_of
from drift_audit.config import AuditConfig
from drift_audit.delivery import Delivery
from drift_audit.measures import Measures
from drift_audit.notes import AwaitedNotes, BufferedNotes, Notes
from drift_audit.pages import pages_over
from drift_audit.record import Record, record_of
from drift_audit.retention import BrokenChainError, purge
from drift_audit.routes import routes_over
from drift_audit.selection import Selection
from drift_audit.sinks import sinks_of
from drift_core.api import AuditEvent, Credentials, RegistryError, Services, StartError, Unavailable, asking, pages

PURGE_SECONDS = 3600.0


class AuditTrail:
    """A feature that is told what was done, and has the routes to ask for it.

    ``records`` and ``key`` are what its commands work on.
    """

    name = "audit"

    def __init__(
        self, config: AuditConfig, services: Services, key: Key | None, beginning: Beginning, measures: Measures
    ) -> None:
        self.config = config
        self._beginning = beginning
        self.records = services.records
        self._key = key
        self._log = services.log
        self._selection = Selection(config)
        self._measures = measures
        self._required = config.required
        self._address = services.server.bind_addr
        # A command opens the trail, too, and must neither feed sinks nor say that a service has started.
        self._serving = services.serving
        self._notes: Notes = (
            AwaitedNotes(services.records, self._add, services.log)
            if config.required
            else BufferedNotes(
                services.records,
                self._add,
                config.buffer_size,
                config.flush_interval_seconds,
                self._measures,
                services.log,
            )
        )

    def record(self, db: Connection, event: AuditEvent) -> None:
        """Writes an event with what it tells; see `drift_core.api.Auditor`.

        Raises:
            Unavailable: it cannot be written, and has to be.
        """
        request = asking()
        if not self._selection.takes(event, request):
            return
        if self._required:
            self._append(db, record_of(event, request))
        elif not self._try_to_append(db, event, request):
            return
        self._measures.recorded.labels(event.type).inc()

    @property
    def key(self) -> Key:
        """The key of the chain; where no chain was begun yet, that of one without a key."""
        return self._key or Key(None)

    def _add(self, db: Connection, new: Sequence[Record]) -> None:
        key = self._key
        if key is None:
            try:
                # Not kept: what this begins is undone where the transaction is.
                key = begin(db, self._beginning, ())
            except StartError as error:
                raise Unavailable(str(error)) from error
        append(db, key, new)

    def _append(self, db: Connection, record: Record) -> None:
        try:
            self._add(db, [record])
        except DBAPIError as error:
            self._log.error("an event cannot be recorded", event_type=record.event_type, error=_reason(error))
            if isinstance(error, IntegrityError | ProgrammingError | DataError):
                # The plugin whose change it is would take it for its own.
                raise Unavailable("the audit trail cannot be written", reason=str(error.orig)) from error
            raise

    def _try_to_append(self, db: Connection, event: AuditEvent, request: Credentials | None) -> bool:
        # What a statement that fails has left must not be committed with the change.
        nested = db.begin_nested()
        try:
            self._add(db, [record_of(event, request)])
        except Exception as error:  # noqa: BLE001 - whatever it is, the change goes on
            self._measures.failed.inc()
            self._log.exception("an event cannot be recorded", event_type=event.type, error=_reason(error))
            # Where the database has ended the whole transaction, this raises, and the change is not made.
            nested.rollback()
            return False
        nested.commit()
        return True

    async def note(self, event: AuditEvent) -> None:
        """Keeps an event that no transaction does; see `drift_core.api.Auditor`.

        Raises:
            RegistryError: it cannot be written, and has to be.
        """
        request = asking()
        if not self._selection.takes(event, request):
            return
        await self._notes.add(record_of(event, request))
        self._measures.recorded.labels(event.type).inc()

    def pages(self) -> Sequence[pages.Page]:
        """See `SupportsPages`."""
        return pages_over(self)

    def routes(self) -> Sequence[Any]:
        """Returns the handlers below ``/api/audit``."""
        return routes_over(self.records)

    async def run(self, delivery: Delivery) -> None:
        """Writes what was noted, and in a server feeds the sinks and removes what is too old."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._notes.run())
            if not self._serving:
                return
            await self._tell("ServiceStarted")
            group.create_task(delivery.run())
            if self.config.retention_days is not None:
                group.create_task(self._purge(self.config.retention_days, delivery.names))

    async def stop(self) -> None:
        """Records that the server stops; `run` is still running."""
        if self._serving:
            await self._tell("ServiceStopped")

    async def close(self) -> None:
        """Writes what is left, after `run` has ended."""
        await self._notes.close()

    async def _tell(self, kind: str) -> None:
        event = AuditEvent(type=kind, resource_type="Service", resource_id=self._address)
        if not self._selection.takes(event, None):
            return
        try:
            await self._notes.add(record_of(event, None, {"pid": os.getpid()}))
        except RegistryError as error:
            self._log.error("an event cannot be recorded", event_type=kind, error=error.message)
        else:
            self._measures.recorded.labels(kind).inc()

    async def _purge(self, days: int, sink_names: Sequence[str]) -> None:
        while True:
            try:
                while count := await self.records.write(lambda db: purge(db, self.key, days, sink_names)):
                    self._log.info("removed old audit records", count=count)
            except BrokenChainError as error:
                self._log.error("old audit records stay: the chain is broken", error=str(error))
            except (RegistryError, DBAPIError) as error:
                self._log.warning("cannot remove old audit records now", error=_reason(error))
            # Not all workers at the same moment.
            await asyncio.sleep(PURGE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


def _reason(error: Exception) -> str:
    # SQLAlchemy's own text shows the values of the statement: the whole record.
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)


@asynccontextmanager
async def open_audit(config: AuditConfig, services: Services) -> AsyncGenerator[AuditTrail]:
    """Opens the trail, and begins its chain where there is none.

    Raises:
        StartError: the key cannot be used, or is not that of the chain; or the chain is gone.
    """
    sinks = sinks_of(config)
    measures = Measures(services.metrics)
    delivery = Delivery(services.records, sinks, measures, services.log)
    beginning = Beginning.of(config.key_file, anew=config.begin_anew)
    if services.serving or await services.records.read(lambda db: end_of(db, "last")) is not None:
        key = await services.records.write(lambda db: begin(db, beginning, delivery.names))
    else:
        # A command that only reads makes no trail: it would hide that one is gone.
        key = None
    trail = AuditTrail(config, services, key, beginning, measures)
    running = asyncio.create_task(trail.run(delivery))
    try:
        yield trail
    finally:
        await trail.stop()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await trail.close()
