"""What the core would lend to a driver, for a test that opens one."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from drift_core.api import (
    Access,
    Audit,
    Authenticator,
    Authorizer,
    BlobStore,
    Optimizer,
    Records,
    ServerSettings,
    Services,
    Unavailable,
)
from drift_core.guard import Guard
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import Database, looking, open_database
from drift_core.metadata.migrations import migrate
from drift_core.metadata.postgresql import Settings
from drift_core.metadata.sqlite import READERS
from drift_core.runtime import NoRecords, PluginRecords
from drift_core.trail import Trail


class _Metrics(CollectorRegistry):
    """Can be pickled: in the other process nothing has been measured."""

    def __reduce__(self) -> tuple[type["_Metrics"], tuple[()]]:
        return _Metrics, ()


T = TypeVar("T")

SETTINGS = ServerSettings("127.0.0.1:0", 100, 5.0)


def services(
    plugin: str = "conformance",
    server: ServerSettings = SETTINGS,
    records: Records | None = None,
    access: Access | None = None,
    audit: Audit | None = None,
    beneath: BlobStore | None = None,
    optimizers: Mapping[str, Optimizer] | None = None,
) -> Services:
    """Returns services that can be pickled, so that a suite may open the driver in another process too.

    ``records`` are for a driver that has tables; see `open_records`. ``access`` is that of a registry that serves
    everybody, or made by `access_by`; ``audit`` of one without auditors, or ``Trail([...])``. ``beneath`` is for a
    layer around a store, ``optimizers`` for what runs them.
    """
    metrics = _Metrics(auto_describe=True)
    log = structlog.get_logger("drift.plugin")
    return Services(
        plugin,
        log,
        server,
        metrics,
        metrics,
        records or NoRecords(),
        access or access_by(),
        audit or Trail(),
        beneath=beneath,
        optimizers=optimizers or {},
    )


def apart(given: Services) -> Services:
    """Returns the same services for a driver that is open beside another of its kind, which no server does.

    What the two measure has the same names, which one registry refuses.
    """
    metrics = _Metrics(auto_describe=True)
    return msgspec.structs.replace(given, metrics=metrics, all_metrics=metrics)


def access_by(authenticators: Sequence[Authenticator] = (), authorizers: Sequence[Authorizer] = ()) -> Access:
    """Returns what the core would lend that has these authenticators, in order, and these policies."""
    return Guard(Trail()).arm(authenticators, authorizers)


@asynccontextmanager
async def open_records(plugin: str, migrations: str, url: str | None = None) -> AsyncIterator[Records]:
    """Yields a database in which the plugin's migrations have made its tables. Raises `StartError`.

    It is a SQLite of its own, or that of ``url``, which is then that of ``[metadata]``; who opens the same one again
    is another node.
    """
    with TemporaryDirectory() as folder:
        url = url or f"sqlite:///{Path(folder) / 'drift.db'}"
        migrate(url, [Branch(plugin, f"drift-{plugin}", migrations)])
        async with open_database(url, Settings(connections=2 * READERS)) as database:
            await _warm(database)
            async with looking(database):
                yield _Records(plugin, database)


class _Records(PluginRecords):
    """Every change is followed by a request of somebody, to this node at least."""

    async def write(self, change: Callable[[Connection], T], *, concurrent: bool = False) -> T:
        try:
            return await super().write(change, concurrent=concurrent)
        finally:
            with suppress(Unavailable):
                await self._database.look()


async def _warm(database: Database) -> None:
    """Makes threads and connections, which stay from now on: a suite looks for what a driver leaves."""
    # The writer of SQLite first, which would otherwise keep a connection that a reader needs later.
    await database.write(lambda _: None)
    for work in (database.read, database.write) if database.several_nodes else (database.read,):
        await asyncio.gather(*map(work, [_wait_for(threading.Barrier(READERS))] * READERS))


def _wait_for(barrier: threading.Barrier) -> Callable[[Connection], int]:
    return lambda _: barrier.wait()
