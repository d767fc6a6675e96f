"""A lease: who holds it and until when, what its holder may still commit, and who does the work."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import Connection, select, update

from drift_core.config import load
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore
from drift_core.errors import Unavailable
from drift_core.metadata import clock, lease, queries, tables
from drift_core.metadata.database import Database, create_engine, open_database
from drift_core.metadata.lease import Lease, Times, is_held, may_be_taken, release, renew, run_while_held, take
from drift_core.metadata.tables import leases
from drift_core.metrics import Metrics
from drift_core.model import Digest
from drift_core.registry.changes import Changes
from drift_core.registry.uploads import Uploads
from drift_core.runtime import rules_of
from drift_core.trail import Trail

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
"""Seconds after which something counts as never happening."""

QUICK = Times(lasts=2.0, renew=0.2)


@pytest.fixture
def db(either_url: str) -> Iterator[Connection]:
    engine = create_engine(either_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
async def database(either_url: str) -> AsyncIterator[Database]:
    async with open_database(either_url) as database:
        yield database


@pytest.fixture
async def nodes(postgresql_url: str) -> AsyncIterator[tuple[Database, Database]]:
    async with open_database(postgresql_url) as one, open_database(postgresql_url) as other:
        yield one, other


def test_a_lease_has_one_holder_until_it_ends(db: Connection) -> None:
    assert take(db, "gc", "a", 60) == 1
    assert take(db, "gc", "b", 60) is None
    assert not may_be_taken(db, "gc", "b")
    assert take(db, "other", "b", 60) == 1
    assert renew(db, "gc", 1, -1)
    assert may_be_taken(db, "gc", "b")
    assert take(db, "gc", "b", 60) == 2
    assert not may_be_taken(db, "gc", "a")
    assert take(db, "gc", "a", 60) is None


def test_who_lost_a_lease_can_neither_renew_nor_release_it(db: Connection) -> None:
    first = take(db, "gc", "a", -1)
    second = take(db, "gc", "b", 60)
    assert (first, second) == (1, 2)
    assert is_held(db, "gc", 2)
    assert not is_held(db, "gc", 1)
    assert not renew(db, "gc", 1, 60)
    release(db, "gc", "a")
    assert take(db, "gc", "a", 60) is None


def test_a_new_process_of_a_holder_has_the_lease_at_once_and_the_old_one_no_more(db: Connection) -> None:
    assert take(db, "gc", "a", 60) == 1
    assert may_be_taken(db, "gc", "a")
    assert take(db, "gc", "a", 60) == 2
    assert not is_held(db, "gc", 1)


def test_a_lease_that_was_given_back_is_free_and_its_epoch_goes_on(db: Connection) -> None:
    assert take(db, "gc", "a", 60) == 1
    release(db, "gc", "a")
    assert take(db, "gc", "b", 60) == 2


def test_nodes_go_by_the_clock_of_the_database(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine(postgresql_url)
    with engine.connect() as db:
        assert take(db, "gc", "a", 60) == 1
        late = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: late)
        assert not may_be_taken(db, "gc", "b")
        assert take(db, "gc", "b", 60) is None
        began = db.execute(select(clock.now())).scalar_one()
        db.exec_driver_sql("SELECT pg_sleep(0.05)")
        # Within a transaction, too: else a lease would be renewed from when the transaction began.
        assert db.execute(select(clock.now())).scalar_one() >= began + 0.05
    engine.dispose()


def mark(db: Connection) -> None:
    queries.ensure_repository(db, "written")


async def written(database: Database) -> bool:
    return await database.read(lambda db: queries.repository_id(db, "written")) is not None


async def test_nothing_is_committed_after_somebody_else_took_the_lease(database: Database) -> None:
    epoch = await database.write(lambda db: take(db, "gc", "a", -1))
    assert epoch is not None
    old = Lease(database, "gc", epoch)
    # It has ended, but nobody else acts by it.
    await old.write(lambda db: queries.ensure_repository(db, "before"))
    assert not old.lost.done()
    await database.write(lambda db: take(db, "gc", "b", 60))
    with pytest.raises(Unavailable, match="another process has the lease now"):
        await old.write(mark)
    assert old.lost.done()
    assert not await written(database)
    await Lease(database, "gc", epoch + 1).write(mark)
    assert await written(database)


async def test_who_takes_a_lease_waits_for_what_is_being_committed_by_it(nodes: tuple[Database, Database]) -> None:
    """Else the old holder could commit after the new one has begun to work."""
    one, other = nodes
    assert await one.write(lambda db: take(db, "gc", "a", -1)) == 1
    writes, may_commit = threading.Event(), threading.Event()

    def slow(db: Connection) -> None:
        mark(db)
        writes.set()
        may_commit.wait(PATIENCE)

    writing = asyncio.create_task(Lease(one, "gc", 1).write(slow))
    await asyncio.to_thread(writes.wait, PATIENCE)
    taking = asyncio.create_task(other.write(lambda db: take(db, "gc", "b", 60)))
    await asyncio.wait([taking], timeout=0.5)
    assert not taking.done()
    may_commit.set()
    await writing
    assert await taking == 2
    assert await written(other)


async def test_a_late_change_waits_for_who_takes_the_lease_and_is_refused(nodes: tuple[Database, Database]) -> None:
    one, other = nodes
    assert await one.write(lambda db: take(db, "gc", "a", -1)) == 1
    taken, may_commit = threading.Event(), threading.Event()

    def slowly_taken(db: Connection) -> int | None:
        epoch = take(db, "gc", "b", 60)
        taken.set()
        may_commit.wait(PATIENCE)
        return epoch

    taking = asyncio.create_task(other.write(slowly_taken))
    await asyncio.to_thread(taken.wait, PATIENCE)
    writing = asyncio.create_task(Lease(one, "gc", 1).write(mark))
    await asyncio.wait([writing], timeout=0.5)
    assert not writing.done()
    may_commit.set()
    assert await taking == 2
    with pytest.raises(Unavailable):
        await writing
    assert not await written(other)


class Worker:
    """Counts how often its work begins and runs at this moment, and does nothing else."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.runs = False

    async def work(self, held: Lease) -> None:
        self.leases.append(held)
        self.runs = True
        try:
            await asyncio.Event().wait()
        finally:
            self.runs = False

    async def until(self, *, runs: bool) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.runs != runs:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(database: Database, holder: str) -> AsyncIterator[Worker]:
    worker = Worker()
    task = asyncio.create_task(run_while_held(database, "gc", holder, worker.work))
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def set_times(monkeypatch: pytest.MonkeyPatch, lasts: float, renewed: float) -> None:
    for times in ("SEVERAL_NODES", "ONE_MACHINE"):
        monkeypatch.setattr(lease, times, Times(lasts, renewed))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    set_times(monkeypatch, QUICK.lasts, QUICK.renew)


