"""When what was last pulled, in the database, and since when that is known."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, case, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from drift_retention.ages import DAY
from drift_retention.conditions import Pulls
from drift_retention.tables import pulls, recording

GAP_SECONDS = 1.0 * DAY
"""Longest time without a sign of anybody who records, before recording counts as begun anew."""

BATCH = 1000
"""Most rows of one change; it keeps the only writer of SQLite for some ms."""

_KEY = "pulls"


def write_pulls(db: Connection, noted: Mapping[tuple[str, str], int]) -> None:
    """Writes when each (repository, name) was pulled, where that is later than what is known."""
    dialect = postgresql if db.dialect.name == "postgresql" else sqlite
    row = dialect.insert(pulls)
    later = case((row.excluded.pulled_at > pulls.c.pulled_at, row.excluded.pulled_at), else_=pulls.c.pulled_at)
    values = [
        {"repository": repository, "name": name, "pulled_at": moment}
        for (repository, name), moment in sorted(noted.items())
    ]
    if values:
        db.execute(row.on_conflict_do_update(index_elements=["repository", "name"], set_={"pulled_at": later}), values)


def sign(db: Connection, now: float, *, lost: bool) -> float:
    """Says that pulls are recorded at this moment, and returns since when they are; in seconds since the epoch.

    That is this moment where some were ``lost``, or nobody recorded for long.
    """
    known = db.execute(select(recording.c.began_at, recording.c.seen_at).where(recording.c.name == _KEY)).first()
    if known is None:
        db.execute(insert(recording).values(name=_KEY, began_at=now, seen_at=now))
        return now
    began = now if lost or now - known.seen_at > GAP_SECONDS else known.began_at
    # Another node's clock may be ahead.
    values = {"began_at": began, "seen_at": max(now, known.seen_at)}
    db.execute(update(recording).where(recording.c.name == _KEY).values(values))
    return float(began)


def pulls_of(db: Connection, repository: str) -> Pulls:
    """Returns what is known of the pulls of a repository."""
    since = db.execute(select(recording.c.began_at).where(recording.c.name == _KEY)).scalar()
    rows = db.execute(select(pulls.c.name, pulls.c.pulled_at).where(pulls.c.repository == repository))
    return Pulls(since, {name: float(moment) for name, moment in rows})


def forget(db: Connection, repository: str, names: Collection[str], before: float) -> None:
    """Forgets pulls of names that no tag has any more, unless they were pulled since ``before``."""
    gone = delete(pulls).where(
        pulls.c.repository == repository, pulls.c.name == bindparam("gone"), pulls.c.pulled_at < int(before)
    )
    if names:
        db.execute(gone, [{"gone": name} for name in sorted(names)])


def expire(db: Connection, before: float) -> int:
    """Forgets up to `BATCH` pulls before a moment, in seconds since the epoch, and returns how many."""
    old = select(pulls.c.repository, pulls.c.name).where(pulls.c.pulled_at < int(before)).limit(BATCH)
    rows = db.execute(old).all()
    if rows:
        gone = delete(pulls).where(
            pulls.c.repository == bindparam("at"), pulls.c.name == bindparam("gone"), pulls.c.pulled_at < int(before)
        )
        db.execute(gone, [{"at": repository, "gone": name} for repository, name in rows])
    return len(rows)
