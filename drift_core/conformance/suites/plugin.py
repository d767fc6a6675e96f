"""The rules of every plugin, whatever it offers."""

import asyncio
import os
import sys
import threading
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import anyio
import msgspec
import pytest
import tomli_w

from drift_core.api import DriftError, Driver, Secret, Services, Struct
from drift_core.conformance import lending
from drift_core.conformance.rules import Suite
from drift_core.plugins import FAMILIES

UNKNOWN_KEY = "no_such_key"

LOOP_THREADS = ("asyncio_", "AnyIO worker thread")
"""How the names of threads begin that belong to the event loop, and end with it."""

MOST_AWAITS = 100
"""How many awaits of an opening are tried at most."""

IMPORTS = """
import importlib, sys
import drift_core.api
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*(name for name in set(sys.modules) - before if sys.modules[name].__spec__ is not None))
"""
"""Prints what was imported; a module without a spec is one that others made, as Cython's do."""

Use = Callable[[Any], Awaitable[None]]


class PluginSuite(Suite):
    """Needs the fixtures ``module``, ``driver`` and ``configs``; see `ModuleSuite`, too.

    ``module`` is the dotted name that the entry point has, ``driver`` one of the drivers that the module offers, and
    ``configs`` two of its configurations, which can be open at once. The other fixtures are optional: ``use`` is an
    async function that does with an opened driver what it is for. ``allowed_imports`` are third-party packages that the
    module may import at once. A dead endpoint has to be noticed within ``answer_seconds``, and what is closed to be
    gone, such as threads that end, within ``settle_seconds``.
    """

    family = "plugin"
    subject = "driver"
    allowed_imports: ClassVar[Collection[str]] = ()
    answer_seconds: ClassVar[float] = 10.0
    settle_seconds: ClassVar[float] = 5.0

    @pytest.fixture
    def services(self) -> Services:
        """What the core lends."""
        return lending.services()

    @pytest.fixture
    def use(self) -> Use:
        """Does nothing with an opened driver."""

        async def nothing(_: Any) -> None:
            pass

        return nothing

    @pytest.fixture
    def unreachable(self) -> tuple[Struct, str]:
        """A configuration whose endpoint nobody answers, and a text that names this endpoint for an operator."""
        pytest.skip("no fixture: unreachable")

    @asynccontextmanager
    async def nothing_left(self, driver: Driver[Any], config: Struct, services: Services) -> AsyncIterator[None]:
        """Fails where the block leaves something; waits for what is only slow to go."""
        # What libraries make once, when they are imported or first used, is no leak.
        async with driver.open(config, lending.apart(services)):
            pass
        before = _held()
        yield
        deadline = time.monotonic() + self.settle_seconds
        while (left := _held() - before) and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing tells of a thread
            await asyncio.sleep(0.01)
        assert left == set()

    async def test_import_budget(self, module: str) -> None:
        """To import a plugin imports nothing but the API, its own package and the standard library."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", IMPORTS, module]
        done = await anyio.run_process(command, env=environment)
        package = module.rpartition(".")[0] or module
        foreign = {name for name in done.stdout.decode().split() if not _belongs(name, package)}
        heavy = {name if name.startswith("drift_core.") else name.partition(".")[0] for name in foreign}
        assert heavy - sys.stdlib_module_names - set(self.allowed_imports) == set()

    async def test_config_round_trip(self, driver: Driver[Any], configs: tuple[Struct, Struct]) -> None:
        """A configuration can be written as TOML and read back the same."""
        for config in configs:
            assert type(config) is driver.config
            text = tomli_w.dumps(_table(config))
            assert msgspec.convert(tomllib.loads(text), driver.config, dec_hook=_secret) == config

    async def test_unknown_key(self, driver: Driver[Any], configs: tuple[Struct, Struct]) -> None:
        """An unknown key is an error that names it, also in a table within the driver's table."""
        for config in configs:
            table = _table(config)
            for inner in _tables(config, table):
                inner[UNKNOWN_KEY] = 1
                with pytest.raises(msgspec.ValidationError, match=UNKNOWN_KEY):
                    msgspec.convert(table, driver.config, dec_hook=_secret)
                del inner[UNKNOWN_KEY]

    async def test_opens_twice(self, driver: Driver[Any], configs: tuple[Struct, Struct], services: Services) -> None:
        """Two configurations can be open at once, each as an object of its own."""
        one, two = configs
        async with (
            driver.open(one, lending.apart(services)) as first,
            driver.open(two, lending.apart(services)) as second,
        ):
            assert first is not second

    async def test_closes_clean(
        self, driver: Driver[Any], configs: tuple[Struct, Struct], services: Services, use: Use
    ) -> None:
        """When a driver is closed, none of its tasks, threads and open files is left."""
        async with self.nothing_left(driver, configs[0], services):
            for config in configs:
                async with driver.open(config, lending.apart(services)) as opened:
                    await use(opened)

    async def test_error_comes_through(
        self, driver: Driver[Any], configs: tuple[Struct, Struct], services: Services
    ) -> None:
        """An error while a driver is open closes it, and comes through."""
        async with self.nothing_left(driver, configs[0], services):
            with pytest.raises(ZeroDivisionError):
                async with driver.open(configs[0], lending.apart(services)):
                    raise ZeroDivisionError

    async def test_cancelled_open(
        self, driver: Driver[Any], configs: tuple[Struct, Struct], services: Services
    ) -> None:
        """Wherever the opening is cancelled, it ends as cancelled, and leaves no task, thread or open file."""
        opened = asyncio.Event()

        async def hold() -> None:
            async with driver.open(configs[0], lending.apart(services)):
                opened.set()
                await asyncio.Event().wait()

        async with self.nothing_left(driver, configs[0], services):
            for awaits in range(MOST_AWAITS):
                task = asyncio.create_task(hold())
                for _ in range(awaits):
                    await asyncio.sleep(0)
                task.cancel()
                async with asyncio.timeout(self.answer_seconds):
                    await asyncio.wait([task])
                assert task.cancelled()
                if opened.is_set():
                    break

    async def test_dead_endpoint(
        self, driver: Driver[Any], unreachable: tuple[Struct, str], services: Services, use: Use
    ) -> None:
        """Where nobody answers, a driver fails within ten seconds, when it opens or when it is used, and says where."""
        config, endpoint = unreachable
        began = time.monotonic()
        with pytest.raises(DriftError) as failed:
            async with asyncio.timeout(self.answer_seconds), driver.open(config, lending.apart(services)) as opened:
                await use(opened)
        assert time.monotonic() - began < self.answer_seconds
        assert endpoint in str(failed.value)


