"""Reads and changes the table of deliveries; each function is one transaction's work."""

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from drift_webhooks.tables import deliveries

MOST = 500
"""Deliveries that were put aside and are listed at a time."""

STEP = 500
"""Deliveries that one transaction puts aside or forgets."""


class Delivery(Struct, frozen=True):
    """Something that a target still has to be told; ``attempts`` is how often that was tried.

    ``added_at`` is in seconds since the epoch.
    """

    target: str
    event_id: int
    body: bytes
    attempts: int
    added_at: float


class Aside(Struct, frozen=True):
    """A delivery that is tried no more, since when (seconds since the epoch), and why."""

    target: str
    event_id: int
    attempts: int
    aside_at: float
    problem: str


class Counted(Struct, frozen=True):
    """How many deliveries of a target wait, and were put aside; ``problem`` is that of the one tried last, or ""."""

    target: str
    waiting: int
    aside: int
    problem: str


def add(db: Connection, targets: Collection[str], event_id: int, body: bytes, now: float) -> None:
    """Adds a delivery of an event to each target that does not have it yet."""
    for target in targets:
        named = {"target": target, "event_id": event_id, "body": body}
        values = {**named, "attempts": 0, "added_at": now, "due_at": now, "problem": ""}
        try:
            with db.begin_nested():
                db.execute(insert(deliveries).values(**values))
        except IntegrityError:
            continue


def due(db: Connection, target: str, now: float, most: int) -> list[Delivery]:
    """Returns the deliveries of a target whose time has come, what was never tried in the order of the events."""
    chosen = select(*(deliveries.c[name] for name in Delivery.__struct_fields__))
    wanted = chosen.where(deliveries.c.target == target, deliveries.c.due_at <= now)
    return [
        Delivery(*row) for row in db.execute(wanted.order_by(deliveries.c.due_at, deliveries.c.event_id).limit(most))
    ]


def next_due(db: Connection, target: str) -> float | None:
    """Returns when the next delivery of a target is due, in seconds since the epoch, or None."""
    moment: float | None = db.execute(
        select(func.min(deliveries.c.due_at)).where(deliveries.c.target == target)
    ).scalar_one()
    return moment


def delivered(db: Connection, every: Sequence[Delivery]) -> None:
    """Forgets deliveries that succeeded."""
    for one in every:
        db.execute(delete(deliveries).where(_is(one.target, one.event_id)))


def failed(db: Connection, one: Delivery, problem: str, due_at: float | None, now: float) -> None:
    """Has a delivery tried again at ``due_at``, or puts it aside."""
    tried = {"attempts": one.attempts + 1, "problem": problem, "tried_at": now}
    # Another process may have come further meanwhile.
    same = and_(_is(one.target, one.event_id), deliveries.c.attempts == one.attempts)
    change = update(deliveries).where(same)
    db.execute(change.values(**tried, due_at=due_at, aside_at=now if due_at is None else None))


def aside(db: Connection, target: str | None = None, most: int = MOST) -> list[Aside]:
    """Returns what was put aside, the newest first, of one target or of all."""
    chosen = select(*(deliveries.c[name] for name in Aside.__struct_fields__)).where(deliveries.c.aside_at.is_not(None))
    if target is not None:
        chosen = chosen.where(deliveries.c.target == target)
    newest = (deliveries.c.aside_at.desc(), deliveries.c.event_id.desc())
    return [Aside(*row) for row in db.execute(chosen.order_by(*newest).limit(most))]


def retry(db: Connection, target: str | None, event_id: int | None, now: float) -> int:
    """Makes what was put aside due again, as if it had never been tried, and returns how many deliveries that are."""
    change = update(deliveries).where(deliveries.c.aside_at.is_not(None))
    if target is not None:
        change = change.where(deliveries.c.target == target)
    if event_id is not None:
        change = change.where(deliveries.c.event_id == event_id)
    return int(db.execute(change.values(added_at=now, due_at=now, aside_at=None, attempts=0)).rowcount)


def overdue(db: Connection, added_before: float, now: float) -> int:
    """Puts aside what waits since before a moment, at most `STEP` deliveries, and returns how many."""
    late = (deliveries.c.added_at < added_before) & deliveries.c.due_at.is_not(None)
    some = _some(late)
    told = case((deliveries.c.problem == "", "its turn did not come within a day"), else_=deliveries.c.problem)
    change = update(deliveries).where(_key().in_(some)).values(due_at=None, aside_at=now, problem=told)
    return int(db.execute(change).rowcount)


def purge(db: Connection, before: float, targets: Collection[str]) -> int:
    """Forgets what was put aside before a moment, and what waits since then for targets that there are no more.

    At most `STEP` deliveries; returns how many. A node that does not know a target yet forgets nothing of it so soon.
    """
    gone = deliveries.c.target.not_in(list(targets)) & (deliveries.c.added_at < before)
    some = _some(or_(deliveries.c.aside_at < before, gone))
    return int(db.execute(delete(deliveries).where(_key().in_(some))).rowcount)


def counted(db: Connection, targets: Collection[str]) -> list[Counted]:
    """Returns for each of the targets how many deliveries it has."""
    found: list[Counted] = []
    for target in targets:
        mine = select(func.count()).select_from(deliveries).where(deliveries.c.target == target)
        waiting = db.execute(mine.where(deliveries.c.due_at.is_not(None))).scalar_one()
        put = db.execute(mine.where(deliveries.c.aside_at.is_not(None))).scalar_one()
        tried = select(deliveries.c.problem).where(deliveries.c.target == target, deliveries.c.tried_at.is_not(None))
        last = db.execute(tried.order_by(deliveries.c.tried_at.desc()).limit(1)).scalar()
        found.append(Counted(target, waiting, put, last or ""))
    return found


def _key() -> Any:
    return tuple_(deliveries.c.target, deliveries.c.event_id)


def _is(target: str, event_id: int) -> Any:
    return _key() == tuple_(target, event_id)


def _some(condition: Any) -> Any:
    return select(deliveries.c.target, deliveries.c.event_id).where(condition).limit(STEP)
