"""Keeps the records of any number of nodes in PostgreSQL: each change a transaction, repeated where it must be."""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

import sqlalchemy
from msgspec import Struct
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from drift_core.errors import RegistryError, StartError, StorageFull, Unavailable
from drift_core.metadata.view import RETURN_SECONDS, View

T = TypeVar("T")

ATTEMPTS = 8
"""How often a change is tried that others come in the way of."""

PAUSE_SECONDS = (0.005, 0.5)
"""The longest pause before the second attempt, and before any: at random, so that two do not meet again."""

CONNECT_SECONDS = 3
"""How long one attempt to connect may take; libpq takes no less than 2."""

CONFLICTS = frozenset({"40001", "40P01"})
"""SQLSTATEs (PostgreSQL, Appendix A) of a change that met another: serialization failure, deadlock."""

OVERTAKEN = frozenset({"23505", "23503"})
"""Of a row that another change has added since this one looked for it, or removed: unique and foreign key violation."""

STANDBY = "25006"
"""Of a change on a server that is no primary any more."""

FULL = frozenset({"53100"})
"""Of a disk without space."""


class Settings(Struct, frozen=True):
    """How one process uses the database: its connections, and how long in seconds a statement may take."""

    connections: int = 8
    statement_seconds: float = 10.0


class PostgresqlDatabase:
    """See `Database`.

    Half of the connections are for changes, so that queries do not wait behind changes that wait for each other.
    """

    several_nodes: ClassVar[bool] = True

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        half = max(1, settings.connections // 2)
        self._readers = ThreadPoolExecutor(half, thread_name_prefix="drift-read")
        self._writers = ThreadPoolExecutor(half, thread_name_prefix="drift-write")
        self._view = View(_arguments(engine))

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        return await self._loop.run_in_executor(self._readers, self._read, query)

    async def write(self, change: Callable[[Connection], T], *, alone: bool = False, durable: bool = True) -> T:
        """See `Database.write`."""
        context = copy_context()
        job = self._loop.run_in_executor(self._writers, context.run, self._write, change, alone, durable)
        job.add_done_callback(_heard)
        # The commit goes on if the request is cancelled; what it decided is then simply not heard.
        return await asyncio.shield(job)

    def version(self) -> bytes:
        """See `Database.version`."""
        return self._view.version

    async def look(self) -> None:
        """See `Database.look`; callers that wait at the same time share one question."""
        await self._view.look()

    async def check(self) -> None:
        """See `Database.check`."""
        await self.write(lambda db: db.exec_driver_sql("SELECT pg_current_xact_id()"))

    async def close(self) -> None:
        """See `Database.close`; waits for what is being committed."""
        self._view.close()
        for executor in (self._writers, self._readers):
            await asyncio.to_thread(executor.shutdown)
        self._engine.dispose()

    def _read(self, query: Callable[[Connection], T]) -> T:
        for last in (False, True):
            try:
                with self._engine.connect() as connection:
                    return query(connection)
            except PoolTimeoutError as error:
                raise Unavailable("the metadata database is busy", reason=str(error)) from error
            except DBAPIError as error:
                # A connection may have ended while it lay in the pool: the pool is new by now.
                if last or not error.connection_invalidated:
                    raise _as_registry_error(error) from error
        raise AssertionError

    def _write(self, change: Callable[[Connection], T], alone: bool, durable: bool) -> T:
        pause, longest = PAUSE_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            committing = False
            try:
                with self._engine.connect() as connection, connection.begin() as transaction:
                    if not durable:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    result = change(connection)
                    committing = True
                    transaction.commit()
                    return result
            except PoolTimeoutError as error:
                raise Unavailable("the metadata database is busy", reason=str(error)) from error
            except DBAPIError as error:
                if _state(error) == STANDBY:
                    self._engine.dispose()
                if attempt == ATTEMPTS or not _may_repeat(error, alone=alone, committing=committing):
                    if alone and isinstance(error, IntegrityError | ProgrammingError | DataError):
                        raise
                    raise _as_registry_error(error) from error
            time.sleep(random.uniform(0, pause))  # noqa: S311 - not a secret
            pause = min(longest, pause * 2)
        raise AssertionError


def _heard(job: "asyncio.Future[Any]") -> None:
    """Takes what a change raised, which nobody hears where its request has been cancelled."""
    if not job.cancelled():
        job.exception()


def postgresql_engine(url: URL, settings: Settings, *, migrating: bool) -> Engine:
    """Returns an engine whose statements and connections end in bounded time, unless it is migrating.

    Raises:
        StartError: the driver is not installed.
    """
    if find_spec("psycopg") is None:
        message = "metadata.url: the driver is not installed; pip install 'drift-core[postgres]'"
        raise StartError(message)
    limit = 0 if migrating else int(settings.statement_seconds * 1000)
    # A statement behind a lock has to see what the one that held it has committed.
    options = "-c default_transaction_isolation=read\\ committed"
    options += f" -c statement_timeout={limit} -c idle_in_transaction_session_timeout={limit}"
    return sqlalchemy.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=max(2, settings.connections),
        max_overflow=0,
        pool_timeout=RETURN_SECONDS,
        connect_args=_bounded({"options": options}),
    )


def _arguments(engine: Engine) -> dict[str, Any]:
    """Returns what libpq takes, for a connection beside those of the engine."""
    _, arguments = engine.dialect.create_connect_args(engine.url)
    # SQLAlchemy's own adapters of types are for its engine.
    return _bounded({name: value for name, value in arguments.items() if name != "context"})


def _bounded(arguments: dict[str, Any]) -> dict[str, Any]:
    """Adds what makes a dead server or network known soon (PostgreSQL, "Parameter Key Words"); in seconds and ms."""
    alive = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 5000}
    return {"connect_timeout": CONNECT_SECONDS, "application_name": "drift", **alive, **arguments}


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _may_repeat(error: DBAPIError, *, alone: bool, committing: bool) -> bool:
    state = _state(error)
    # What was asked to be committed on a connection that broke may have been.
    broken = not committing and (error.connection_invalidated or state == STANDBY)
    return broken or state in CONFLICTS or (state in OVERTAKEN and not alone)


def _as_registry_error(error: DBAPIError) -> RegistryError:
    if _state(error) in FULL:
        return StorageFull()
    return Unavailable("the metadata database does not answer", reason=str(error.orig).strip())