class ModuleSuite(PluginSuite):
    """For a plugin with one driver: needs the module that the entry point names as ``offers``, and ``configs``."""

    offers: ClassVar[ModuleType]

    @pytest.fixture
    def module(self) -> str:
        """The dotted name that the entry point has."""
        return self.offers.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        """The one driver that the module offers."""
        hooks = [getattr(self.offers, family.hook, None) for family in FAMILIES]
        found: list[Driver[Any]] = [driver for hook in hooks if hook is not None for driver in hook()]
        (driver,) = found
        return driver


def _belongs(name: str, package: str) -> bool:
    """Says whether a module is one of a package, or a package around it."""
    return name == package or name.startswith(f"{package}.") or package.startswith(f"{name}.")


def _table(config: Struct) -> dict[str, Any]:
    """Returns a configuration as TOML has it, which knows no null: such a key is left out."""

    def without_null(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: without_null(value) for key, value in node.items() if value is not None}
        return [without_null(value) for value in node] if isinstance(node, list | tuple) else node

    table: dict[str, Any] = without_null(msgspec.to_builtins(config, enc_hook=str))
    return table


def _tables(config: Any, table: Any) -> Iterator[dict[str, Any]]:
    """Yields the table of a Struct and those of the Structs within it."""
    if isinstance(config, Struct):
        yield table
        for field in msgspec.structs.fields(config):
            yield from _tables(getattr(config, field.name), table.get(field.encode_name))
    elif isinstance(config, dict):
        for key, value in config.items():
            yield from _tables(value, table[key])
    elif isinstance(config, list | tuple):
        for value, node in zip(config, table, strict=True):
            yield from _tables(value, node)


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret:
        return Secret(value)
    raise NotImplementedError


def _open_files() -> set[int]:
    numbers = set()
    for entry in Path("/dev/fd").iterdir():
        with suppress(OSError):  # the listing itself has one, which is closed by now
            os.fstat(int(entry.name))
            numbers.add(int(entry.name))
    return numbers


def _held() -> set[Any]:
    """Returns the tasks, threads and open files of this process, but for those of the event loop itself."""
    threads = {thread for thread in threading.enumerate() if not thread.name.startswith(LOOP_THREADS)}
    return asyncio.all_tasks() | threads | _open_files()
