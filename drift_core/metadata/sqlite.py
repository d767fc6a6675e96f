"""Keeps the records of one process in SQLite: reads on a few threads, writes on one thread with group commit."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import sqlalchemy
import structlog
from sqlalchemy import URL, Connection, Engine, event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.pool import QueuePool

from drift_core.errors import ConfigError, RegistryError, StartError, StorageFull, Unavailable
from drift_core.metadata.mark import ChangeMark
from drift_core.metadata.statement import Statement

T = TypeVar("T")

READERS = 4
"""Threads for queries; SQLite in WAL mode serves them beside the writer."""

GROUP = 128
"""Most changes that share one commit; bounds how long the first of them waits."""

WRITER_CACHE = 64 << 20
"""Bytes of pages that the writer may remember, a reader a quarter: removals are from all over the indexes."""

LOOK_SECONDS = 1.0
"""How often SQLite itself is asked whether anybody committed, in case that who did died before saying so."""

BUSY_SECONDS = 30.0
"""How long a writer waits for another process to finish its commit."""


class _Change(Generic[T]):
    """One change on its way to the writer thread, and the future that hears of it."""

    __slots__ = ("alone", "apply", "context", "durable", "error", "future", "result")

    def __init__(
        self, apply: Callable[[Connection], T], future: "asyncio.Future[T]", *, alone: bool, durable: bool
    ) -> None:
        self.apply = apply
        # What is known of the request is known in the other thread, too.
        self.context = copy_context()
        self.alone = alone
        self.durable = durable
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None


class SqliteDatabase:
    """See `Database`. Every process of the machine may open the file; each has one writer."""

    several_nodes: ClassVar[bool] = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mark = ChangeMark(Path(f"{engine.url.database}-mark"))
        self._looked = (0.0, 0)
        self._log = structlog.get_logger("drift.database")
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="drift-read")
        self._changes: queue.SimpleQueue[_Change[Any] | None] = queue.SimpleQueue()
        self._held: _Change[Any] | None = None
        self._writer = threading.Thread(target=self._write_groups, name="drift-write", daemon=True)
        self._writer.start()
        self._watch = engine.raw_connection()
        # The loop itself asks this connection, and must not wait for another process.
        self._watcher = self._watch.cursor()
        self._watcher.execute("PRAGMA busy_timeout=0")

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See `Database.read`."""
        return await self._loop.run_in_executor(self._readers, self._read, query)

    async def write(self, change: Callable[[Connection], T], *, alone: bool = False, durable: bool = True) -> T:
        """See `Database.write`; changes that wait together share one commit."""
        item = _Change(change, self._loop.create_future(), alone=alone, durable=durable)
        self._changes.put(item)
        # The commit goes on if the request is cancelled; what it decided is then simply not heard.
        return await asyncio.shield(item.future)

    def version(self) -> bytes:
        """See `Database.version`; of a process that died before it told of its commit within `LOOK_SECONDS`."""
        if self._loop.time() - self._looked[0] > LOOK_SECONDS:
            self._look()
        return self._mark.read()

    async def look(self) -> None:
        """See `Database.look`; there is nothing to be asked."""

    def _look(self) -> None:
        try:
            self._watcher.execute("PRAGMA data_version")
            ((found,),) = self._watcher.fetchall()
        except sqlite3.Error as error:
            raise Unavailable("the metadata database does not answer", reason=str(error)) from error
        if found != self._looked[1]:
            self._mark.touch()
        self._looked = (self._loop.time(), found)

    async def check(self) -> None:
        """See `Database.check`; that it can be locked for writing, too."""
        await self.read(lambda db: db.exec_driver_sql("SELECT 1"))
        await self.write(lambda _: None)

    async def close(self) -> None:
        """See `Database.close`; commits what waits."""
        self._changes.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        self._watcher.close()
        self._watch.close()
        self._engine.dispose()
        self._mark.close()

    def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return query(connection)
        except DBAPIError as error:
            raise _as_unavailable(error) from error

    def _write_groups(self) -> None:
        connection: Connection | None = None
        last = False
        while not last:
            group, last = self._next_group()
            try:
                if connection is None:
                    connection = self._engine.connect().execution_options(drift_write=True)
                    _remember_more(connection)
                _wait_for_disk(connection, any(change.durable for change in group))
                _commit(connection, group)
            except Exception as error:  # noqa: BLE001 - nothing of the group was committed, each caller is told
                for change in group:
                    change.error = _as_unavailable(error) if isinstance(error, DBAPIError) else error
                if connection is not None:
                    connection.close()
                    connection = None
            self._announce()
            self._loop.call_soon_threadsafe(_deliver, group)
        if connection is not None:
            connection.close()

    def _announce(self) -> None:
        try:
            self._mark.touch()
        except OSError as error:
            self._log.warning("other processes may not see a change at once", error=str(error))

    def _next_group(self) -> tuple[list[_Change[Any]], bool]:
        """Returns what waits, once something does, and whether it was the last."""
        group: list[_Change[Any]] = []
        while not group or (len(group) < GROUP and not group[0].alone and not self._changes.empty()):
            change, self._held = self._held or self._changes.get(), None
            if change is None:
                return group, True
            if change.alone and group:
                self._held = change
                break
            group.append(change)
        return group, False


