"""Whatever is appended, added up and counted, in whatever order: usage is what the repository holds."""

import asyncio
import random
import threading
from functools import partial

import pytest
from drift_quota.ledger import Counted, Held, append, count, fold, held, uncounted
from drift_quota.tables import metadata
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from drift_core.api import Records
from drift_core.conformance import open_records

from .conftest import folded, link, push, remove, unlink, waiting

PATIENCE = 30.0
APP, BASE, OTHER = "acme/app", "acme/base", "other"


async def settle(records: Records) -> None:
    """Adds up all that waits."""
    for repository in await records.read(uncounted):
        await records.write(partial(count, repository=repository))
    while await records.write(fold):
        pass
    assert await records.read(waiting) == 0


async def test_changes_are_added_up_once(records: Records) -> None:
    for repository, size in ((APP, 100), (BASE, 20), (OTHER, 3)):
        await records.write(partial(push, repository=repository, size=size))
        await records.write(partial(count, repository=repository))
    digest = await records.write(partial(push, repository=APP, size=1000))
    await records.write(partial(push, repository=APP, size=7))
    await records.write(partial(remove, repository=APP, digest=digest, size=1000))
    assert await records.read(folded) == {APP: 100, BASE: 20, OTHER: 3}
    expected = Held(repository=107, organization=127)
    assert await records.read(partial(held, repository=APP)) == expected
    assert [await records.write(partial(fold, most=2)) for _ in range(3)] == [2, 1, 0]
    assert await records.read(folded) == {APP: 107, BASE: 20, OTHER: 3}
    assert await records.read(partial(held, repository=APP)) == expected
    assert await records.read(partial(held, repository=OTHER)) == Held(3, 3)
    assert await records.read(partial(held, repository="new")) == Held(0, 0)


async def test_a_repository_that_was_not_counted_is_not_added_up(records: Records) -> None:
    await records.write(partial(link, repository=APP, size=1000))
    await records.write(partial(push, repository=APP, size=1))
    assert await records.write(fold) == 0
    assert await records.read(uncounted) == [APP]
    assert await records.read(partial(held, repository=APP)) == Held(1, 1)
    assert await records.write(partial(count, repository=APP)) == Counted(before=None, held=1001)
    assert (await records.read(uncounted), await records.read(waiting)) == ([], 0)
    assert await records.read(partial(held, repository=APP)) == Held(1001, 1001)


async def test_what_nobody_told_of_is_found_by_a_count(records: Records) -> None:
    await records.write(partial(push, repository=APP, size=5))
    await records.write(partial(count, repository=APP))
    await records.write(partial(push, repository=APP, size=6))
    digest = await records.write(partial(link, repository=APP, size=1000))
    assert await records.write(partial(count, repository=APP)) == Counted(before=11, held=1011)
    await records.write(partial(unlink, digest=digest))
    assert await records.write(partial(count, repository=APP)) == Counted(before=1011, held=11)
    assert await records.read(folded) == {APP: 11}


async def test_an_undone_change_counts_nothing(records: Records) -> None:
    def undone(db: Connection) -> None:
        push(db, APP, 5)
        raise ZeroDivisionError

    await records.write(partial(count, repository=APP))
    with pytest.raises(ZeroDivisionError):
        await records.write(undone, concurrent=True)
    await settle(records)
    assert await records.read(folded) == {APP: 0}


async def test_nothing_is_lost_or_doubled_beside_pushes(records: Records, database_url: str | None) -> None:
    """Four pushers, two that add up and one that counts, on two nodes where there can be several."""
    chance = random.Random(1)
    pushing = True

    async def pusher(node: Records) -> int:
        total, mine = 0, list[tuple[str, str, int]]()
        for _ in range(60):
            if mine and chance.random() < 0.4:
                repository, digest, size = mine.pop(chance.randrange(len(mine)))
                await node.write(partial(remove, repository=repository, digest=digest, size=size), concurrent=True)
                total -= size
            else:
                repository, size = chance.choice((APP, BASE, OTHER)), chance.randrange(1, 10**12)
                digest = await node.write(partial(push, repository=repository, size=size), concurrent=True)
                mine.append((repository, digest, size))
                total += size
        return total

    async def adder(node: Records) -> None:
        while pushing:
            await node.write(partial(fold, most=5))

    async def counter(node: Records) -> None:
        while pushing:
            counted = await node.write(partial(count, repository=chance.choice((APP, BASE, OTHER))))
            assert counted.before in (None, counted.held)

    async with open_records("quota", "drift_quota.migrations", database_url) as second:
        node = records if database_url is None else second
        await asyncio.gather(*(records.write(partial(count, repository=one)) for one in (APP, BASE, OTHER)))
        others = [asyncio.create_task(one) for one in (adder(records), adder(node), counter(node))]
        totals = await asyncio.gather(*(pusher(one) for one in (records, node, records, node)))
        pushing = False
        await asyncio.gather(*others)
        await settle(records)
        known = await records.read(folded)
        assert sum(known.values()) == sum(totals)
        for repository, size in known.items():
            assert await records.write(partial(count, repository=repository)) == Counted(size, size)


