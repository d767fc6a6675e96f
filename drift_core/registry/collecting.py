"""Runs the collector on the registry, and says what it did: in the database, in metrics, to the audit trail."""

import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Literal

import structlog
from msgspec import Struct, structs
from sqlalchemy import Connection

from drift_core import __version__
from drift_core.errors import RegistryError, Unavailable, Unsupported
from drift_core.metadata import reach, runs
from drift_core.metadata.database import Database
from drift_core.metadata.nodes import versions_of_nodes
from drift_core.metadata.runs import Run, State
from drift_core.metadata.survey import waiting
from drift_core.metrics import Metrics
from drift_core.model import AuditEvent, Identity
from drift_core.protocols.collection import Collector, Removal, SupportsRoots
from drift_core.registry.changes import Changes
from drift_core.registry.contents import RegistryContents, Write
from drift_core.registry.rules import Rules

NOTE_SECONDS = 1.0
"""Between two notes of how far a run has come."""

SHOWN_RUNS = 10

BeganBy = Literal["schedule", "request", "command"]
"""Who wanted a run: the configuration, `POST /admin/gc`, or `drift gc run`."""


class Report(Struct, frozen=True, kw_only=True):
    """What a run did; in a dry run, what it would have deleted, and nothing was freed. Sizes in bytes."""

    orphaned_blobs_found: int = 0
    orphaned_manifests_found: int = 0
    blobs_deleted: int = 0
    manifests_deleted: int = 0
    bytes_freed: int = 0
    run_duration_seconds: float = 0.0


class Status(Struct, frozen=True, kw_only=True):
    """How the collector is configured, how many things may wait for it, and the last runs, the newest first."""

    status: Literal["configured", "not_configured"]
    settings: dict[str, Any]
    waiting: int
    runs: list[Run]


class Collecting:
    """Runs at the same time are harmless: each thing is removed once, in a transaction that looks at it again."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        changes: Changes,
        collector: Collector | None,
        settings: dict[str, Any],
        roots: Sequence[SupportsRoots],
        metrics: Metrics,
    ) -> None:
        self.collector = collector
        self._database = database
        self._rules = rules
        self._changes = changes
        self.settings = settings
        self._roots = tuple(roots)
        self._metrics = metrics
        self._log = structlog.get_logger("drift.collection")

    async def run(
        self, began_by: BeganBy, identity: Identity | None, *, dry_run: bool, write: Write | None = None
    ) -> AsyncIterator[Removal | Report]:
        """Yields every removal after it happened, and at last the report; ``write`` is that of a lease, if any.

        Raises:
            Unsupported: no collector is configured.
            RegistryError: it could not go on; what it had removed is in the status.
        """
        if self.collector is None:
            raise Unsupported("no garbage collector is enabled: set garbage_collector.enabled, and install drift-gc")
        write = write or self._database.write
        contents = RegistryContents(self._database, write, self._rules, self._changes)
        if not dry_run:
            await self._prepare(write)
        tally = _Tally(contents)
        number = await write(partial(runs.begin, began_by=began_by, dry_run=dry_run))
        noted = time.monotonic()
        state: State = "failed"
        message = "it was ended before it was done"
        try:
            async for removal in self.collector.collect(contents, self._roots, dry_run=dry_run):
                tally.counts[removal.kind] += 1
                yield removal
                if time.monotonic() - noted > NOTE_SECONDS:
                    noted = time.monotonic()
                    await write(partial(tally.note, number=number, state="running", message=""))
            state, message = "done", ""
        except Exception as error:
            message = error.message if isinstance(error, RegistryError) else f"{type(error).__name__}: {error}"
            raise
        finally:
            try:
                await write(partial(tally.note, number=number, state=state, message=message))
            except RegistryError as error:
                self._log.warning("cannot note how a collection ended", error=error.message)
            await self._tell(tally.report(), began_by, identity, message, dry_run=dry_run)
        yield tally.report()

    async def _prepare(self, write: Write) -> None:
        """Completes what an older version has written. Raises `Unavailable` while one serves: it takes no leases."""
        versions = await self._database.read(versions_of_nodes)
        if others := versions - {__version__}:
            found = ", ".join(sorted(others))
            raise Unavailable(f"nodes of another version serve ({found}); nothing is collected beside them")
        await write(reach.adopt_edges)

    async def status(self, at_most: int | None = None) -> Status:
        """Returns what waits, not counted further than ``at_most``, and what was done. Raises `Unavailable`."""
        now = await self._database.read(reach.moment)
        (rows,) = await self._database.read(lambda db: waiting(db, [now], at_most))
        latest = await self._database.read(lambda db: runs.latest(db, SHOWN_RUNS))
        state: Literal["configured", "not_configured"] = "not_configured" if self.collector is None else "configured"
        return Status(status=state, settings=self.settings, waiting=rows, runs=latest)

    async def _tell(
        self, report: Report, began_by: str, identity: Identity | None, message: str, *, dry_run: bool
    ) -> None:
        result = "failed" if message else "dry run" if dry_run else "done"
        self._metrics.collections.labels(result).inc()
        if not dry_run:
            self._metrics.collected.labels("blob").inc(report.blobs_deleted)
            self._metrics.collected.labels("manifest").inc(report.manifests_deleted)
            self._metrics.collected_bytes.inc(report.bytes_freed)
        self._log.info("a collection ended", result=result, problem=message or None, **structs.asdict(report))
        event = AuditEvent(
            type="GarbageCollectionRun",
            severity="error" if message else "info",
            success=not message,
            reason=message or None,
            identity=identity,
            resource_type="Registry",
            parameters={"began_by": began_by, "dry_run": dry_run, **structs.asdict(report)},
        )
        if self._changes.trail.auditors:
            await self._changes.trail.note(event)


class _Tally:
    """What a run has done so far."""

    def __init__(self, contents: RegistryContents) -> None:
        self.counts = {"blob": 0, "manifest": 0}
        self._contents = contents
        self._began = time.monotonic()

    def report(self) -> Report:
        return Report(
            orphaned_blobs_found=self._contents.found["blob"],
            orphaned_manifests_found=self._contents.found["manifest"],
            blobs_deleted=self.counts["blob"],
            manifests_deleted=self.counts["manifest"],
            bytes_freed=self._contents.bytes_freed,
            run_duration_seconds=round(time.monotonic() - self._began, 3),
        )

    def note(self, db: Connection, number: int, state: State, message: str) -> None:
        blobs, manifests = self.counts["blob"], self.counts["manifest"]
        runs.note(db, number, state, message, blobs, manifests, self._contents.bytes_freed)
