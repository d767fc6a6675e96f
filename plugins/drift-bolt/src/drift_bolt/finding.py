"""Lists and searches: by indexes, and never through more than a fixed number of entries.

Something is searched as a part of words, whatever their case. Which entries have it is found by an index of three
letters at a time (SQLite's FTS5, PostgreSQL's pg_trgm). What so many have that they are not worth counting is looked
for in the entries that come first in the order that was asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause, and_, or_, select, text

from drift_bolt import blocks
from drift_bolt.catalog import Entry, Kind, entry_of
from drift_bolt.model import SearchRequest
from drift_bolt.problems import Invalid
from drift_bolt.tables import entries, totals
from drift_bolt.validation import findable

FEW: Final = 500
"""Most entries that are compared one by one; of a criterion that more of them meet, only the first are looked at."""

LOOKED: Final = 2000
"""Entries that are looked through in the order that was asked for, where every criterion is met by more than `FEW`."""

WINDOW: Final = 10_000
"""Entries of a search for everything that can be paged through: its order changes with each download."""

LETTERS = 3
"""Fewest letters that the indexes find."""

PER_PAGE, MOST_PER_PAGE = 20, 100
"""Entries of a page, unless somebody asks for others."""

MOST_TAGS = 20
"""Tags of one search."""


class Page(Struct, frozen=True):
    """A page of entries; ``total`` is how many there are in all."""

    entries: list[Entry]
    total: int
    page: int
    per_page: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return -(-self.total // self.per_page)


class _Criterion(Struct, frozen=True):
    """One of several texts has to be part of a column."""

    column: str
    parts: tuple[str, ...]

    def clause(self, rows: FromClause) -> ColumnElement[bool]:
        return or_(*(rows.c[self.column].contains(part, autoescape=True) for part in self.parts))


def listing(db: Connection, kind: Kind, page: int | None, per_page: int | None) -> Page:
    """Returns a page of all entries by name."""
    number, size = bounded(page, per_page)
    ids = blocks.names_from(db, kind, (number - 1) * size, size)
    return Page(_entries(db, ids), count(db, kind), number, size)


def count(db: Connection, kind: Kind) -> int:
    """Returns how many entries there are."""
    return db.execute(select(totals.c.value).where(totals.c.name == f"{kind}s")).scalar_one_or_none() or 0


def best(db: Connection, kind: Kind, most: int) -> list[Entry]:
    """Returns the entries of the highest score."""
    shown = select(entries.c.id).where(entries.c.kind == kind, entries.c.listed)
    return _entries(
        db, db.execute(shown.order_by(*_order(entries, "score", descending=True)).limit(most)).scalars().all()
    )


def search(db: Connection, kind: Kind, wanted: SearchRequest) -> Page:
    """Returns a page of what is wanted; see the head of this module for how far ``total`` counts.

    Raises `Invalid` for a page behind the first `WINDOW` entries of a search for everything.
    """
    number, size = bounded(wanted.page, wanted.per_page)
    criteria = _criteria(wanted)
    column, descending = wanted.sort_by or "score", wanted.sort_order != "asc"
    order = _order(entries, column, descending=descending)
    start = (number - 1) * size
    if not all(findable(part) for criterion in criteria for part in criterion.parts):
        return Page([], 0, number, size)
    shown = and_(entries.c.kind == kind, entries.c.listed)
    if not criteria:
        total = count(db, kind)
        if start >= total:
            return Page([], total, number, size)
        _check_window(start, size)
        query = select(entries.c.id).where(shown).order_by(*order).offset(start).limit(size)
        return Page(_entries(db, db.execute(query).scalars().all()), total, number, size)
    chosen = _fewest(db, kind, criteria)
    rows: FromClause = entries
    if chosen is None:
        # A table of its own: where it is only a condition, PostgreSQL looks for the criteria in all entries instead.
        rows = select(entries).where(shown).order_by(*order).limit(LOOKED).subquery()
    query = select(rows.c.id).where(*(criterion.clause(rows) for criterion in criteria))
    if chosen is not None:
        # Without the kind, which they have: an index of it would be walked from its beginning.
        query = query.where(rows.c.id.in_(chosen))
    ids = db.execute(query.order_by(*_order(rows, column, descending=descending))).scalars().all()
    return Page(_entries(db, ids[start : start + size]), len(ids), number, size)


def _check_window(start: int, size: int) -> None:
    """Raises `Invalid` for a page that only a walk over all those before it would find."""
    if start + size > WINDOW:
        message = f"a search without a filter shows its first {WINDOW} entries; lists have all, by name"
        raise Invalid(message, last_page=WINDOW // size)


def bounded(page: int | None, per_page: int | None) -> tuple[int, int]:
    """Returns the number of a page, from 1, and its size, from 1 to `MOST_PER_PAGE`."""
    return max(1, page or 1), min(MOST_PER_PAGE, max(1, PER_PAGE if per_page is None else per_page))


def _criteria(wanted: SearchRequest) -> list[_Criterion]:
    tags = tuple(tag.casefold() for tag in (wanted.tags or ())[:MOST_TAGS] if tag)
    single = (
        ("text", wanted.query),
        ("author_text", wanted.author),
        ("games", wanted.game),
        ("vendor", wanted.gpu_vendor),
    )
    found = [_Criterion(column, (part.casefold(),)) for column, part in single if part]
    return [*found, _Criterion("tags", tags)] if tags else found


def _order(rows: FromClause, column: str, *, descending: bool) -> tuple[ColumnElement[Any], ...]:
    every = (rows.c[column], rows.c.id)
    return tuple(one.desc() if descending else one.asc() for one in every)


def _fewest(db: Connection, kind: Kind, criteria: Sequence[_Criterion]) -> list[int] | None:
    """Returns the entries that meet one of the criteria, of which at most `FEW` do; None where there is no such one."""
    found: list[int] | None = None
    have = _in_sqlite if db.dialect.name == "sqlite" else _in_postgresql
    for criterion in criteria:
        if any(len(part) < LETTERS for part in criterion.parts):
            continue
        ids = {one for part in criterion.parts for one in have(db, kind, criterion.column, part)}
        if len(ids) <= FEW and (found is None or len(ids) < len(found)):
            found = sorted(ids)
    return found


_Having = Callable[[Connection, Kind, str, str], Sequence[int]]


def _in_sqlite(db: Connection, kind: Kind, column: str, part: str) -> Sequence[int]:
    quoted = part.replace('"', '""')
    query = text(f"SELECT rowid FROM bolt__{kind}_words WHERE bolt__{kind}_words MATCH :part LIMIT {FEW + 1}")  # noqa: S608
    return db.execute(query, {"part": f'{column} : "{quoted}"'}).scalars().all()


def _in_postgresql(db: Connection, kind: Kind, column: str, part: str) -> Sequence[int]:
    having = entries.c[column].contains(part, autoescape=True)
    shown = (entries.c.kind == kind, entries.c.listed)
    return db.execute(select(entries.c.id).where(having, *shown).limit(FEW + 1)).scalars().all()


def _entries(db: Connection, ids: Sequence[int]) -> list[Entry]:
    """Returns entries in the order of ``ids``."""
    rows = db.execute(select(entries).where(entries.c.id.in_(ids))).mappings() if ids else ()
    found = {row["id"]: entry_of(row) for row in rows}
    return [found[one] for one in ids if one in found]
