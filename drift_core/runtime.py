"""Opens the chosen drivers and the database of one process, in order, and closes them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import structlog
from msgspec import Struct
from sqlalchemy import Connection

from drift_core.config import Config, is_loopback
from drift_core.errors import ConfigError, PluginError, StartError
from drift_core.failures import TooSlowError, is_failure, within
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import Database, open_database
from drift_core.metadata.outbox import subscribe
from drift_core.metrics import Metrics
from drift_core.model import ACTIONS, Action
from drift_core.plugins import FAMILIES, Family, Offer, Plugins
from drift_core.protocols import (
    Authenticator,
    Authorizer,
    BlobStore,
    Feature,
    Gate,
    ServerSettings,
    Services,
    Subscriber,
    Transport,
)
from drift_core.registry.changes import Changes, NamedGate
from drift_core.registry.delivery import NamedSubscriber
from drift_core.registry.registry import Registry
from drift_core.registry.rules import Rules

T = TypeVar("T")
MIB = 1 << 20
HOUR = 3600.0

HARMLESS_WITHOUT = frozenset({"garbage_collector"})
"""Tables that may say ``enabled = true`` while nobody reads them: without a collector nothing is lost."""


class Chosen(Struct, frozen=True):
    """A driver that the configuration asks for, with its table read into its Struct."""

    family: Family
    offer: Offer
    config: Struct


class Runtime(Struct, frozen=True):
    """What one process has opened: the database, the registry, every driver by family, and who is told of events."""

    database: Database
    metrics: Metrics
    registry: Registry
    subscribers: tuple[NamedSubscriber, ...]
    opened: dict[str, tuple[Any, ...]]

    @property
    def authenticators(self) -> tuple[Authenticator, ...]:
        """In the order in which they are asked."""
        return cast("tuple[Authenticator, ...]", self.opened["authn"])

    @property
    def authorizers(self) -> tuple[Authorizer, ...]:
        """In the order in which they were named."""
        return cast("tuple[Authorizer, ...]", self.opened["authz"])

    @property
    def features(self) -> tuple[Feature, ...]:
        """Every enabled feature."""
        return cast("tuple[Feature, ...]", self.opened["features"])

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Every way in; the caller serves them."""
        return cast("tuple[Transport, ...]", self.opened["transport"])


def choose(config: Config, plugins: Plugins, families: Sequence[Family] = FAMILIES) -> list[Chosen]:
    """Returns the drivers of ``families`` to open, after checking what the configuration says of the core.

    Raises:
        ConfigError: a table does not fit its Struct, a key is known to nobody, or an address needs authentication.
        PluginError: see `Plugins.chosen`; or a table is enabled and nobody reads it.
    """
    chosen = []
    tables = plugins.tables()
    for family, offer in plugins.chosen(config, families):
        path = family.path(offer.driver.name)
        table = config.section(path, offer.driver.config, family.parent, tables[path])
        if getattr(table, "enabled", True):
            chosen.append(Chosen(family, offer, table))
        elif family.choose(config) is not None:
            raise ConfigError(f"{path}.enabled", "is false, but the configuration chooses this driver by name")
    for path, distribution in config.unclaimed(tables):
        if config.enabled(path) and path not in HARMLESS_WITHOUT:
            message = f"{path}.enabled is true, but no installed plugin reads [{path}]; {distribution} does"
            raise PluginError(message)
    if config.auth is None and not is_loopback(config.server.bind_addr):
        raise ConfigError(
            "server.bind_addr",
            f"{config.server.bind_addr} can be reached by others, but nobody has to log in; configure [auth], or write "
            'auth.mode = "none" to serve everybody',
        )
    return chosen


def prepare(config: Config, plugins: Plugins) -> None:
    """Checks the configuration like `choose`, and makes the tables of the core and of the chosen plugins.

    One process does this before any opens a runtime. Raises `StartError`.
    """
    _migrate(config.database_url(), _branches(choose(config, plugins)))


def _migrate(url: str, branches: Sequence[Branch]) -> None:
    # Alembic is slow to import, and most commands need no tables.
    from drift_core.metadata.migrations import migrate  # noqa: PLC0415

    migrate(url, branches)


