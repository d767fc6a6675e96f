"""What it costs to collect the same garbage from registries of several sizes, in turn."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from msgspec import Struct
from sqlalchemy import Engine, event, update

from benchmarks.process_tree import cpu_seconds
from benchmarks.results import ratio
from benchmarks.stock import OWN_BLOBS, REPOSITORIES, SHARERS, Insert, Stock, into_postgresql, into_sqlite
from drift_core.config import load
from drift_core.metadata.tables import trash
from drift_core.plugins import load_plugins
from drift_core.registry.collecting import Report
from drift_core.runtime import Runtime, open_runtime, prepare
from tests.services.postgresql import Postgresql

BLOBS_OF_A_REPOSITORY = 2_500
STEPS = 100
"""Instructions of SQLite's machine between two looks at how many there were."""

SETTINGS = (
    "storage.filesystem.fsync=false",
    "garbage_collector.enabled=true",
    "garbage_collector.grace_period_hours=0",
    "garbage_collector.max_share=1.0",
    "garbage_collector.max_blobs_per_run=2000",
    "garbage_collector.removals_per_second=0",
    "registry.min_age_days=0",
    "registry.restore_hours=0",
    "logging.level=error",
)


class Scale(Struct, frozen=True):
    """How many blobs are stored and removed, and how often."""

    sizes: Sequence[int] = (10_000, 100_000, 500_000)
    removed: int = 1_000
    rounds: int = 5


class Spent(Struct, frozen=True):
    """What one removal took: times in seconds; ``work`` in the database's own unit.

    That is instructions of SQLite's machine, or rows that PostgreSQL has read.
    """

    time: float
    cpu: float
    statements: int
    work: int


class Counters:
    """Counts the statements of every connection that is made while it watches, and SQLite's instructions."""

    def __init__(self) -> None:
        self.statements = 0
        self.steps = 0

    @contextmanager
    def watching(self, step: int = STEPS) -> Iterator[None]:
        """Watches connections that are made within the block; instructions are counted in ``step``."""

        def watch(connection: Any, _record: object) -> None:
            if isinstance(connection, psycopg.Connection):
                connection.cursor_factory = self._cursor()
            else:
                connection.set_trace_callback(self._traced)
                connection.set_progress_handler(partial(self._stepped, step), step)

        event.listen(Engine, "connect", watch)
        try:
            yield
        finally:
            event.remove(Engine, "connect", watch)

    def _traced(self, statement: str) -> None:
        # The loop asks for the version of the data by the clock; it is not the collector's.
        self.statements += not statement.startswith("PRAGMA")

    def _stepped(self, step: int) -> None:
        self.steps += step

    def _cursor(self) -> type[psycopg.Cursor[Any]]:
        counters = self

        class Counting(psycopg.Cursor[Any]):
            def execute(self, *arguments: Any, **options: Any) -> Any:
                counters.statements += 1
                return super().execute(*arguments, **options)

            def executemany(self, *arguments: Any, **options: Any) -> Any:
                counters.statements += 1
                return super().executemany(*arguments, **options)

        return Counting


