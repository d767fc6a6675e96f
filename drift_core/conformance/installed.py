"""Runs the suites on an installed driver that a configuration chooses, as `drift conformance` does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

import pytest
from msgspec import Struct
from msgspec.structs import replace

from drift_core.api import BlobStore, Driver, Optimizer, ServerSettings, StartError, Transport
from drift_core.choosing import Chosen, chosen_driver
from drift_core.config import AuthConfig, Config, TlsConfig
from drift_core.conformance.bench import Speed, bench
from drift_core.conformance.runner import Result, SuiteError, run_suite
from drift_core.plugins import FAMILIES, Plugins, load_plugins
from drift_core.runtime import open_driver

OpenAt = Callable[[Config], AbstractAsyncContextManager[Any]]
"""Opens the driver as the server does, by a configuration that may differ from the one it was chosen by."""


class _Opener:
    """Opens a driver as the server does, and as often as a rule likes, so that plugins are looked for only once.

    In a process of its own it looks for them anew: what was loaded cannot be sent there.
    """

    def __init__(self, family: str, name: str) -> None:
        self._family = family
        self._name = name
        self._plugins: Plugins | None = None

    def __reduce__(self) -> tuple[type["_Opener"], tuple[str, str]]:
        return _Opener, (self._family, self._name)

    def __call__(self, config: Config) -> AbstractAsyncContextManager[Any]:
        self._plugins = self._plugins or load_plugins(config)
        return open_driver(config, self._plugins, self._family, self._name)


class Fixtures(Protocol):
    """The fixtures of a suite, made of the configuration and a function that opens the driver by one."""

    async def check(self, *, allow_content: bool) -> None:
        """Opens the driver once, so that its failure is told once. Raises `StartError`, also where it is in use."""
        ...


class PluginFixtures:
    """Those of `PluginSuite`: the driver is opened as the server opens it, whose limits and errors belong to it."""

    def __init__(self, chosen: Chosen, config: Config, open_at: OpenAt) -> None:
        self._chosen = chosen
        self._reopen = partial(open_at, config)

    async def check(self, *, allow_content: bool) -> None:
        """See `Fixtures`."""
        del allow_content
        async with self._reopen():
            pass

    @pytest.fixture
    def module(self) -> str:
        """See `PluginSuite`."""
        module = self._chosen.offer.plugin.module
        assert module is not None  # noqa: S101 - it has offered a driver
        return module.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        """See `PluginSuite`."""
        offered = self._chosen.offer.driver
        return Driver(offered.name, offered.config, lambda _config, _services: self._reopen())

    @pytest.fixture
    def configs(self) -> tuple[Struct, Struct]:
        """See `PluginSuite`; there is only one, which two workers open as well."""
        return self._chosen.config, self._chosen.config


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
        self._reopen = partial(open_at, config)

    async def check(self, *, allow_content: bool) -> None:
        """See `Fixtures`."""
        del allow_content
        async with self._reopen():
            pass

    @pytest.fixture
    async def optimizer(self) -> AsyncIterator[Optimizer]:
        """See `OptimizerSuite`."""
        async with self._reopen() as optimizer:
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
    """What is run for a family: how the ids of its rules begin, the suite as ``module:Class``, and its fixtures."""

    rules: str
    suite: str
    fixtures: Callable[[Config, OpenAt], Fixtures]


KITS: dict[str, Kit] = {
    "storage": Kit("storage", "drift_core.conformance.suites.storage:StorageSuite", StorageFixtures),
    "transport": Kit("transport", "drift_core.conformance.suites.transport:TransportSuite", TransportFixtures),
    "optimization": Kit("optimizer", "drift_core.conformance.suites.optimizer:OptimizerSuite", OptimizerFixtures),
}
"""By the family's name; the others need what no configuration says, such as a password."""


def run_kit(
    config: Config, family: str, name: str, *, only: Collection[str] = (), allow_content: bool = False
) -> list[Result]:
    """Runs the suites of every plugin and of the family on the driver that the configuration chooses.

    ``only`` are ids of rules; none means all.

    Raises:
        StartError: there is no such family or rule, the driver is not chosen or cannot be opened, or it holds content.
    """
    families = [known.name for known in FAMILIES]
    if family not in families:
        message = f"there is no family {family!r}; the families are {', '.join(families)}"
        raise StartError(message)
    chosen = chosen_driver(config, load_plugins(config), family, name)
    every = Kit("plugin", "drift_core.conformance.suites.plugin:PluginSuite", partial(PluginFixtures, chosen))
    kits = [every, KITS[family]] if family in KITS else [every]
    for rule in only:
        if rule.partition(".")[0] not in {kit.rules for kit in kits}:
            known = " or ".join(f"{kit.rules}." for kit in kits)
            message = f"there is no rule {rule}; those of {family}:{name} begin with {known}"
            raise SuiteError(message)
    results: list[Result] = []
    for kit in kits:
        wanted = [rule for rule in only if rule.partition(".")[0] == kit.rules]
        if wanted or not only:
            fixtures = kit.fixtures(config, _Opener(family, name))
            asyncio.run(fixtures.check(allow_content=allow_content))
            results += run_suite(kit.suite, fixtures, wanted)
    return results


def bench_store(config: Config, name: str) -> list[Speed]:
    """Measures the store that the configuration chooses. Raises `StartError`."""

    async def measure() -> list[Speed]:
        async with _Opener("storage", name)(config) as store:
            return await bench(store)

    return asyncio.run(measure())