def _branches(every: Sequence[Chosen]) -> list[Branch]:
    branches: dict[str, Branch] = {}
    for chosen in every:
        plugin, package = chosen.offer.plugin, chosen.offer.driver.migrations
        if package is None:
            continue
        branch = branches.setdefault(plugin.name, Branch(plugin.name, plugin.distribution, package))
        if branch.package != package:
            message = f"the plugin {plugin.name} of {plugin.distribution} has two histories of its tables"
            raise PluginError(f"{message}: {branch.package} and {package}")
    by_prefix = {branch.prefix: branch.plugin for branch in branches.values()}
    for branch in branches.values():
        other = by_prefix[branch.prefix]
        if other != branch.plugin:
            message = f"the plugins {other} and {branch.plugin} cannot both have tables: their names are too much alike"
            raise PluginError(message)
    return list(branches.values())


@asynccontextmanager
async def open_runtime(config: Config, plugins: Plugins, *, transports: bool = True) -> AsyncIterator[Runtime]:
    """Opens the database and the chosen drivers, those of ``transports`` only if the caller serves them.

    Raises:
        StartError: one of them cannot be opened; the message names the plugin. What was open is closed again.
    """
    opened: dict[str, tuple[Any, ...]] = {family.name: () for family in FAMILIES}
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(config.database_url()))
        metrics = Metrics()
        opener = _Opener(stack, config, metrics, database)
        gates, subscribers = [], []
        for chosen in choose(config, plugins):
            if chosen.family.protocol is Transport and not transports:
                continue
            driver = await opener.open(chosen)
            opened[chosen.family.name] += (driver,)
            if chosen.family.protocol is Feature:
                gates += gates_of(chosen, driver)
                subscribers += subscribers_of(chosen, driver)
        # Before the first request: a subscriber that is new is told all that this server ever did.
        for subscriber in subscribers:
            await database.write(partial(subscribe, subscriber=subscriber.name))
        told = frozenset(action for one in subscribers for action in one.actions)
        changes = Changes(gates, told, config.plugins.gate_seconds, metrics)
        store: BlobStore = opened["storage"][0]
        registry = Registry(database, store, rules_of(config), changes)
        yield Runtime(database, metrics, registry, tuple(subscribers), opened)


def gates_of(chosen: Chosen, feature: Feature) -> list[NamedGate]:
    """Returns a feature as a gate, or nothing.

    Raises:
        PluginError: it names an action that there is not, or is a gate only by half.
    """
    actions = _actions(chosen, feature, "gated", "admit")
    return [] if actions is None else [NamedGate(chosen.offer.plugin.name, actions, cast("Gate", feature))]


def subscribers_of(chosen: Chosen, feature: Feature) -> list[NamedSubscriber]:
    """Returns a feature as a subscriber, or nothing. Raises `PluginError` like `gates_of`."""
    actions = _actions(chosen, feature, "subscribed", "on_event")
    name, plugin = chosen.offer.driver.name, chosen.offer.plugin.name
    return [] if actions is None else [NamedSubscriber(name, plugin, actions, cast("Subscriber", feature))]


def _actions(chosen: Chosen, feature: Feature, field: str, method: str) -> frozenset[Action] | None:
    """Reads which actions a feature is asked before, or told of; None where it is neither gate nor subscriber."""
    missing = [name for name in (field, method) if not hasattr(feature, name)]
    if len(missing) == 2:  # noqa: PLR2004 - both
        return None
    offer = chosen.offer
    message = f"the feature {offer.driver.name!r} of {offer.plugin.distribution}"
    if missing:
        # A gate that is never asked because of a misspelt name would admit everything.
        raise PluginError(f"{message}: has {field if method in missing else method}, but not {missing[0]}")
    try:
        actions = frozenset(getattr(feature, field))
    except Exception as error:
        raise PluginError(f"{message}: {field} cannot be read: {type(error).__name__}: {error}") from error
    unknown = sorted(str(action) for action in actions - set(ACTIONS))
    if unknown:
        raise PluginError(f"{message}: {field} has {unknown[0]!r}; the actions are {', '.join(ACTIONS)}")
    return actions


@asynccontextmanager
async def open_features(config: Config, plugins: Plugins) -> AsyncIterator[list[tuple[Chosen, Feature]]]:
    """Opens only the features, for a command that asks what they do. Raises `StartError`."""
    every = choose(config, plugins, [family for family in FAMILIES if family.protocol is Feature])
    # A question must not bring the tables of a server that runs to another form.
    with TemporaryDirectory() as folder:
        async with _alone(config, every, f"sqlite:///{folder}/drift.db") as drivers:
            yield list(zip(every, drivers, strict=True))