class Stocked:
    """A registry of a size, on a database of its own, from which garbage is removed as often as wanted."""

    def __init__(self, folder: Path, url: str, count: int, *, one_repository: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        settings = (*SETTINGS, f"storage.path={folder}", f"metadata.url={url}")
        self._config = load(None, {}, settings)
        self._plugins = load_plugins(self._config)
        self._url = url
        prepare(self._config, self._plugins)
        self._stock = Stock()
        repositories = 1 if one_repository else max(count // BLOBS_OF_A_REPOSITORY, REPOSITORIES)
        with self.inserting() as insert:
            self._stock.keep(insert, count, repositories, count if one_repository else SHARERS)

    @contextmanager
    def inserting(self) -> Iterator[Insert]:
        """Yields how to add rows; see `into_sqlite` and `into_postgresql`."""
        file = Path(self._url.removeprefix("sqlite:///"))
        where = into_sqlite(file) if self._url.startswith("sqlite") else into_postgresql(self._url)
        with where as insert:
            yield insert

    def waste(self, count: int, *, images: bool) -> int:
        """Adds garbage of about so many blobs that are to be removed, and returns how many they are."""
        with self.inserting() as insert:
            if images:
                return len(self._stock.waste_images(insert, count // OWN_BLOBS))
            return len(self._stock.waste_blobs(insert, count))

    def open(self) -> AbstractAsyncContextManager[Runtime]:
        """Opens the registry as a command does."""
        return open_runtime(self._config, self._plugins, serving=False)


async def remove(runtime: Runtime, expected: int) -> None:
    """Collects; raises RuntimeError where that removed something else than so many blobs."""
    async for item in runtime.registry.collecting.run("command", None, dry_run=False):
        if isinstance(item, Report) and item.blobs_deleted != expected:
            raise RuntimeError(f"{item.blobs_deleted} blobs were removed instead of {expected}")


async def purge(runtime: Runtime, expected: int) -> None:
    """Removes what lies in the trash for ever; raises RuntimeError where that is less than so many blobs."""
    count = await runtime.registry.trash.purge(runtime.database.write)
    if count < expected:
        raise RuntimeError(f"{count} things were purged, which are less than {expected} blobs")


async def spent(counters: Counters, work: Awaitable[None], postgresql: Postgresql | None, database: str) -> Spent:
    """Returns what it takes to await ``work``."""

    def read() -> int:
        if postgresql is None:
            return counters.steps
        query = f"SELECT pg_stat_clear_snapshot(), tup_returned FROM pg_stat_database WHERE datname = '{database}'"  # noqa: S608
        ((_, rows),) = postgresql.execute(query)
        return int(str(rows))

    def cpu() -> float:
        assert postgresql is None or postgresql.process is not None
        own = time.process_time()
        return own if postgresql is None or postgresql.process is None else own + cpu_seconds(postgresql.process.pid)

    statements, before, cpu_before, began = counters.statements, read(), cpu(), time.monotonic()
    await work
    took, used = time.monotonic() - began, cpu() - cpu_before
    if postgresql is not None:
        # A session tells of what it has read a second later, at most.
        await asyncio.sleep(1.5)
    return Spent(took, used, counters.statements - statements, read() - before)


def _older(db: Any) -> None:
    db.execute(update(trash).values(removed_at=0.0))


async def measure(
    folder: Path, scale: Scale, postgresql: Postgresql | None, *, one_repository: bool = False
) -> dict[str, dict[int, list[Spent]]]:
    """Returns what was spent, by what was removed and by size; the sizes take turns, and round 0 warms up."""
    found: dict[str, dict[int, list[Spent]]] = {}
    counters = Counters()
    async with AsyncExitStack() as stack:
        stack.enter_context(counters.watching())
        registries: dict[int, tuple[Stocked, Runtime, str]] = {}
        for size in scale.sizes:
            place = folder / f"{size}"
            database = "" if postgresql is None else postgresql.new_database()
            url = f"sqlite:///{place / 'drift.db'}" if postgresql is None else postgresql.url(database)
            stocked = Stocked(place, url, size, one_repository=one_repository)
            registries[size] = stocked, await stack.enter_async_context(stocked.open()), database
        for number in range(scale.rounds + 1):
            for size, (stocked, runtime, database) in registries.items():
                for shape, images in (("images", True), ("loose blobs", False)):
                    count = stocked.waste(scale.removed, images=images)
                    collected = await spent(counters, remove(runtime, count), postgresql, database)
                    await runtime.database.write(_older)
                    purged = await spent(counters, purge(runtime, count), postgresql, database)
                    if number:
                        for what, one in ((f"{shape}, collected", collected), (f"{shape}, purged", purged)):
                            found.setdefault(what, {}).setdefault(size, []).append(one)
    return found


MEASURES: dict[str, Callable[[Spent], float]] = {
    "time": lambda one: one.time,
    "CPU": lambda one: one.cpu,
    "statements": lambda one: one.statements,
    "work": lambda one: one.work,
}


def lines(name: str, found: dict[str, dict[int, list[Spent]]]) -> Iterator[list[str]]:
    """Yields the rows of a table: each size against the smallest, by the median of the ratios of a round."""
    for what, by_size in found.items():
        smallest = min(by_size)
        for size, rows in by_size.items():
            if size != smallest:
                cells = []
                for read in MEASURES.values():
                    mine, other = [read(one) for one in rows], [read(one) for one in by_size[smallest]]
                    cells.append(f"{ratio(mine, other):.2f}")
                yield [name, what, f"{size:,}", *cells, f"{rows[0].statements:,}"]


def cost(folder: Path, scale: Scale, databases: Sequence[str]) -> Iterator[list[str]]:
    """Yields a table, the head first."""
    yield ["Records", f"{scale.removed:,} blobs", "Stored", *MEASURES, "Statements"]
    for name in databases:
        for one_repository in (False, True):
            place = folder / f"{name}{one_repository}"
            with ExitStack() as stack:
                postgresql = stack.enter_context(Postgresql()) if name == "PostgreSQL" else None
                done = measure(place, scale, postgresql, one_repository=one_repository)
                yield from lines(f"{name}, {'one repository' if one_repository else 'many'}", asyncio.run(done))
