"""The nodes that share a database: each says now and then that it is there, and with what."""

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import structlog
from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core import __version__
from drift_core.config import ClusterConfig, Config, parse_address
from drift_core.errors import Unavailable
from drift_core.metadata.clock import now
from drift_core.metadata.database import Database
from drift_core.metadata.tables import nodes

SILENT_SECONDS = 600.0
"""After which a node that says nothing more takes no requests either."""

FORGOTTEN_SECONDS = 86400.0
"""How long a node is remembered that fell silent without having left."""

LEAVE_SECONDS = 5.0
"""How long a node that stops waits for the database, to say so."""

BEATS = 4
"""How often at least a node says that it is there within the time after which it counts as unhealthy."""


ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened on
"""Hosts that mean every address of a machine, and name none."""


class Node(Struct, frozen=True, kw_only=True):
    """A `drift serve`, or a process that serves the application of `create_app`.

    ``id`` is unique, and that by which it holds leases; ``label`` is what the operator calls it. ``address`` is
    ``host:port``, None where it is not known. ``started_at`` is in seconds since the epoch, by the node's own clock.
    """

    id: str
    label: str
    address: str | None
    version: str
    workers: int
    started_at: float


def this_node(config: Config) -> Node:
    """Describes a `drift serve`: nobody else uses its address there, so that processes that follow each other are one.

    For the process that speaks for it.
    """
    host, port = parse_address(config.server.bind_addr)
    name = socket.gethostname()
    return Node(
        id=f"{_place()}/{config.server.bind_addr}",
        label=config.cluster.node_id or name,
        address=f"{name}:{port}" if host in ANY else config.server.bind_addr,
        version=__version__,
        workers=config.server.workers or os.cpu_count() or 1,
        started_at=time.time(),
    )


def this_process(config: Config) -> Node:
    """Describes a process of a server that is not `drift serve`: it is a node of its own, at an unknown address."""
    name = socket.gethostname()
    return Node(
        # Several processes of one server have one configuration, and those of two containers may have one process id.
        id=f"{_place()}/{os.getpid()}-{token_hex(4)}",
        label=config.cluster.node_id or name,
        address=None,
        version=__version__,
        workers=1,
        started_at=time.time(),
    )


def _place() -> str:
    """Names where an address can be used once: a network namespace of a machine that has not been started again.

    The name of the host alone would be that of two containers, too.
    """
    if sys.platform != "linux":
        return socket.gethostname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/net').stat().st_ino}"


def record_node(db: Connection, node: Node, *, leaving: bool = False) -> None:
    """Records that a node is there now, or that it is ``leaving``: it serves what it has begun, and then stops."""
    values = {**structs.asdict(node), "leaving": leaving, "seen_at": now()}
    change = {name: value for name, value in values.items() if name != "id"}
    db.execute(upsert(nodes).values(values).on_conflict_do_update(index_elements=["id"], set_=change))


def _is_gone(timeout: float) -> ColumnElement[bool]:
    silent = now() - nodes.c.seen_at
    return or_(and_(nodes.c.leaving, silent > timeout), silent > FORGOTTEN_SECONDS)


def has_gone(db: Connection, timeout: float) -> bool:
    """Says whether there is a node for `forget_nodes`, without a change that others would notice."""
    return db.execute(select(nodes.c.id).where(_is_gone(timeout)).limit(1)).first() is not None


def forget_nodes(db: Connection, timeout: float) -> int:
    """Removes nodes that left ``timeout`` seconds ago, or are silent for `FORGOTTEN_SECONDS`; returns how many."""
    return db.execute(delete(nodes).where(_is_gone(timeout))).rowcount


async def announce(database: Database, node: Node, cluster: ClusterConfig) -> None:
    """Records every ``heartbeat_interval_seconds`` that a node is there, until cancelled, and then that it leaves.

    More often where others would begin to doubt it before.
    """
    interval = min(cluster.heartbeat_interval_seconds, cluster.health_check_timeout_seconds / BEATS)
    log = structlog.get_logger("drift.node", node=node.id)
    try:
        while True:
            try:
                await database.write(lambda db: record_node(db, node), durable=False)
            except Unavailable as error:
                log.warning("cannot say now that this node is there", error=error.message)
            await asyncio.sleep(interval)
    finally:
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await database.write(lambda db: record_node(db, node, leaving=True))


def versions_of_nodes(db: Connection) -> set[str]:
    """Returns the versions of Drift that serve, or did until a moment ago."""
    seen = nodes.c.seen_at > now() - SILENT_SECONDS
    return set(db.execute(select(nodes.c.version).where(~nodes.c.leaving, seen).distinct()).scalars())
