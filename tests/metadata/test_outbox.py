"""The outbox: what is kept for whom, in which order it is told, and what is removed."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import DBAPIError

from drift_core.metadata import outbox
from drift_core.metadata.database import create_engine, open_database
from drift_core.metadata.lease import Lease, take
from drift_core.metadata.tables import subscriptions
from drift_core.metrics import Metrics
from drift_core.model import Change, Event, Identity
from drift_core.registry.delivery import Delivery, NamedSubscriber


@pytest.fixture
def db(either_url: str) -> Iterator[Connection]:
    engine = create_engine(either_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def change(repository: str = "app") -> Change:
    return Change(action="blob.push", repository=repository, identity=Identity("ann", "test"))


def ids(db: Connection) -> list[int]:
    return [event.id for event in outbox.events_after(db, 0, outbox.settled(db, 0), 100)]


def test_an_event_comes_back_as_it_was_written(db: Connection) -> None:
    outbox.add_event(db, change())
    (event,) = outbox.events_after(db, 0, outbox.settled(db, 0), 100)
    assert (event.action, event.repository, event.actor) == ("blob.push", "app", "ann")
    assert event == outbox.event(db, event.id)


def test_no_event_is_read_behind_what_is_settled(db: Connection) -> None:
    for _ in range(4):
        outbox.add_event(db, change())
    assert [event.id for event in outbox.events_after(db, 1, 3, 100)] == [2, 3]
    assert [event.id for event in outbox.events_after(db, 1, 4, 2)] == [2, 3]


def test_a_new_subscriber_begins_now_and_a_known_one_where_it_was(db: Connection) -> None:
    outbox.add_event(db, change())
    assert outbox.subscribe(db, "new") == 1
    outbox.add_event(db, change())
    assert outbox.subscribe(db, "new") == 1
    outbox.advance(db, "new", 2, [])
    assert outbox.subscribe(db, "new") == 2


def test_only_what_everybody_took_is_removed(db: Connection) -> None:
    outbox.subscribe(db, "quick")
    outbox.subscribe(db, "slow")
    for _ in range(5):
        outbox.add_event(db, change())
    outbox.advance(db, "quick", 5, [])
    assert outbox.purge(db, ["quick", "slow"], 100) == 0
    outbox.advance(db, "slow", 4, [2])
    assert outbox.purge(db, ["quick", "slow"], 2) == 2
    assert outbox.purge(db, ["quick", "slow"], 100) == 1
    assert ids(db) == [2, 5]
    assert outbox.parked(db, "slow") == [("app", 2)]
    outbox.unpark(db, "slow", 2)
    outbox.purge(db, ["quick", "slow"], 100)
    assert ids(db) == [5]


def test_who_is_gone_for_long_holds_nothing(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox.subscribe(db, "gone")
    outbox.subscribe(db, "here")
    outbox.add_event(db, change())
    outbox.advance(db, "here", 1, [])
    assert outbox.purge(db, ["here"], 100) == 0
    monkeypatch.setattr(outbox, "FORGOTTEN_SECONDS", -1.0)
    assert outbox.purge(db, ["here"], 100) == 1


def test_a_number_is_never_given_twice(db: Connection) -> None:
    """Else a subscriber would take a new event for one that it was told already."""
    outbox.subscribe(db, "one")
    outbox.add_event(db, change())
    outbox.advance(db, "one", 1, [])
    outbox.purge(db, ["one"], 100)
    outbox.add_event(db, change())
    assert ids(db) == [2]


def test_who_is_there_keeps_its_events_however_long_it_was_quiet(db: Connection) -> None:
    """Otherwise a plugin that was quiet for a week would lose what waits when it is disabled for a minute."""
    outbox.subscribe(db, "quiet")
    outbox.add_event(db, change())
    db.execute(update(subscriptions).values(seen_at=time.time() - 2 * outbox.FORGOTTEN_SECONDS))
    outbox.purge(db, ["quiet"], 100)
    outbox.purge(db, [], 100)
    assert ids(db) == [1]
    db.execute(update(subscriptions).values(seen_at=time.time() - 2 * outbox.FORGOTTEN_SECONDS))
    outbox.purge(db, [], 100)
    assert ids(db) == []


@pytest.fixture
def connections(postgresql_url: str) -> Iterator[Callable[[], Connection]]:
    """Opens a connection to one PostgreSQL each time that it is called."""
    engine = create_engine(postgresql_url)
    with ExitStack() as opened:
        yield lambda: opened.enter_context(engine.connect())
    engine.dispose()


def told(db: Connection, position: int) -> list[str]:
    """Returns the repositories of what would be told now to who is at a position."""
    with db.begin():
        until = outbox.settled(db, position)
    return [event.repository for event in outbox.events_after(db, position, until, 100)]


def test_an_event_that_is_committed_late_is_not_skipped(connections: Callable[[], Connection]) -> None:
    """PostgreSQL gives it the lower number, which who is told the other one first would have passed."""
    early, late, reader = connections(), connections(), connections()
    outbox.add_event(early, change("early"))
    outbox.add_event(late, change("late"))
    late.commit()
    with pytest.raises(DBAPIError, match="lock timeout"):
        told(reader, 0)
    early.commit()
    assert told(reader, 0) == ["early", "late"]


def test_an_event_that_is_undone_holds_nobody_up(connections: Callable[[], Connection]) -> None:
    undone, done, reader = connections(), connections(), connections()
    outbox.add_event(undone, change("undone"))
    outbox.add_event(done, change("done"))
    done.commit()
    undone.rollback()
    assert told(reader, 0) == ["done"]


def test_a_change_that_hangs_holds_up_no_other(connections: Callable[[], Connection]) -> None:
    hangs, other, reader, watcher = (connections() for _ in range(4))
    outbox.add_event(hangs, change("hangs"))
    outbox.add_event(other, change("other"))
    other.commit()
    with ThreadPoolExecutor(1) as thread:
        asked = thread.submit(told, reader, 0)
        while not asked.done() and not watcher.exec_driver_sql("SELECT 1 FROM pg_locks WHERE NOT granted").all():
            time.sleep(0.001)
        # It waits behind who waits for the one that hangs, and no longer.
        outbox.add_event(other, change("other"))
        other.commit()
        with pytest.raises(DBAPIError, match="lock timeout"):
            asked.result()
    hangs.commit()
    assert told(reader, 0) == ["hangs", "other", "other"]


def test_who_was_told_everything_waits_for_nobody(connections: Callable[[], Connection]) -> None:
    """Else every node would wait for every change, several times a second."""
    under_way, reader = connections(), connections()
    outbox.add_event(reader, change("old"))
    reader.commit()
    outbox.add_event(under_way, change("new"))
    assert told(reader, 1) == []


class Told:
    """A subscriber that writes down what it is told."""

    subscribed = ("blob.push",)

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def on_event(self, event: Event) -> None:
        self.numbers.append(event.id)


@pytest.mark.anyio
async def test_every_event_of_several_nodes_is_told_once_and_in_order(postgresql_url: str) -> None:
    count, subscriber, metrics = 200, Told(), Metrics()
    named = NamedSubscriber("told", "test", frozenset({"blob.push"}), subscriber)

    async with open_database(postgresql_url) as one, open_database(postgresql_url) as other:
        await one.write(lambda db: outbox.subscribe(db, "told"))
        epoch = await one.write(lambda db: take(db, "background", "test", 3600))
        assert epoch is not None
        delivery = Delivery(one, Lease(one, "background", epoch), [named], 5.0, metrics)
        delivering = asyncio.create_task(delivery.run())

        def push(db: Connection) -> None:
            outbox.add_event(db, change())
            # A number is taken, and others are committed before this one.
            db.execute(select(func.pg_sleep(random.uniform(0, 0.02))))

        writers = [database.write(push) for _ in range(count // 2) for database in (one, other)]
        await asyncio.gather(*writers)
        async with asyncio.timeout(30):
            while len(subscriber.numbers) < count:
                await asyncio.sleep(0.02)
        delivering.cancel()
        with suppress(asyncio.CancelledError):
            await delivering
    assert len(subscriber.numbers) == count
    assert subscriber.numbers == sorted(set(subscriber.numbers))
