"""The last runs, in the database, so that neither a restart nor another node runs again before it is time."""

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, delete, insert, select

from drift_retention.tables import runs


class Run(Struct, kw_only=True):
    """One run over all repositories; times in seconds since the epoch.

    ``tags`` were judged. ``dropped`` would have been dropped where it was a dry run; ``refused`` may not be deleted, or
    a gate refuses it; ``failed`` are those that could not be dropped for another reason.
    """

    began_at: float
    ended_at: float = 0.0
    repositories: int = 0
    tags: int = 0
    dropped: int = 0
    refused: int = 0
    failed: int = 0


def load(db: Connection, *, dry_run: bool) -> Run | None:
    """Returns the last run that dropped tags, or the last dry one; None where there was none."""
    row = db.execute(select(runs).where(runs.c.name == _name(dry_run=dry_run))).mappings().first()
    return None if row is None else Run(**{key: value for key, value in row.items() if key != "name"})


def save(db: Connection, run: Run, *, dry_run: bool) -> None:
    """Makes a run the last one."""
    name = _name(dry_run=dry_run)
    db.execute(delete(runs).where(runs.c.name == name))
    db.execute(insert(runs).values(name=name, **asdict(run)))


def _name(*, dry_run: bool) -> str:
    return "dry" if dry_run else "dropping"
