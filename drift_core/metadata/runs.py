"""Runs of the garbage collector: what each did, or is doing, for all who share the database to see."""

from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from drift_core.metadata.clock import now
from drift_core.metadata.tables import collections

KEPT = 100
"""Runs that are remembered of each kind."""

SILENT_SECONDS = 600.0
"""After which a run that says no more how far it is has been killed."""

State = Literal["running", "done", "failed"]


class Run(Struct, frozen=True, kw_only=True):
    """One run; times in seconds since the epoch, by the clock of the database.

    ``blobs``, ``manifests`` and ``bytes_freed`` are what it has removed so far, or in a dry run would have.
    """

    id: int
    began_by: str
    dry_run: bool
    state: State
    message: str
    started_at: float
    updated_at: float
    blobs: int
    manifests: int
    bytes_freed: int


def begin(db: Connection, began_by: str, *, dry_run: bool) -> int:
    """Notes that a run begins, and returns its number; forgets the oldest."""
    counts = {"blobs": 0, "manifests": 0, "bytes_freed": 0}
    moments = {"started_at": now(), "updated_at": now()}
    row = {"began_by": began_by, "dry_run": dry_run, "state": "running", "message": ""}
    number = int(
        db.execute(insert(collections).values(**row, **counts, **moments).returning(collections.c.id)).scalar_one()
    )
    alike = select(collections.c.id).where(collections.c.began_by == began_by)
    kept = alike.order_by(collections.c.id.desc()).limit(KEPT)
    db.execute(delete(collections).where(collections.c.began_by == began_by, collections.c.id.not_in(kept)))
    return number


def note(db: Connection, number: int, state: State, message: str, blobs: int, manifests: int, bytes_freed: int) -> None:
    """Notes how far a run has come."""
    values = {"state": state, "message": message, "blobs": blobs, "manifests": manifests, "bytes_freed": bytes_freed}
    db.execute(update(collections).where(collections.c.id == number).values(updated_at=now(), **values))


def latest(db: Connection, limit: int) -> list[Run]:
    """Returns the last runs, the newest first."""
    silent = (now() - collections.c.updated_at).label("silent")
    rows = db.execute(select(collections, silent).order_by(collections.c.id.desc()).limit(limit)).mappings()
    return [_run(**row) for row in rows]


def _run(silent: float, **row: Any) -> Run:
    if row["state"] == "running" and silent > SILENT_SECONDS:
        row |= {"state": "failed", "message": "it was killed before it was done"}
    return Run(**row)


def seconds_since_last(db: Connection) -> float | None:
    """Returns how long ago the last run of the server's own began, or None where there was none."""
    last = select(now() - func.max(collections.c.started_at)).where(collections.c.began_by == "schedule")
    found: float | None = db.execute(last).scalar()
    return found
