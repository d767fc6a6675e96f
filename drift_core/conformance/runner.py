"""Runs a suite in this process by pytest, without any test file, and returns what became of each rule.

`run_suite` takes any fixtures; `run_kit` makes those of an installed driver that a configuration chooses.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import pytest
from msgspec import Struct
from msgspec.structs import replace

from drift_core.api import BlobStore, Optimizer, ServerSettings, StartError, Transport
from drift_core.config import AuthConfig, Config, TlsConfig
from drift_core.conformance.rules import Rule, Suite
from drift_core.plugins import load_plugins
from drift_core.runtime import open_driver

Outcome = Literal["pass", "fail", "xfail", "skip"]

OPTIONS = (
    f"--config-file={os.devnull}",
    "--import-mode=importlib",
    "--noconftest",
    "--strict-markers",
    "--capture=sys",
    "-pno:cacheprovider",
    "-pno:terminal",
    "-pno:faulthandler",
    "-panyio.pytest_plugin",
    "-pdrift_core.conformance.pytest_plugin",
)
"""Nothing but the suite decides: no settings, plugins or conftest of where this happens to run."""


class Result(Struct, frozen=True):
    """What became of the rule with that id: ``level`` is ``base`` or the optional power, ``why`` "" for a pass.

    ``seconds`` is how long it took, with its fixtures.
    """

    rule: str
    level: str
    sentence: str
    outcome: Outcome
    why: str
    seconds: float


class SuiteError(StartError):
    """A suite that cannot be run; that is no failed rule."""


def run_suite(suite: str, fixtures: object, only: Collection[str] = ()) -> list[Result]:
    """Runs the suite ``module:Class`` with an object whose methods are its fixtures.

    ``only`` are ids of rules; none means all. Called before the suite's module is imported, its assertions tell values.

    Raises:
        SuiteError: the suite could not be run at all, or has no such rule.
    """
    module, _, name = suite.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        message = f"there is no module {module}"
        raise SuiteError(message)
    file = Path(spec.origin)
    recorder = Recorder(only)
    arguments = [f"{file}::{name}", f"--override-ini=python_classes={name}", f"--rootdir={file.parent}", *OPTIONS]
    with _only_our_plugins():
        code = pytest.main(arguments, plugins=[recorder, fixtures])
    if recorder.trouble or code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        message = recorder.trouble or f"pytest ended with {pytest.ExitCode(code).name}"
        raise SuiteError(message)
    return list(recorder.results())


class Recorder:
    """A pytest plugin that keeps the outcomes of each rule, of which a parametrized one has several."""

    def __init__(self, only: Collection[str]) -> None:
        self.only = only
        self.trouble = ""
        self.rules: list[Rule] = []
        self.seen: dict[str, list[tuple[Outcome, str]]] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def results(self) -> Iterator[Result]:
        """Yields every rule of the suite in its order, with its worst outcome."""
        for rule in self.rules:
            outcomes = self.seen[rule.id]
            worst = max(outcomes, key=lambda seen: ("pass", "skip", "xfail", "fail").index(seen[0]))
            yield Result(rule.id, rule.power or "base", rule.sentence, *worst, round(self.seconds[rule.id], 3))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps why a module cannot be imported."""
        if report.failed:
            self.trouble = str(report.longrepr)

    def pytest_internalerror(self, excrepr: object) -> None:
        """Keeps what pytest itself, or a plugin, stumbled over."""
        self.trouble = str(excrepr)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Learns the rules, and drops the tests of those that are not asked for."""
        every = {rule.id: rule for rule in _suite_of(items[0]).rules()}
        unknown = [rule for rule in self.only if rule not in every]
        if unknown:
            self.trouble = f"there is no rule {unknown[0]}; the rules are {', '.join(every)}"
        self.rules = [rule for rule in every.values() if not self.only or rule.id in self.only]
        items[:] = [item for item in items if _rule_of(item) in self.rules]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keeps the outcome of a test's body, and of its fixtures where they raise."""
        report = yield
        self.seconds[_rule_of(item).id] += call.duration
        why = call.excinfo.exconly() if call.excinfo else ""
        if hasattr(report, "wasxfail"):
            self._add(item, "xfail" if report.skipped else "pass", report.wasxfail)
        elif report.skipped:
            self._add(item, "skip", why.removeprefix("Skipped: "))
        elif report.failed:
            self._add(item, "fail", why or str(report.longrepr))
        elif call.when == "call":
            self._add(item, "pass", "")
        return report

    def _add(self, item: pytest.Item, outcome: Outcome, why: str) -> None:
        self.seen.setdefault(_rule_of(item).id, []).append((outcome, why))


def _suite_of(item: pytest.Item) -> type[Suite]:
    return cast("type[Suite]", cast("pytest.Function", item).cls)


def _rule_of(item: pytest.Item) -> Rule:
    test = cast("pytest.Function", item)
    return _suite_of(item).rule(test.originalname, test.function)


