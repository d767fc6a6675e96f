"""What a plugin keeps of its tables: no query while nothing changes, and soon what did change."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, func, insert, select

from drift_core.api import Snapshot
from drift_core.conformance import open_records

pytestmark = pytest.mark.anyio
numbers = Table("tally__counts", MetaData(), Column("id", Integer, primary_key=True), Column("number", Integer))
WITHIN = 0.1


class Counting:
    """A table whose largest id is its revision, and how often it was asked for that, and for everything."""

    def __init__(self, records: Any) -> None:
        self.records = records
        self.asked = self.loaded = 0
        self.snapshot = Snapshot(records, self.revision, self.load, seconds=WITHIN)

    def revision(self, db: Connection) -> object:
        self.asked += 1
        return db.execute(select(func.max(numbers.c.id))).scalar()

    def load(self, db: Connection) -> list[int]:
        self.loaded += 1
        return list(db.execute(select(numbers.c.number).order_by(numbers.c.id)).scalars())

    async def add(self, number: int) -> None:
        await self.records.write(lambda db: db.execute(insert(numbers).values(number=number)) and None)


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    async with open_records("tally", "tests.metadata.tally_migrations") as records:
        yield Counting(records)


async def test_asks_only_after_a_change(counting: Counting) -> None:
    await counting.add(7)
    await asyncio.sleep(WITHIN)
    for _ in range(3):
        assert [await counting.snapshot.get() for _ in range(1000)] == [[7]] * 1000
        await asyncio.sleep(WITHIN * 1.5)
    assert (counting.asked, counting.loaded) == (1, 1)


async def test_a_change_is_seen_in_time(counting: Counting) -> None:
    for number in range(5):
        await counting.add(number)
        await asyncio.sleep(WITHIN)
        assert await counting.snapshot.get() == list(range(number + 1))


async def test_changes_of_others_load_nothing(counting: Counting) -> None:
    await counting.snapshot.get()
    for _ in range(20):
        await counting.records.write(lambda _: None)
        await counting.snapshot.get()
    assert counting.asked <= 2
    await asyncio.sleep(WITHIN)
    await counting.snapshot.get()
    assert counting.loaded == 1


async def test_many_who_ask_at_once_load_once(counting: Counting) -> None:
    assert await asyncio.gather(*(counting.snapshot.get() for _ in range(100))) == [[]] * 100
    assert counting.loaded == 1


async def test_who_changes_it_sees_it_at_once(counting: Counting) -> None:
    assert await counting.snapshot.get() == []
    await counting.add(1)
    await counting.snapshot.refresh()
    assert await counting.snapshot.get() == [1]


async def test_a_load_that_fails_is_tried_again(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    await counting.add(1)

    def fail(_: Connection) -> list[int]:
        raise RuntimeError("once")

    monkeypatch.setattr(counting.snapshot, "_load", fail)
    with pytest.raises(RuntimeError, match="once"):
        await counting.snapshot.get()
    monkeypatch.setattr(counting.snapshot, "_load", counting.load)
    assert await counting.snapshot.get() == [1]
