"""What the core would lend to a driver, for a test that opens one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from prometheus_client import CollectorRegistry

from drift_core.api import Records, ServerSettings, Services
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import open_database
from drift_core.metadata.migrations import migrate
from drift_core.runtime import NoRecords


class _Metrics(CollectorRegistry):
    """Can be pickled: in the other process nothing has been measured."""

    def __reduce__(self) -> tuple[type["_Metrics"], tuple[()]]:
        return _Metrics, ()


SETTINGS = ServerSettings("127.0.0.1:0", 100, 5.0)


def services(
    plugin: str = "conformance", server: ServerSettings = SETTINGS, records: Records | None = None
) -> Services:
    """Returns services that can be pickled, so that a suite may open the driver in another process too.

    ``records`` are for a driver that has tables; see `open_records`.
    """
    metrics = _Metrics(auto_describe=True)
    log = structlog.get_logger("drift.plugin")
    return Services(plugin, log, server, metrics, metrics, records or NoRecords())


@asynccontextmanager
async def open_records(plugin: str, migrations: str) -> AsyncIterator[Records]:
    """Yields a database of its own in which the plugin's migrations have made its tables. Raises `StartError`."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'drift.db'}"
        migrate(url, [Branch(plugin, f"drift-{plugin}", migrations)])
        async with open_database(url) as database:
            yield database
