"""Who holds how much, and may hold: the answer of ``/api/quota`` and of ``drift quota show``."""

from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import Column, Connection, Table, func, select

from drift_quota.ledger import complete
from drift_quota.limits import Limits
from drift_quota.tables import deltas, organizations, usage

MOST = 1000
"""Most organizations, and most repositories, of one report."""


class Holder(Struct, frozen=True):
    """A repository or an organization; ``used`` and ``limit`` in bytes, ``share`` is their quotient, None without."""

    name: str
    used: int
    limit: int | None
    share: float | None


class Report(Struct, frozen=True):
    """Those that hold the most come first; ``complete`` False where ``used`` may be too low: not all is counted yet."""

    complete: bool
    organizations: list[Holder]
    repositories: list[Holder]


def report(db: Connection, limits: Limits, most: int = MOST) -> Report:
    """Returns the up to ``most`` organizations and repositories that hold the most."""
    return Report(
        complete(db) is not None,
        _holders(db, organizations, "organization", limits.of_organization, most),
        _holders(db, usage, "repository", limits.of_repository, most),
    )


def _holders(db: Connection, table: Table, name: str, limit_of: Callable[[str], int | None], most: int) -> list[Holder]:
    own, new = table.c[name], _column(name)
    # What was not added up yet is little, and may bring a name among the first.
    lately = {row[0]: int(row[1]) for row in db.execute(select(new, func.sum(deltas.c.size)).group_by(new))}
    query = select(own, table.c.bytes).order_by(table.c.bytes.desc(), own).limit(most)
    known = {row[0]: int(row[1]) for row in db.execute(query)}
    further = sorted(set(lately) - set(known))
    for start in range(0, len(further), 500):
        part = further[start : start + 500]
        known |= {row[0]: int(row[1]) for row in db.execute(select(own, table.c.bytes).where(own.in_(part)))}
    sums = {one: max(0, known.get(one, 0) + lately.get(one, 0)) for one in {*known, *lately}}
    first = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [_holder(one, used, limit_of(one)) for one, used in first]


def _column(name: str) -> "Column[str]":
    column: Column[str] = deltas.c[name]
    return column


def _holder(name: str, used: int, limit: int | None) -> Holder:
    return Holder(name, used, limit, round(used / limit, 4) if limit else None)
