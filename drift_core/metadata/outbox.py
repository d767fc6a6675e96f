"""The outbox: events that are written with the change they tell of, and how far each subscriber has come with them."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, delete, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.metadata.locks import exclusive, shared
from drift_core.metadata.tables import events, parked_events, subscriptions
from drift_core.model import Change, Event

FORGOTTEN_SECONDS = 7 * 86400.0
"""How long events wait for a subscriber that is not there, such as one whose plugin was disabled."""

_LOCK = "events"
"""Held shared by changes that write an event, from before it has its number until it is committed."""

_LOCK_MILLISECONDS = 250
"""How long `settled` waits, since changes wait behind it: one of a node that hangs takes its time to be ended."""

_ENCODER = msgspec.json.Encoder(enc_hook=str)
_ADD_EVENT = insert(events)


def add_event(db: Connection, change: Change) -> None:
    """Writes an event; call it in the transaction that makes the change."""
    shared(db, _LOCK)
    event = Event(
        id=0,
        at=time.time(),
        action=change.action,
        repository=change.repository,
        digest=change.digest,
        tags=change.tags,
        size=change.size,
        media_type=change.media_type,
        artifact_type=change.artifact_type,
        subject=change.subject,
        source=change.source,
        actor=None if change.identity is None else change.identity.name,
    )
    content = _ENCODER.encode(event)
    db.execute(_ADD_EVENT, {"repository": change.repository, "action": change.action, "content": content})


def subscribe(db: Connection, subscriber: str) -> int:
    """Returns how far a subscriber is; one that is new begins with what happens from now on."""
    newest = select(func.coalesce(func.max(events.c.id), 0)).scalar_subquery()
    values = {"subscriber": subscriber, "position": newest, "seen_at": time.time()}
    db.execute(
        upsert(subscriptions)
        .values(values)
        .on_conflict_do_update(index_elements=["subscriber"], set_={"seen_at": values["seen_at"]})
    )
    return int(
        db.execute(select(subscriptions.c.position).where(subscriptions.c.subscriber == subscriber)).scalar_one()
    )


def settled(db: Connection, position: int) -> int:
    """Returns the number up to which every event behind ``position`` is there that ever will be.

    PostgreSQL numbers events before they are committed, so that a lower number may appear after a higher one. Where
    there is anything new this waits for the changes that are being committed. Raises `sqlalchemy.exc.DBAPIError`
    where one of them takes longer than `_LOCK_MILLISECONDS`.
    """
    newest = select(func.coalesce(func.max(events.c.id), 0))
    if int(db.execute(newest).scalar_one()) > position and db.dialect.name == "postgresql":
        db.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MILLISECONDS}")
        exclusive(db, _LOCK)
    return int(db.execute(newest).scalar_one())


def events_after(db: Connection, position: int, until: int, limit: int) -> list[Event]:
    """Returns up to ``limit`` events behind ``position`` and up to ``until``, in order; see `settled`."""
    numbers = (events.c.id > position, events.c.id <= until)
    return _read(db, select(events.c.id, events.c.content).where(*numbers).order_by(events.c.id).limit(limit))


def parked(db: Connection, subscriber: str) -> list[tuple[str, int]]:
    """Returns repository and id of every event that waits for a subscriber, in order of the ids."""
    query = select(events.c.repository, events.c.id).join(parked_events, parked_events.c.event_id == events.c.id)
    rows = db.execute(query.where(parked_events.c.subscriber == subscriber).order_by(events.c.id))
    return [(repository, event) for repository, event in rows]


def event(db: Connection, identifier: int) -> Event | None:
    """Returns one event, or None where it was removed."""
    return next(iter(_read(db, select(events.c.id, events.c.content).where(events.c.id == identifier))), None)


def advance(db: Connection, subscriber: str, position: int, park: Sequence[int]) -> None:
    """Records that a subscriber took every event up to ``position`` but those that are now parked."""
    for identifier in park:
        db.execute(insert(parked_events).values(subscriber=subscriber, event_id=identifier))
    row = subscriptions.c.subscriber == subscriber
    db.execute(update(subscriptions).where(row).values(position=position, seen_at=time.time()))


def unpark(db: Connection, subscriber: str, identifier: int) -> None:
    """Records that a subscriber took a parked event."""
    row = (parked_events.c.subscriber == subscriber) & (parked_events.c.event_id == identifier)
    db.execute(delete(parked_events).where(row))


def purge(db: Connection, active: Sequence[str], limit: int) -> int:
    """Removes up to ``limit`` events that every subscriber took, and returns how many.

    A subscriber that is not ``active`` and was not seen for `FORGOTTEN_SECONDS` is forgotten first.
    """
    now = time.time()
    # One that has nothing to be told, or is left alone for a while, is still there.
    db.execute(update(subscriptions).where(subscriptions.c.subscriber.in_(active)).values(seen_at=now))
    stale = subscriptions.c.subscriber.not_in(active) & (subscriptions.c.seen_at < now - FORGOTTEN_SECONDS)
    db.execute(delete(subscriptions).where(stale))
    lowest = db.execute(select(func.min(subscriptions.c.position))).scalar()
    taken = [] if lowest is None else [events.c.id <= lowest]
    waiting = exists().where(parked_events.c.event_id == events.c.id)
    old = select(events.c.id).where(*taken, ~waiting).order_by(events.c.id).limit(limit)
    return db.execute(delete(events).where(events.c.id.in_(old))).rowcount


def _read(db: Connection, query: Select[tuple[Any, ...]]) -> list[Event]:
    rows = db.execute(query)
    return [msgspec.structs.replace(msgspec.json.decode(content, type=Event), id=number) for number, content in rows]