async def test_one_works_at_a_time_and_another_as_soon_as_it_stops(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_times(monkeypatch, 3600.0, 0.05)
    async with AsyncExitStack() as others:
        async with running(database, "a") as first:
            await first.until(runs=True)
            second = await others.enter_async_context(running(database, "b"))
            await asyncio.sleep(0.5)
            assert not second.runs
        # The lease was given back: nobody waits an hour for its end.
        await second.until(runs=True)
        assert (first.runs, first.leases[0].epoch, second.leases[0].epoch) == (False, 1, 2)


@pytest.mark.usefixtures("quick")
async def test_who_is_alive_keeps_the_lease_and_who_is_dead_loses_it(database: Database) -> None:
    assert await database.write(lambda db: take(db, "gc", "dead", QUICK.lasts)) == 1
    async with running(database, "a") as first, running(database, "b") as second:
        while not (first.runs or second.runs):
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.5 * QUICK.lasts)
        assert [first.runs, second.runs].count(True) == 1
        assert [held.epoch for held in first.leases + second.leases] == [2]


async def take_away(database: Database) -> None:
    def taken(db: Connection) -> None:
        db.execute(update(leases).values(expires_at=0))
        assert take(db, "gc", "thief", 3600) is not None

    await database.write(taken)


@pytest.mark.usefixtures("quick")
async def test_work_ends_when_the_lease_is_found_lost_and_does_not_begin_again(database: Database) -> None:
    async with running(database, "a") as worker:
        await worker.until(runs=True)
        await take_away(database)
        await worker.until(runs=False)
        await asyncio.sleep(2 * QUICK.renew)
        assert (worker.runs, len(worker.leases)) == (False, 1)


async def test_a_change_that_is_refused_ends_the_work_without_waiting_for_a_renewal(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_times(monkeypatch, 7200.0, 3600.0)
    async with running(database, "a") as worker:
        await worker.until(runs=True)
        await take_away(database)
        with pytest.raises(Unavailable):
            await worker.leases[0].write(mark)
        await worker.until(runs=False)
    assert not await written(database)


async def test_work_ends_before_the_lease_where_the_database_does_not_answer(
    nodes: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_times(monkeypatch, 4.0, 1.5)
    one, other = nodes
    async with running(one, "a") as worker:
        await worker.until(runs=True)
        locked, over = threading.Event(), threading.Event()

        def lock(db: Connection) -> None:
            db.exec_driver_sql("SELECT 1 FROM leases FOR UPDATE")
            locked.set()
            over.wait(PATIENCE)

        locking = asyncio.create_task(other.write(lock))
        await asyncio.to_thread(locked.wait, PATIENCE)
        try:
            await worker.until(runs=False)
            assert not await other.read(lambda db: may_be_taken(db, "gc", "b"))
        finally:
            over.set()
            await locking
        await worker.until(runs=True)
        assert worker.leases[-1].epoch > worker.leases[0].epoch


@pytest.mark.usefixtures("quick")
async def test_what_work_raises_comes_out_and_the_lease_is_given_back(database: Database) -> None:
    async def broken(_: Lease) -> None:
        raise LookupError("a defect")

    with pytest.raises(LookupError, match="a defect"):
        await run_while_held(database, "gc", "a", broken)
    assert await database.read(lambda db: may_be_taken(db, "gc", "b"))


async def test_expired_uploads_are_ended_by_who_leads_alone(database: Database) -> None:
    changes = Changes([], frozenset(), 5.0, Metrics(), Trail())
    rules = rules_of(load(None, {}, ("registry.upload_expiry_hours=1",)))
    uploads = Uploads(database, MemoryStore(MemoryPlace()), rules, changes, Metrics())
    kept, expired = [await uploads.begin("app", Digest.of(b"").algorithm) for _ in range(2)]
    old = update(tables.uploads).where(tables.uploads.c.id == expired).values(started_at=0)
    await database.write(lambda db: db.execute(old))

    async def known() -> list[str]:
        return await database.read(lambda db: queries.uploads_before(db, time.time() + 1, 10))

    assert await database.write(lambda db: take(db, "gc", "a", -1)) == 1
    assert await database.write(lambda db: take(db, "gc", "b", 60)) == 2
    with pytest.raises(Unavailable):
        await uploads.expire(Lease(database, "gc", 1))
    assert sorted(await known()) == sorted([kept, expired])
    # The old leader has aborted it in the store, which is no error for the new one.
    assert await uploads.expire(Lease(database, "gc", 2)) == 1
    assert await known() == [kept]
