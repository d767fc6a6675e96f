"""Finds records by time, who, what and how, page by page; and counts them."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select, tuple_

from drift_audit.chain import microseconds
from drift_audit.record import NAME_LIMIT, SEVERITIES, plain
from drift_audit.tables import records
from drift_core.api import Records

DAYS = 7
"""How far a question goes back that does not say it."""

PAGE = 500
"""Records that are read at once for an export."""

TOP = 10

Place = tuple[int, int]
"""Where a record is in the order of time: its time in microseconds, and its sequence."""


class Filter(Struct, frozen=True, kw_only=True):
    """Which records are asked for; None and empty ask for all. Without times it is the last `DAYS` days.

    ``user_id`` is the name of somebody, known or claimed; ``organization`` the first part of a repository's name.
    """

    start_time: datetime | None = None
    end_time: datetime | None = None
    event_types: Sequence[str] = ()
    severities: Sequence[str] = ()
    user_id: str | None = None
    organization: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    success_only: bool = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """Returns them for a query, which finds its rows by an index: there is always a time. Raises ValueError."""
        unknown = [name for name in self.severities if name.lower() not in SEVERITIES]
        if unknown:
            message = f"{unknown[0]!r} is no severity; those are {', '.join(SEVERITIES)}"
            raise ValueError(message)
        ranks = [SEVERITIES.index(name.lower()) for name in self.severities]  # pyright: ignore[reportArgumentType]
        end = int(time.time() * 1e6) if self.end_time is None else microseconds(self.end_time)
        start = end - DAYS * 86_400_000_000 if self.start_time is None else microseconds(self.start_time)
        found: list[ColumnElement[bool]] = [records.c.at >= start]
        if self.end_time is not None:
            found.append(records.c.at <= end)
        names = {
            records.c.username: self.user_id,
            records.c.organization: self.organization,
            records.c.resource_type: self.resource_type,
            records.c.resource_id: self.resource_id,
        }
        found += [column == plain(name, NAME_LIMIT) for column, name in names.items() if name is not None]
        if self.success_only:
            found.append(records.c.success.is_(True))
        if self.event_types:
            found.append(records.c.event_type.in_([plain(name, NAME_LIMIT) for name in self.event_types]))
        if ranks:
            found.append(records.c.severity.in_(ranks))
        return found


class Page(Struct, frozen=True):
    """Records by their bytes, and the place behind which the next page begins; None where there is none."""

    contents: list[bytes]
    next: Place | None


def page(
    db: Connection,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    behind: Place | None = None,
    *,
    offset: int = 0,
    oldest_first: bool = False,
) -> Page:
    """Returns up to ``limit`` records, the newest first unless asked for otherwise."""
    place = tuple_(records.c.at, records.c.sequence)
    query = select(records.c.content, records.c.at, records.c.sequence).where(*conditions)
    if behind is not None:
        query = query.where(place > behind if oldest_first else place < behind)
    order = [column.asc() if oldest_first else column.desc() for column in (records.c.at, records.c.sequence)]
    rows = db.execute(query.order_by(*order).limit(limit + 1).offset(offset)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    return Page([row[0] for row in rows], (rows[-1][1], rows[-1][2]) if more else None)


async def every(records_: Records, conditions: Sequence[ColumnElement[bool]]) -> AsyncIterator[bytes]:
    """Yields all records that are asked for, the oldest first, without holding more than a page of them."""
    behind = None
    while True:
        read = await records_.read(lambda db, behind=behind: page(db, conditions, PAGE, behind, oldest_first=True))
        for content in read.contents:
            yield content
        behind = read.next
        if behind is None:
            return


class Count(Struct, frozen=True):
    """How often a name occurs."""

    name: str
    count: int


class Stats(Struct, frozen=True):
    """Counts of the records that are asked for. No event tells its duration yet: ``avg_duration_ms`` is None."""

    total_events: int
    events_by_type: dict[str, int]
    events_by_severity: dict[str, int]
    failed_events: int
    avg_duration_ms: float | None
    top_users: list[Count]
    top_resources: list[Count]


def stats(db: Connection, conditions: Sequence[ColumnElement[bool]]) -> Stats:
    """Returns the counts of the records that are asked for."""

    def by(column: ColumnElement[Any], *further: ColumnElement[bool], limit: int | None = None) -> list[Count]:
        amount = func.count()
        query = select(column, amount).where(*conditions, *further).group_by(column).order_by(amount.desc(), column)
        return [Count(name, count) for name, count in db.execute(query.limit(limit))]

    by_type = by(records.c.event_type)
    by_severity = {SEVERITIES[int(one.name)].capitalize(): one.count for one in by(records.c.severity)}
    failed = select(func.count()).select_from(records).where(*conditions, records.c.success.is_(False))
    return Stats(
        total_events=sum(one.count for one in by_type),
        events_by_type={one.name: one.count for one in by_type},
        events_by_severity=by_severity,
        failed_events=db.execute(failed).scalar_one(),
        avg_duration_ms=None,
        top_users=by(records.c.username, records.c.username.is_not(None), limit=TOP),
        top_resources=by(records.c.resource_id, records.c.resource_id != "", limit=TOP),
    )
