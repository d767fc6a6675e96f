"""What has to be done with which image: a queue in the database, worked off by one process at a time."""

import math
import time
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from drift_core.api import Digest
from drift_optimize.tables import jobs

State = Literal["pending", "optimizing", "optimized", "skipped", "failed", "cancelled"]

OPEN: tuple[State, ...] = ("pending", "optimizing")

RETRY_SECONDS = 60.0
"""Seconds until the second attempt; each further one waits twice as long."""

LONGEST_RETRY_SECONDS = 6 * 3600.0

KEPT_SECONDS = 30 * 86_400.0
"""How long one can see what came of a job."""


class Job(Struct, frozen=True, kw_only=True):
    """One image to work on; moments in seconds since the epoch, sizes in bytes.

    ``tag`` are those by which it was asked for, with spaces between them. ``again`` is whether somebody asked while it
    was worked on. ``noted_at`` is when whoever works on it last said so. ``saved`` is
    how much smaller the new forms are than its layers. ``message`` says why it was skipped or failed.
    """

    id: int
    repository: str
    digest: str
    tag: str | None
    state: State
    due_at: float
    created_at: float
    began_at: float | None
    ended_at: float | None
    noted_at: float | None
    again: bool
    attempts: int
    bytes_done: int
    bytes_total: int
    saved: int
    message: str


def ask(db: Connection, repository: str, digest: Digest, tag: str | None, due_at: float) -> int:
    """Makes an image a pending job, and returns its id; one that is pending becomes due at the earlier moment.

    One that is being worked on is pending again once it has ended. ``tag`` may be several with spaces between them.
    """
    own = and_(jobs.c.repository == repository, jobs.c.digest == digest)
    found = db.execute(select(jobs.c.id, jobs.c.state, jobs.c.due_at, jobs.c.tag).where(own)).one_or_none()
    anew = {"state": "pending", "due_at": due_at, "tag": tag, "attempts": 0, "saved": 0, "message": ""}
    begun = {"bytes_done": 0, "bytes_total": 0, "began_at": None, "ended_at": None, "created_at": time.time()}
    if found is None:
        values = {"repository": repository, "digest": str(digest), **anew, **begun}
        row = db.execute(insert(jobs).values(**values).returning(jobs.c.id)).scalar_one()
        return int(row)
    every = " ".join(dict.fromkeys([*(found.tag or "").split(), *(tag or "").split()])) or None
    if found.state == "pending":
        db.execute(update(jobs).where(own).values(due_at=min(due_at, found.due_at), tag=every))
    elif found.state == "optimizing":
        db.execute(update(jobs).where(own).values(due_at=due_at, tag=every, again=True))
    else:
        db.execute(update(jobs).where(own).values(**anew, **begun))
    return int(found.id)


def due(db: Connection, now: float) -> int | None:
    """Returns the job that has been due for the longest, or None."""
    pending = select(jobs.c.id).where(jobs.c.state == "pending", jobs.c.due_at <= now)
    row = db.execute(pending.order_by(jobs.c.due_at, jobs.c.id).limit(1)).scalar()
    return None if row is None else int(row)


def take(db: Connection, now: float) -> Job | None:
    """Returns the job that has been due for the longest, which is from now on being worked on; None for none."""
    job = due(db, now)
    return None if job is None else take_one(db, job)


def take_one(db: Connection, job: int) -> Job | None:
    """Returns a pending job, which is from now on being worked on; None where it is not pending."""
    own = jobs.c.id == job, jobs.c.state == "pending"
    now = time.time()
    begun = {"state": "optimizing", "began_at": now, "noted_at": now, "attempts": jobs.c.attempts + 1, "bytes_done": 0}
    return find(db, job) if db.execute(update(jobs).where(*own).values(**begun)).rowcount else None


def abandoned(db: Connection, noted_before: float) -> bool:
    """Says whether there is a job that nobody has worked on since."""
    return db.execute(select(jobs.c.id).where(*_abandoned(noted_before)).limit(1)).scalar() is not None


def resume(db: Connection, most: int, noted_before: float = math.inf) -> None:
    """Makes pending what nobody has worked on since, and failed what was begun ``most`` times and never ended."""
    gone = update(jobs).where(*_abandoned(noted_before))
    message = f"whatever worked on it has ended before it, {most} times"
    db.execute(gone.where(jobs.c.attempts >= most).values(state="failed", message=message, ended_at=time.time()))
    db.execute(gone.values(state="pending"))


def _abandoned(noted_before: float) -> Sequence[ColumnElement[bool]]:
    return jobs.c.state == "optimizing", jobs.c.noted_at < noted_before


def note(db: Connection, job: int, done: int, total: int) -> bool:
    """Writes how many bytes are done; False where the job was cancelled meanwhile, or taken away."""
    going = update(jobs).where(jobs.c.id == job, jobs.c.state == "optimizing")
    return bool(db.execute(going.values(bytes_done=done, bytes_total=total, noted_at=time.time())).rowcount)


def end(db: Connection, job: int, state: State, message: str, saved: int) -> None:
    """Writes what came of a job that was not cancelled; one that was asked for meanwhile is pending."""
    own = update(jobs).where(jobs.c.id == job, jobs.c.state == "optimizing")
    db.execute(own.where(jobs.c.again).values(state="pending", again=False, attempts=0))
    db.execute(own.values(state=state, message=message, saved=saved, ended_at=time.time()))


def put_off(db: Connection, job: Job, message: str) -> None:
    """Makes a job that failed pending again, after a rest that grows with the number of attempts."""
    rest = min(RETRY_SECONDS * 2 ** (job.attempts - 1), LONGEST_RETRY_SECONDS)
    values = {"state": "pending", "message": message, "due_at": time.time() + rest}
    db.execute(update(jobs).where(jobs.c.id == job.id, jobs.c.state == "optimizing").values(**values))


def cancel(db: Connection, job: int) -> bool:
    """Cancels a job that has not ended; False where there is none."""
    going = update(jobs).where(jobs.c.id == job, jobs.c.state.in_(OPEN))
    return bool(db.execute(going.values(state="cancelled", ended_at=time.time())).rowcount)


def find(db: Connection, job: int) -> Job | None:
    """Returns a job, or None where there is none."""
    row = db.execute(select(jobs).where(jobs.c.id == job)).mappings().one_or_none()
    return None if row is None else Job(**row)


def latest(db: Connection, state: State | None, before: int | None, limit: int) -> Sequence[Job]:
    """Returns jobs, the newest first, of one state or of all, those with ids below ``before``."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if before is not None:
        query = query.where(jobs.c.id < before)
    return [Job(**row) for row in db.execute(query).mappings()]


def open_counts(db: Connection) -> dict[str, int]:
    """Returns how many jobs wait, and how many are worked on."""
    query = select(jobs.c.state, func.count()).where(jobs.c.state.in_(OPEN)).group_by(jobs.c.state)
    counts = {row[0]: int(row[1]) for row in db.execute(query)}
    return {state: counts.get(state, 0) for state in OPEN}


def forget(db: Connection, repository: str | None = None, digest: str | None = None) -> None:
    """Removes the job of a manifest that is gone, or, without one, all that ended long ago."""
    if repository is not None:
        db.execute(delete(jobs).where(jobs.c.repository == repository, jobs.c.digest == digest))
        return
    old = time.time() - KEPT_SECONDS
    db.execute(delete(jobs).where(jobs.c.ended_at < old))