def _remember_more(connection: Connection) -> None:
    driver: Any = connection.connection
    driver.execute(f"PRAGMA cache_size=-{WRITER_CACHE >> 10}").close()


def _wait_for_disk(connection: Connection, wait: bool) -> None:
    """Makes the next commit durable or not (SQLite, "PRAGMA synchronous": what is in WAL mode and NORMAL)."""
    driver: Any = connection.connection
    if connection.info.get("waits", True) != wait:
        driver.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}").close()
        connection.info["waits"] = wait


def _commit(connection: Connection, group: Sequence[_Change[Any]]) -> None:
    with connection.begin() as transaction:
        for change in group:
            # One that is alone needs no savepoint: it is undone with the transaction.
            alone = len(group) == 1
            try:
                with nullcontext() if alone else _savepoint(connection):
                    change.result = change.context.run(change.apply, connection)
            except DBAPIError as error:
                if not change.alone or not isinstance(error, IntegrityError | ProgrammingError | DataError):
                    raise
                change.error = error
                transaction.rollback()
            except BaseException as error:  # noqa: BLE001 - belongs to the caller, who gets it
                change.error = error
                if alone:
                    transaction.rollback()


_SAVEPOINT, _ROLLBACK, _RELEASE = (
    Statement(text(f"{verb} change")) for verb in ("SAVEPOINT", "ROLLBACK TO", "RELEASE")
)


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """Undoes what an exception left, but for one of the database's own, which ends the whole transaction."""
    _SAVEPOINT.run(connection)
    try:
        yield
    except DBAPIError:
        raise
    except BaseException:
        _ROLLBACK.run(connection)
        _RELEASE.run(connection)
        raise
    _RELEASE.run(connection)


def _deliver(group: Sequence[_Change[Any]]) -> None:
    for change in group:
        if change.future.cancelled():
            continue
        if change.error is not None:
            change.future.set_exception(change.error)
        else:
            change.future.set_result(change.result)


def _as_unavailable(error: DBAPIError) -> RegistryError:
    if "disk is full" in str(error.orig):
        return StorageFull()
    return Unavailable("the metadata database does not answer", reason=str(error.orig))


def sqlite_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """Returns an engine with WAL, durable commits and, unless not wanted, foreign keys.

    Raises:
        ConfigError: the URL names no file.
        StartError: the folder of the file cannot be made.
    """
    if not url.database:
        raise ConfigError("metadata.url", "names no file")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"cannot make the folder of the database {url.database}: {error.strerror}"
        raise StartError(reason) from error
    engine = sqlalchemy.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=READERS + 2,
        max_overflow=2,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_connection if foreign_keys else _prepare_migration)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare_connection(connection: Any, _record: Any) -> None:
    # The driver's own implicit BEGIN is deferred and would break SAVEPOINT; `_begin` says it explicitly.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
        connection.execute(f"PRAGMA {pragma}").close()


def _prepare_migration(connection: Any, record: Any) -> None:
    _prepare_connection(connection, record)
    # To change a table SQLite drops it, and with it, by cascade, the rows that refer to it.
    connection.execute("PRAGMA foreign_keys=OFF").close()


def _begin(connection: Connection) -> None:
    # A write lock that is taken late can only fail, never wait: SQLite, "Transactions", BUSY in a read transaction.
    write = connection.get_execution_options().get("drift_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
