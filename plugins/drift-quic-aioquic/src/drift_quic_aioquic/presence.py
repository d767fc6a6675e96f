"""What each process that serves QUIC has counted, in the database, so that any process can answer for all."""

import os
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import asdict, replace
from sqlalchemy import Connection, delete, insert, select, update

from drift_core.api import Records, Struct, Unavailable
from drift_quic_aioquic.tables import workers

WRITE_SECONDS: Final = 5.0
"""How old the figures of another process may be while it has something to do."""

HEARTBEAT_SECONDS: Final = 60.0
"""How often a process with nothing to do says that it is there; each word empties caches of others."""

GONE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
"""After so much silence a process counts as gone."""


class Counts(Struct, frozen=True):
    """What a process, or all of them, have counted; bytes are those of UDP payload."""

    active_connections: int = 0
    connections_total: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    connection_errors: int = 0
    stream_errors: int = 0


class Row(Struct, frozen=True):
    """A process: since when it serves, and when it last said so, in seconds since the epoch."""

    worker: int
    pid: int
    began_at: float
    updated_at: float
    counts: Counts


def node_of(address: str) -> str:
    """Returns what distinguishes this server from others that share the database."""
    return f"{socket.gethostname()}/{address}"


class Presence:
    """The row of this process."""

    def __init__(self, records: Records, address: str, worker: int, log: Any) -> None:
        self._records = records
        self._node = node_of(address)
        self._worker = worker
        self._log = log
        self._began_at = time.time()
        self._written: Counts | None = None
        self._written_at = 0.0

    async def tell(self, counts: Counts) -> None:
        """Writes what was counted, if it is news."""
        now = time.time()
        if counts == self._written and now - self._written_at < HEARTBEAT_SECONDS:
            return
        row = Row(self._worker, os.getpid(), self._began_at, now, counts)
        try:
            await self._records.write(partial(put, node=self._node, row=row), concurrent=True)
        except Unavailable as error:
            self._log.warning("the figures of QUIC were not written", reason=error.message)
            return
        self._written, self._written_at = counts, now

    async def leave(self) -> None:
        """Removes the row."""
        try:
            await self._records.write(partial(remove, node=self._node, worker=self._worker), concurrent=True)
        except Unavailable as error:
            self._log.warning("the figures of QUIC were not removed", reason=error.message)


def put(db: Connection, node: str, row: Row) -> None:
    """Writes a row."""
    here = (workers.c.node == node) & (workers.c.worker == row.worker)
    values = {"pid": row.pid, "began_at": row.began_at, "updated_at": row.updated_at, **asdict(row.counts)}
    if not db.execute(update(workers).where(here).values(values)).rowcount:
        db.execute(insert(workers).values(node=node, worker=row.worker, **values))


def remove(db: Connection, node: str, worker: int) -> None:
    """Removes a row."""
    db.execute(delete(workers).where((workers.c.node == node) & (workers.c.worker == worker)))


def rows(db: Connection, nodes: Sequence[str]) -> Sequence[Row]:
    """Returns those of a server that are there, in order: one for each process, of all addresses at which it serves."""
    since = time.time() - GONE_SECONDS
    found = select(workers).where(workers.c.node.in_(nodes) & (workers.c.updated_at > since))
    by_worker: dict[int, Row] = {}
    for one in db.execute(found.order_by(workers.c.worker, workers.c.updated_at)).mappings():
        counts = Counts(**{name: one[name] for name in Counts.__struct_fields__})
        row = Row(one["worker"], one["pid"], one["began_at"], one["updated_at"], counts)
        before = by_worker.get(row.worker)
        by_worker[row.worker] = row if before is None else replace(row, counts=total([before, row]))
    return list(by_worker.values())


def total(found: Sequence[Row]) -> Counts:
    """Adds up."""
    return Counts(*(sum(getattr(row.counts, name) for row in found) for name in Counts.__struct_fields__))
