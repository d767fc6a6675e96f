"""What can be told of all that share a database: which nodes there are, who leads, and what waits to be told."""

import time
from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection, func, select

from drift_core.metadata.clock import now
from drift_core.metadata.lease import BACKGROUND
from drift_core.metadata.tables import events, leases, nodes, parked_events, subscriptions

LISTED = 1000
"""Most nodes, and most subscribers, that are listed."""

COUNTED = 10_000
"""How far events are counted that wait: there may be millions."""

Status = Literal["Healthy", "Degraded", "Unhealthy", "Leaving"]


class NodeState(Struct, frozen=True, kw_only=True):
    """A node as the database knows it; ``started_at`` as RFC 3339 has it, ``last_seen_seconds`` ago."""

    id: str
    node_id: str
    address: str | None
    role: Literal["Leader", "Follower"]
    status: Status
    version: str
    workers: int
    started_at: str
    last_seen_seconds: float


class LeaseState(Struct, frozen=True, kw_only=True):
    """The lease for background work: by whom it was taken, for the how manieth time, and when it ends, in seconds."""

    holder: str
    epoch: int
    expires_in: float


class ClusterState(Struct, frozen=True, kw_only=True):
    """All of it at one moment.

    ``leader`` is the id of the node that does the background work, None while nobody does. ``lag`` has for each
    subscriber how many events it has not taken, at most `COUNTED`. ``database`` is sqlite or postgresql.
    """

    nodes: list[NodeState]
    leader: str | None
    lease: LeaseState | None
    lag: dict[str, int]
    database: str


def cluster_state(db: Connection, timeout: float) -> ClusterState:
    """Returns what is known now; a node silent for ``timeout`` seconds is unhealthy, for half of it degraded."""
    lease = _lease(db)
    leader = lease.holder if lease is not None and lease.expires_in > 0 else None
    return ClusterState(
        nodes=_nodes(db, timeout, leader), leader=leader, lease=lease, lag=_lag(db), database=db.dialect.name
    )


def _lease(db: Connection) -> LeaseState | None:
    expires_in = (leases.c.expires_at - now()).label("expires_in")
    row = db.execute(select(leases.c.holder, leases.c.epoch, expires_in).where(leases.c.name == BACKGROUND)).first()
    return None if row is None else LeaseState(holder=row[0], epoch=row[1], expires_in=max(0.0, round(row[2], 3)))


def _nodes(db: Connection, timeout: float, leader: str | None) -> list[NodeState]:
    silent = (now() - nodes.c.seen_at).label("silent")
    query = select(nodes, silent).order_by(nodes.c.label, nodes.c.address, nodes.c.id).limit(LISTED)
    return [
        NodeState(
            id=row.id,
            node_id=row.label,
            address=row.address,
            role="Leader" if row.id == leader else "Follower",
            status=_status(row.silent, timeout, leaving=row.leaving),
            version=row.version,
            workers=row.workers,
            started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.started_at)),
            last_seen_seconds=max(0.0, round(row.silent, 3)),
        )
        for row in db.execute(query)
    ]


def _status(silent: float, timeout: float, *, leaving: bool) -> Status:
    if leaving:
        return "Leaving"
    if silent > timeout:
        return "Unhealthy"
    return "Degraded" if silent > timeout / 2 else "Healthy"


def _lag(db: Connection) -> dict[str, int]:
    query = select(subscriptions.c.subscriber, subscriptions.c.position).order_by(subscriptions.c.subscriber)
    lag = {}
    for subscriber, position in db.execute(query.limit(LISTED)).all():
        new = select(events.c.id).where(events.c.id > position).limit(COUNTED)
        parked = select(parked_events.c.event_id).where(parked_events.c.subscriber == subscriber).limit(COUNTED)
        waiting = (db.execute(select(func.count()).select_from(part.subquery())).scalar_one() for part in (new, parked))
        lag[subscriber] = min(COUNTED, sum(waiting))
    return lag
