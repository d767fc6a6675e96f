"""Opens the chosen drivers and the database of one process, in order, and closes them in reverse."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from msgspec import Struct

from drift_core.config import Config, is_loopback
from drift_core.errors import ConfigError, PluginError, StartError
from drift_core.metadata.database import Database, open_database
from drift_core.metadata.outbox import subscribe
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


@asynccontextmanager
async def open_runtime(config: Config, plugins: Plugins, *, transports: bool = True) -> AsyncIterator[Runtime]:
    """Opens the database and the chosen drivers, those of ``transports`` only if the caller serves them.

    Raises:
        StartError: one of them cannot be opened; the message names the plugin. What was open is closed again.
    """
    opened: dict[str, tuple[Any, ...]] = {family.name: () for family in FAMILIES}
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(config.database_url()))
        gates, subscribers = [], []
        for chosen in choose(config, plugins):
            if chosen.family.protocol is Transport and not transports:
                continue
            driver = await _open(stack, chosen, config)
            opened[chosen.family.name] += (driver,)
            if chosen.family.protocol is Feature:
                gates += gates_of(chosen, driver)
                subscribers += subscribers_of(chosen, driver)
        # Before the first request: a subscriber that is new is told all that this server ever did.
        for subscriber in subscribers:
            await database.write(partial(subscribe, subscriber=subscriber.name))
        told = frozenset(action for one in subscribers for action in one.subscriber.subscribed)
        changes = Changes(gates, told, config.plugins.gate_seconds)
        store: BlobStore = opened["storage"][0]
        registry = Registry(database, store, rules_of(config), changes)
        yield Runtime(database, registry, tuple(subscribers), opened)


def gates_of(chosen: Chosen, feature: Feature) -> list[NamedGate]:
    """Returns a feature as a gate, or nothing. Raises `PluginError` where it names an action that there is not."""
    if not isinstance(feature, Gate):
        return []
    _check_actions(chosen, "gated", feature.gated)
    return [NamedGate(chosen.offer.plugin.name, feature)]


def subscribers_of(chosen: Chosen, feature: Feature) -> list[NamedSubscriber]:
    """Returns a feature as a subscriber, or nothing. Raises `PluginError` like `gates_of`."""
    if not isinstance(feature, Subscriber):
        return []
    _check_actions(chosen, "subscribed", feature.subscribed)
    return [NamedSubscriber(chosen.offer.driver.name, chosen.offer.plugin.name, feature)]


def _check_actions(chosen: Chosen, field: str, actions: Collection[Action]) -> None:
    unknown = sorted(set(actions) - set(ACTIONS))
    if unknown:
        offer = chosen.offer
        message = f"the feature {offer.driver.name!r} of {offer.plugin.distribution}: {field} has {unknown[0]!r}"
        raise PluginError(f"{message}; the actions are {', '.join(ACTIONS)}")


@asynccontextmanager
async def open_features(config: Config, plugins: Plugins) -> AsyncIterator[list[tuple[Chosen, Feature]]]:
    """Opens only the features, for a command that asks what they do. Raises `StartError`."""
    families = [family for family in FAMILIES if family.protocol is Feature]
    async with AsyncExitStack() as stack:
        yield [(chosen, await _open(stack, chosen, config)) for chosen in choose(config, plugins, families)]


@asynccontextmanager
async def open_driver(config: Config, plugins: Plugins, family: str, name: str) -> AsyncIterator[Any]:
    """Opens one of the chosen drivers and no other. Raises `PluginError` like `chosen_driver`, and `StartError`."""
    async with AsyncExitStack() as stack:
        yield await _open(stack, chosen_driver(config, plugins, family, name), config)


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


async def _open(stack: AsyncExitStack, chosen: Chosen, config: Config) -> Any:
    plugin, name = chosen.offer.plugin, chosen.offer.driver.name
    settings = ServerSettings(
        config.server.bind_addr,
        config.server.max_connections,
        config.server.drain_seconds,
        config.tls.cert_file,
        config.tls.key_file,
    )
    services = Services(plugin.name, structlog.get_logger("drift.plugin", plugin=plugin.name), settings)
    seconds = config.plugins.open_seconds
    message = f"the {chosen.family.name} driver {name!r} of {plugin.distribution} {plugin.version} cannot be opened"
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            driver = await stack.enter_async_context(chosen.offer.driver.open(chosen.config, services))
    except StartError:
        raise
    except Exception as error:
        reason = f"it took more than {seconds:g} s" if limit.expired() else f"{type(error).__name__}: {error}"
        raise PluginError(f"{message}: {reason}") from error
    if not isinstance(driver, chosen.family.protocol):
        expected = chosen.family.protocol.__name__
        message = f"the {chosen.family.name} driver {name!r} of {plugin.distribution} is no {expected}"
        raise PluginError(message)
    return driver


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