async def test_what_is_committed_out_of_order_is_added_up(postgresql_url: str) -> None:
    """The number of a row is given before it is committed: what is above it may be added up, and it may not be lost."""
    written, go_on = threading.Event(), threading.Event()

    def slow(db: Connection) -> None:
        append(db, APP, 1)
        written.set()
        assert go_on.wait(PATIENCE)

    async with open_records("quota", "drift_quota.migrations", postgresql_url) as records:
        await records.write(partial(count, repository=APP))
        pushing = asyncio.create_task(records.write(slow, concurrent=True))
        assert await asyncio.to_thread(written.wait, PATIENCE)
        await records.write(partial(append, repository=APP, size=10), concurrent=True)
        assert await records.write(fold) == 1
        go_on.set()
        await pushing
        assert await records.write(fold) == 1
        assert await records.read(folded) == {APP: 11}


async def test_a_count_waits_for_a_push_that_is_not_committed(postgresql_url: str) -> None:
    written, go_on = threading.Event(), threading.Event()

    def slow(db: Connection) -> None:
        append(db, APP, 5)
        written.set()
        assert go_on.wait(PATIENCE)
        link(db, APP, 5)

    async with open_records("quota", "drift_quota.migrations", postgresql_url) as records:
        pushing = asyncio.create_task(records.write(slow, concurrent=True))
        assert await asyncio.to_thread(written.wait, PATIENCE)
        counting = asyncio.create_task(records.write(partial(count, repository=APP)))
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not await records.read(lambda db: db.exec_driver_sql(waits).scalar_one()):
            assert not counting.done()
        # Pushes to others go on.
        await records.write(partial(push, repository=BASE, size=1), concurrent=True)
        go_on.set()
        await pushing
        assert await counting == Counted(before=None, held=5)
        assert await records.read(waiting) == 1


REPOSITORIES = st.sampled_from((APP, BASE, OTHER))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), REPOSITORIES, st.integers(0, 10**12)),
        st.tuples(st.just("remove"), REPOSITORIES, st.integers(0, 100)),
        st.tuples(st.just("fold"), st.none(), st.integers(1, 5)),
        st.tuples(st.just("count"), REPOSITORIES, st.none()),
    ),
    max_size=40,
)
CORE = (
    "CREATE TABLE repositories (id INTEGER PRIMARY KEY, name TEXT UNIQUE, created_at REAL)",
    "CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER, created_at REAL)",
    "CREATE TABLE repository_blobs (repository_id INTEGER, digest TEXT)",
)


@given(STEPS)
@example([("push", APP, 5), ("count", APP, None), ("push", APP, 7), ("fold", None, 1), ("remove", APP, 0)])
def test_any_order_gives_what_is_held(steps: "list[tuple[str, str, int]]") -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    there: dict[str, list[tuple[str, int]]] = {APP: [], BASE: [], OTHER: []}
    with engine.begin() as db:
        for statement in CORE:
            db.exec_driver_sql(statement)
        metadata.create_all(db)
        for step, repository, number in steps:
            if step == "push":
                there[repository].append((push(db, repository, number), number))
            elif step == "remove" and there[repository]:
                digest, size = there[repository].pop(number % len(there[repository]))
                remove(db, repository, digest, size)
            elif step == "fold":
                fold(db, number)
            elif step == "count":
                count(db, repository)
            sums = sums_of(there)
            assert held(db, APP) == Held(sums[APP], sums[APP] + sums[BASE])
            assert held(db, OTHER) == Held(sums[OTHER], sums[OTHER])
            folded(db)
        for repository in uncounted(db):
            count(db, repository)
        while fold(db):
            pass
        assert waiting(db) == 0
        known = folded(db)
        assert {name: known.get(name, 0) for name in there} == sums_of(there)
    engine.dispose()


def sums_of(there: dict[str, list[tuple[str, int]]]) -> dict[str, int]:
    return {name: sum(size for _, size in blobs) for name, blobs in there.items()}
