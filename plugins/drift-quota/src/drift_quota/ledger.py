"""What repositories hold, in the database: changes are appended beside each other, and added up later."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from drift_core.api import Statement, exclusive, held_bytes, shared
from drift_quota.tables import counts, deltas, organizations, usage

FOLDED_AT_ONCE = 1000
"""Most deltas that one transaction adds up; it keeps the only writer of SQLite for a few ms."""

_APPEND = Statement(insert(deltas), "organization", "repository", "size")

_HELD = Statement(
    select(
        func.coalesce(select(usage.c.bytes).where(usage.c.repository == bindparam("repository")).scalar_subquery(), 0)
        + func.coalesce(
            select(func.sum(deltas.c.size))
            .where(deltas.c.organization == bindparam("organization"), deltas.c.repository == bindparam("repository"))
            .scalar_subquery(),
            0,
        ),
        func.coalesce(
            select(organizations.c.bytes)
            .where(organizations.c.organization == bindparam("organization"))
            .scalar_subquery(),
            0,
        )
        + func.coalesce(
            select(func.sum(deltas.c.size)).where(deltas.c.organization == bindparam("organization")).scalar_subquery(),
            0,
        ),
    )
)


class Held(Struct, frozen=True):
    """The bytes of the blobs of a repository and of its organization; at least those, until all were counted."""

    repository: int
    organization: int


class Counted(Struct, frozen=True):
    """What the count of a repository gave, and what was known ``before``, None for nothing; in bytes."""

    before: int | None
    held: int


def organization_of(repository: str) -> str:
    """Returns the first part of a repository's name."""
    return repository.partition("/")[0]


def append(db: Connection, repository: str, size: int) -> None:
    """Writes, in the transaction of the change, that a repository holds ``size`` bytes more, or fewer."""
    # Who counts a repository waits until what was appended for it is committed.
    shared(db, _lock(repository))
    _APPEND.run(db, organization=organization_of(repository), repository=repository, size=size)


def held(db: Connection, repository: str) -> Held:
    """Returns what is held, whether it was added up yet or not; one statement, so that it sees one state."""
    ((own, all_),) = _HELD.rows(db, repository=repository, organization=organization_of(repository))
    return Held(max(0, int(own)), max(0, int(all_)))


def fold(db: Connection, most: int = FOLDED_AT_ONCE) -> int:
    """Adds up to ``most`` deltas to the usage of repositories that were counted, and returns how many.

    What is added is what was deleted: numbers of rows are not committed in their order.
    """
    chosen = (
        select(deltas.c.id).where(deltas.c.repository.in_(select(usage.c.repository))).order_by(deltas.c.id).limit(most)
    )
    taken = delete(deltas).where(deltas.c.id.in_(chosen)).returning(deltas.c.repository, deltas.c.size)
    rows = db.execute(taken).all()
    sums: Counter[str] = Counter()
    for repository, size in rows:
        sums[repository] += size
    for repository, size in sorted(sums.items()):
        db.execute(update(usage).where(usage.c.repository == repository).values(bytes=usage.c.bytes + size))
    _add(db, sums)
    return len(rows)


def count(db: Connection, repository: str) -> Counted:
    """Reads what a repository holds in place of what is known of it; for `Records.write`, one at a time.

    Takes one lock of a repository: with several it could wait for a change that waits for it.
    """
    exclusive(db, _lock(repository))
    size = held_bytes(db, repository)
    organization = organization_of(repository)
    own = (deltas.c.organization == organization, deltas.c.repository == repository)
    dropped = db.execute(delete(deltas).where(*own).returning(deltas.c.size)).scalars().all()
    known = db.execute(select(usage.c.bytes).where(usage.c.repository == repository)).scalar()
    values = {"bytes": size, "counted_at": time.time()}
    if known is None:
        db.execute(insert(usage).values(repository=repository, organization=organization, **values))
    else:
        db.execute(update(usage).where(usage.c.repository == repository).values(**values))
    _add(db, {repository: size - (known or 0)})
    return Counted(None if known is None else known + sum(dropped), size)


def uncounted(db: Connection, most: int = 500) -> Sequence[str]:
    """Returns repositories that changed and were never counted, in order."""
    query = select(deltas.c.repository).where(deltas.c.repository.not_in(select(usage.c.repository)))
    return db.execute(query.distinct().order_by(deltas.c.repository).limit(most)).scalars().all()


def counted_before(db: Connection, moment: float, most: int = 500) -> Sequence[str]:
    """Returns repositories that were last counted before a ``moment``, in seconds since the epoch."""
    query = select(usage.c.repository).where(usage.c.counted_at < moment)
    return db.execute(query.order_by(usage.c.counted_at).limit(most)).scalars().all()


def complete(db: Connection) -> float | None:
    """Returns when every repository was last counted, in seconds since the epoch, or None."""
    return db.execute(select(func.max(counts.c.completed_at))).scalar()


def mark_complete(db: Connection) -> None:
    """Writes that every repository was counted."""
    db.execute(delete(counts))
    db.execute(insert(counts).values(completed_at=time.time()))


def _add(db: Connection, changes: Mapping[str, int]) -> None:
    """Adds changes of repositories to the sums of their organizations."""
    sums: Counter[str] = Counter()
    for repository, size in changes.items():
        sums[organization_of(repository)] += size
    for organization, size in sorted(sums.items()):
        own = organizations.c.organization == organization
        changed = db.execute(update(organizations).where(own).values(bytes=organizations.c.bytes + size))
        if not changed.rowcount:
            db.execute(insert(organizations).values(organization=organization, bytes=size))


def _lock(repository: str) -> str:
    return f"quota:{repository}"