@asynccontextmanager
async def open_driver(config: Config, plugins: Plugins, family: str, name: str) -> AsyncIterator[Any]:
    """Opens one of the chosen drivers and no other. Raises `PluginError` like `chosen_driver`, and `StartError`."""
    async with _alone(config, [chosen_driver(config, plugins, family, name)], config.database_url()) as (driver,):
        yield driver


@asynccontextmanager
async def _alone(config: Config, every: Sequence[Chosen], url: str) -> AsyncIterator[list[Any]]:
    """Opens some drivers; the database only where one of them has tables in it."""
    branches = _branches(every)
    async with AsyncExitStack() as stack:
        database = None
        if branches:
            await asyncio.to_thread(_migrate, url, branches)
            database = await stack.enter_async_context(open_database(url))
        opener = _Opener(stack, config, Metrics(), database)
        yield [await opener.open(chosen) for chosen in every]


def chosen_driver(config: Config, plugins: Plugins, family: str, name: str) -> Chosen:
    """Returns one of the chosen drivers. Raises `PluginError` where the configuration does not choose it."""
    # The other families may be missing: a driver is proved beside nothing but the core.
    every = choose(config, plugins, [one for one in FAMILIES if one.name == family])
    for chosen in every:
        if chosen.offer.driver.name == name:
            return chosen
    names = ", ".join(chosen.offer.driver.name for chosen in every) or "none"
    message = f"the configuration does not choose the {family} driver {name!r} (chosen: {names})"
    raise PluginError(message)


def open_store(config: Config, plugins: Plugins) -> AbstractAsyncContextManager[BlobStore]:
    """Opens only the store, for a command that needs its bytes. Raises `StartError`."""
    return open_driver(config, plugins, "storage", config.storage.type)


class NoRecords:
    """What a driver without ``migrations`` gets as `Records`."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Raises `StartError`."""
        del query
        raise StartError("a driver without migrations has no tables to read or write")

    write = read


class PluginRecords:
    """What a driver with ``migrations`` gets as `Records`: its changes fail alone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See `Records`."""
        return await self._database.read(query)

    async def write(self, change: Callable[[Connection], T]) -> T:
        """See `Records`."""
        return await self._database.write(change, alone=True)


class _Opener:
    """Opens drivers into a stack, and lends each what is its own."""

    def __init__(self, stack: AsyncExitStack, config: Config, metrics: Metrics, database: Database | None) -> None:
        self._stack = stack
        self._metrics = metrics
        self._database = database
        self._seconds = config.plugins.open_seconds
        self._server = ServerSettings(
            config.server.bind_addr,
            config.server.max_connections,
            config.server.drain_seconds,
            config.tls.cert_file,
            config.tls.key_file,
        )

    async def open(self, chosen: Chosen) -> Any:
        """Returns the opened driver. Raises `PluginError`, which names it."""
        plugin, driver = chosen.offer.plugin, chosen.offer.driver
        named = f"the {chosen.family.name} driver {driver.name!r} of {plugin.distribution}"
        try:
            opening = self._stack.enter_async_context(driver.open(chosen.config, self._lent(chosen)))
            opened = await within(self._seconds, opening)
        except BaseException as error:
            if not is_failure(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, TooSlowError):
                reason = f"it took more than {self._seconds:g} s"
            elif isinstance(error, StartError):
                reason = str(error)
            raise PluginError(f"{named} {plugin.version} cannot be opened: {reason}") from error
        if not isinstance(opened, chosen.family.protocol):
            raise PluginError(f"{named} is no {chosen.family.protocol.__name__}")
        return opened

    def _lent(self, chosen: Chosen) -> Services:
        plugin, migrations = chosen.offer.plugin.name, chosen.offer.driver.migrations
        return Services(
            plugin,
            structlog.get_logger("drift.plugin", plugin=plugin),
            self._server,
            self._metrics.of(plugin),
            self._metrics.everything,
            NoRecords() if self._database is None or migrations is None else PluginRecords(self._database),
        )


def rules_of(config: Config) -> Rules:
    """Returns the rules of ``[registry]`` in bytes and seconds."""
    table = config.registry
    return Rules(
        max_blob_size=table.max_upload_size_mb * MIB,
        max_manifest_size=table.max_manifest_size,
        immutable_tags=tuple(table.immutable_tags),
        sparse_manifests=table.sparse_manifests,
        upload_expiry=table.upload_expiry_hours * HOUR,
    )
