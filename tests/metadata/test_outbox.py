"""The outbox and the leases: what is kept for whom, what is removed, and who holds a lease."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from drift_core.metadata import outbox
from drift_core.metadata.database import create_engine
from drift_core.metadata.migrations import migrate
from drift_core.metadata.tables import subscriptions
from drift_core.model import Change, Identity


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def change(repository: str = "app") -> Change:
    return Change(action="blob.push", repository=repository, identity=Identity("ann", "test"))


def ids(db: Connection) -> list[int]:
    return [event.id for event in outbox.events_after(db, 0, 100)]


def test_an_event_comes_back_as_it_was_written(db: Connection) -> None:
    outbox.add_event(db, change())
    (event,) = outbox.events_after(db, 0, 100)
    assert (event.action, event.repository, event.actor) == ("blob.push", "app", "ann")
    assert event == outbox.event(db, event.id)


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


def test_a_lease_has_one_holder_until_it_ends(db: Connection) -> None:
    assert outbox.hold_lease(db, "gc", "a", 60)
    assert not outbox.hold_lease(db, "gc", "b", 60)
    assert outbox.hold_lease(db, "other", "b", 60)
    assert outbox.hold_lease(db, "gc", "a", -1)
    assert outbox.hold_lease(db, "gc", "b", 60)
    assert not outbox.hold_lease(db, "gc", "a", 60)
    outbox.release_lease(db, "gc", "a")
    assert not outbox.hold_lease(db, "gc", "a", 60)
    outbox.release_lease(db, "gc", "b")
    assert outbox.hold_lease(db, "gc", "a", 60)


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