@contextmanager
def _only_our_plugins() -> Iterator[None]:
    """Hides from pytest what the environment would add to it."""
    kept = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    autoload = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        for name, value in (kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": autoload}).items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


OpenAt = Callable[[Config], AbstractAsyncContextManager[Any]]


class Fixtures(Protocol):
    """The fixtures of a suite, made of the configuration and a function that opens the driver by one."""

    async def check(self, *, allow_content: bool) -> None:
        """Opens the driver once, so that its failure is told once. Raises `StartError`, also where it is in use."""
        ...


class StorageFixtures:
    """Those of `StorageSuite`: every test gets the one store that is configured, and its blobs are deleted after it."""

    def __init__(self, config: Config, open_at: OpenAt) -> None:
        self._reopen = partial(open_at, config)

    async def check(self, *, allow_content: bool) -> None:
        """See `Fixtures`."""
        async with self._reopen() as store:
            if not allow_content and await _digests(store):
                message = "the store has blobs; choose an empty one, or --allow-content to write beside them"
                raise StartError(message)

    @pytest.fixture
    def reopen(self) -> Callable[[], AbstractAsyncContextManager[BlobStore]]:
        """See `StorageSuite`."""
        return self._reopen

    @pytest.fixture
    async def store(self) -> AsyncIterator[BlobStore]:
        """See `StorageSuite`."""
        async with self._reopen() as store:
            before = await _digests(store)
            yield store
            for digest in await _digests(store) - before:
                await store.delete(digest)


async def _digests(store: BlobStore) -> set[Any]:
    return {blob.digest async for blob in store.scan()}


class OptimizerFixtures:
    """Those of `OptimizerSuite`."""

    def __init__(self, config: Config, open_at: OpenAt) -> None:
        self._open = partial(open_at, config)

    async def check(self, *, allow_content: bool) -> None:
        """See `Fixtures`."""
        del allow_content
        async with self._open():
            pass

    @pytest.fixture
    async def optimizer(self) -> AsyncIterator[Optimizer]:
        """See `OptimizerSuite`."""
        async with self._open() as optimizer:
            yield optimizer


class TransportFixtures:
    """Those of `TransportSuite`: the transport gets other addresses, and of ``[tls]`` what a rule wants."""

    def __init__(self, config: Config, open_at: OpenAt) -> None:
        self._config = config
        self._open_at = open_at

    async def check(self, *, allow_content: bool) -> None:
        """See `Fixtures`."""
        del allow_content
        async with self._open_at(self._config):
            pass

    @pytest.fixture
    def open_transport(self) -> Callable[[ServerSettings], AbstractAsyncContextManager[Transport]]:
        """See `TransportSuite`."""
        return self._open

    @pytest.fixture
    def certificate(self) -> tuple[str, str] | None:
        """See `TransportSuite`; that of ``[tls]``."""
        tls = self._config.tls
        return None if tls.cert_file is None or tls.key_file is None else (tls.cert_file, tls.key_file)

    def _open(self, settings: ServerSettings) -> AbstractAsyncContextManager[Transport]:
        server = replace(
            self._config.server,
            bind_addr=settings.bind_addr,
            max_connections=settings.max_connections,
            drain_seconds=settings.drain_seconds,
        )
        tls = TlsConfig(cert_file=settings.cert_file, key_file=settings.key_file)
        # A rule about an address that is not this machine's must reach the transport.
        auth = self._config.auth or AuthConfig(mode="none")
        return self._open_at(replace(self._config, server=server, tls=tls, auth=auth))


class Kit(Struct, frozen=True):
    """What is run for a family: the suite as ``module:Class``, and what makes its fixtures."""

    suite: str
    fixtures: Callable[[Config, OpenAt], Fixtures]


KITS: dict[str, Kit] = {
    "optimization": Kit("drift_core.conformance.suites.optimizer:OptimizerSuite", OptimizerFixtures),
    "storage": Kit("drift_core.conformance.suites.storage:StorageSuite", StorageFixtures),
    "transport": Kit("drift_core.conformance.suites.transport:TransportSuite", TransportFixtures),
}
"""By the family's name; the others need what no configuration says, such as a password."""


def run_kit(
    config: Config, family: str, name: str, *, only: Collection[str] = (), allow_content: bool = False
) -> list[Result]:
    """Runs the family's suite, or ``only`` some of its rules, on the driver that the configuration chooses.

    Raises:
        StartError: there is no such suite or rule, the driver is not chosen or cannot be opened, or it holds content.
    """
    if family not in KITS:
        message = f"there is no suite for {family!r}; there is one for {', '.join(KITS)}"
        raise StartError(message)
    kit = KITS[family]
    fixtures = kit.fixtures(config, partial(open_configured, family=family, name=name))
    asyncio.run(fixtures.check(allow_content=allow_content))
    return run_suite(kit.suite, fixtures, only)


def open_configured(config: Config, family: str, name: str) -> AbstractAsyncContextManager[Any]:
    """Opens a driver as the server does, also in a process of its own."""
    return open_driver(config, load_plugins(config), family, name)
