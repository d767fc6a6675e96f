"""What the core would lend to a driver, for a test that opens one."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from drift_core.api import Access, Audit, Authenticator, Authorizer, Records, ServerSettings, Services
from drift_core.guard import Guard
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import READERS, open_database
from drift_core.metadata.migrations import migrate
from drift_core.runtime import NoRecords, PluginRecords
from drift_core.trail import Trail


class _Metrics(CollectorRegistry):
    """Can be pickled: in the other process nothing has been measured."""

    def __reduce__(self) -> tuple[type["_Metrics"], tuple[()]]:
        return _Metrics, ()


SETTINGS = ServerSettings("127.0.0.1:0", 100, 5.0)


def services(
    plugin: str = "conformance",
    server: ServerSettings = SETTINGS,
    records: Records | None = None,
    access: Access | None = None,
    audit: Audit | None = None,
) -> Services:
    """Returns services that can be pickled, so that a suite may open the driver in another process too.

    ``records`` are for a driver that has tables; see `open_records`. ``access`` is that of a registry that serves
    everybody, or made by `access_by`; ``audit`` of one without auditors, or ``Trail([...])``.
    """
    metrics = _Metrics(auto_describe=True)
    log = structlog.get_logger("drift.plugin")
    return Services(
        plugin, log, server, metrics, metrics, records or NoRecords(), access or access_by(), audit or Trail()
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
async def open_records(plugin: str, migrations: str) -> AsyncIterator[Records]:
    """Yields a database of its own in which the plugin's migrations have made its tables. Raises `StartError`."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'drift.db'}"
        migrate(url, [Branch(plugin, f"drift-{plugin}", migrations)])
        async with open_database(url) as database:
            # Writer and readers have their threads and connections from now on: a suite looks for what a driver leaves.
            # The writer first, which would otherwise keep a connection that a reader needs later.
            await database.write(lambda _: None)
            barrier = threading.Barrier(READERS)
            await asyncio.gather(*(database.read(lambda _: barrier.wait()) for _ in range(READERS)))
            yield PluginRecords(database)
