"""Goes through a chain and finds where it is broken."""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, func, select

from drift_audit.chain import BEGINNING, End, Key, Row, copies_of, end_of
from drift_audit.record import StoredRecord, decoded
from drift_audit.tables import records
from drift_core.api import Records

BATCH = 1000


class Broken(Struct, frozen=True):
    """The first place at which a chain is broken."""

    sequence: int
    kind: Literal["removed", "changed", "reordered", "truncated"]
    detail: str


class Anchor(Struct, frozen=True):
    """A place in the chain, such as one that was written down elsewhere, and that the chain has to go through."""

    sequence: int
    hash: bytes


class _Part(Struct, frozen=True):
    """Some of the rows, the ends of the chain at the same moment, and the highest sequence of all, 0 for none."""

    rows: list[Row]
    first: End | None
    last: End | None
    newest: int


class Verification:
    """One run over the chain, from ``start`` on, while others may append to it.

    ``found`` is the broken place, None so far or where there is none; ``reached`` is the newest record that was found
    good. ``anchored`` says whether ``anchor`` was met: it may have been removed for its age.
    """

    def __init__(self, records: Records, key: Key, start: int | None = None, anchor: Anchor | None = None) -> None:
        self._records = records
        self._key = key
        self._anchor = anchor
        self._expected = start or 1
        # What is before the start is not looked at: its hash is taken as the first row has it.
        self._previous = None if start else BEGINNING
        self.found: Broken | None = None
        self.reached = Anchor(0, BEGINNING)
        self.anchored = False
        self._meet(0, BEGINNING)

    async def run(self) -> AsyncIterator[int]:
        """Yields again and again how many records the chain has behind `reached`; ends where it is broken, or ends."""
        while True:
            part = await self._records.read(self._read)
            self.found = self._check_ends(part) or self._check_rows(part)
            if self.found is not None:
                return
            if len(part.rows) < BATCH:
                self.found = self._check_last(part)
                return
            yield part.newest - self.reached.sequence

    def _read(self, db: Connection) -> _Part:
        # PostgreSQL would show each statement what was appended before it; SQLite has no other level.
        if db.dialect.name == "postgresql":
            db.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        behind = select(records).where(records.c.sequence >= self._expected).order_by(records.c.sequence).limit(BATCH)
        # The first statement decides which state all of them see.
        rows = [Row(**row) for row in db.execute(behind).mappings()]
        newest = db.execute(select(func.coalesce(func.max(records.c.sequence), 0))).scalar_one()
        return _Part(rows, end_of(db, "first"), end_of(db, "last"), newest)

    def _check_ends(self, part: _Part) -> Broken | None:
        if part.first is None or part.last is None:
            return Broken(part.newest, "truncated", "an end of the chain is gone")
        for name, end in (("first", part.first), ("last", part.last)):
            if not self._key.sealed(name, end):
                kind = "removed" if name == "first" else "changed"
                return Broken(end.sequence, kind, f"the {name} end of the chain was set by somebody without the key")
        if part.newest > part.last.sequence:
            return Broken(part.last.sequence + 1, "changed", "it stands behind the end of the chain")
        if part.first.sequence >= self._expected:
            self._expected, self._previous = part.first.sequence + 1, part.first.hash
            self._meet(part.first.sequence, part.first.hash)
        return None

    def _check_rows(self, part: _Part) -> Broken | None:
        for row in part.rows:
            broken = check(row, self._key, self._expected, self._previous)
            if broken is not None:
                return broken
            self._expected, self._previous = row.sequence + 1, row.hash
            self.reached = Anchor(row.sequence, row.hash)
            if not self._meet(row.sequence, row.hash):
                return Broken(row.sequence, "changed", "the chain was made anew: it has another hash than was expected")
        return None

    def _check_last(self, part: _Part) -> Broken | None:
        last = part.last
        if last is None:
            return None
        if self._expected <= last.sequence:
            return Broken(self._expected, "truncated", f"the newest records are gone; the last was {last.sequence}")
        if self._previous is not None and self._previous != last.hash:
            return Broken(last.sequence, "changed", "the end of the chain has another hash")
        if self._anchor is not None and self._anchor.sequence > last.sequence:
            return Broken(last.sequence + 1, "truncated", f"the chain went on until {self._anchor.sequence} at least")
        return None

    def _meet(self, sequence: int, hash_: bytes) -> bool:
        """Returns False where the anchor is at this place, and has another hash."""
        if self._anchor is None or self._anchor.sequence != sequence:
            return True
        self.anchored = self._anchor.hash == hash_
        return self.anchored


def check(row: Row, key: Key, expected: int, previous: bytes | None) -> Broken | None:
    """Returns what is wrong with a record that has to be at ``expected``, behind the hash ``previous`` unless None."""
    if row.sequence != expected:
        return Broken(expected, "removed", f"the next record that is there is {row.sequence}")
    try:
        return _check_content(row, decoded(row.content), key, previous)
    except msgspec.MsgspecError:
        return Broken(row.sequence, "changed", "it is no record")


def _check_content(row: Row, record: StoredRecord, key: Key, previous: bytes | None) -> Broken | None:
    if record.sequence != row.sequence:
        return Broken(row.sequence, "reordered", f"here stands what was recorded as {record.sequence}")
    if key.hash(row.previous, row.content) != row.hash:
        return Broken(row.sequence, "changed", "it does not have its hash")
    if previous is not None and row.previous != previous:
        return Broken(row.sequence - 1, "changed", "the next record was made behind another one")
    differing = [name for name, value in copies_of(record).items() if getattr(row, name) != value]
    if differing:
        return Broken(row.sequence, "changed", f"its column {differing[0]} differs from its content")
    return None
