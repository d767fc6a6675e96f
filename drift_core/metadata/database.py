"""Opens the metadata database of one process, in SQLite or in PostgreSQL by its URL; see `Database`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from drift_core.errors import ConfigError, StartError, Unavailable
from drift_core.metadata.postgresql import PostgresqlDatabase, Settings, postgresql_engine
from drift_core.metadata.sqlite import SqliteDatabase, sqlite_engine

T = TypeVar("T")

DEFAULT = Settings()

LOOK_SECONDS = 0.02
"""Between two questions of whoever answers no requests."""


class Database(Protocol):
    """Runs queries and changes, each a plain function of a SQLAlchemy `Connection`.

    Safe for any number of tasks of the loop that opened it.
    """

    @property
    def several_nodes(self) -> bool:
        """Whether processes of other machines may use it at the same time."""
        ...

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Returns ``query(connection)``, run in a thread. Raises `Unavailable` where the database fails."""
        ...

    async def write(self, change: Callable[[Connection], T], *, alone: bool = False, durable: bool = True) -> T:
        """Returns ``change(connection)`` after it is committed and, unless not wanted, durable.

        The change is all or nothing; an exception that it raises undoes it and comes out here. It may be run again
        where another change came between, so it does nothing but write; see `drift_core.metadata.locks` for what it
        may have to take. One that is ``alone`` shares its transaction with no other, and hears what its statements
        violate. Raises `Unavailable` where the database fails, and `StorageFull`.
        """
        ...

    def version(self) -> bytes:
        """Returns bytes that differ after any process has committed a change, as of the last `look`; asks no disk.

        On SQLite as of now. Raises `Unavailable` where the database fails.
        """
        ...

    async def look(self) -> None:
        """Makes `version` count all that was committed before this call. Raises `Unavailable`."""
        ...

    async def check(self) -> None:
        """Proves that the database can be read and written. Raises `Unavailable`."""
        ...

    async def close(self) -> None:
        """Ends the threads and connections."""
        ...


def create_engine(url: str, *, migrating: bool = False, settings: Settings = DEFAULT) -> Engine:
    """Returns an engine for the URL; one that is ``migrating`` may change tables and take its time.

    Raises:
        ConfigError: there is no driver for the URL.
        StartError: the folder of the database cannot be made, or the driver is not installed.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return sqlite_engine(parsed, foreign_keys=not migrating)
    return postgresql_engine(parsed, settings, migrating=migrating)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError("metadata.url", "is not the URL of a database") from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        reason = (
            f"{parsed.drivername}: Drift keeps its records in sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        )
        raise ConfigError("metadata.url", reason)
    return parsed


@asynccontextmanager
async def open_database(url: str, settings: Settings = DEFAULT) -> AsyncIterator[Database]:
    """Opens a database that `migrate` has brought up to date. Raises `StartError` where it cannot be used."""
    engine = create_engine(url, settings=settings)
    try:
        database: Database = (
            SqliteDatabase(engine) if engine.dialect.name == "sqlite" else PostgresqlDatabase(engine, settings)
        )
    except OSError as error:
        reason = f"cannot write beside the database: {error}"
        raise StartError(reason) from error
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def looking(database: Database) -> AsyncIterator[None]:
    """Asks every `LOOK_SECONDS` what was committed, for who answers no requests, before each of which one asks."""
    task = asyncio.create_task(_look(database)) if database.several_nodes else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _look(database: Database) -> None:
    while True:
        with suppress(Unavailable):
            await database.look()
        await asyncio.sleep(LOOK_SECONDS)
