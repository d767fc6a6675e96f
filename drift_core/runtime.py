"""Opens the chosen drivers and the database of one process, in order, and closes them in reverse."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

import msgspec
import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from drift_core.choosing import Chosen, Slot, choose, chosen_driver, own_processes, policies_of
from drift_core.config import Config, Secret, StorageConfig
from drift_core.errors import PluginError, StartError
from drift_core.failures import TooSlowError, is_failure, within
from drift_core.guard import Guard
from drift_core.metadata.branch import Branch
from drift_core.metadata.database import Database, looking, open_database
from drift_core.metadata.locks import exclusive
from drift_core.metadata.measured import Measured
from drift_core.metadata.outbox import subscribe
from drift_core.metadata.postgresql import Settings
from drift_core.metrics import Metrics
from drift_core.model import ACTIONS, PLUGIN, Action, Identity
from drift_core.observing import Observers
from drift_core.plugins import FAMILIES, Plugins, SigningSwitch
from drift_core.protocols.audit import Auditor
from drift_core.protocols.changes import Accountant, Gate, Subscriber, SupportsPulls
from drift_core.protocols.collection import Collector, SupportsRoots
from drift_core.protocols.console import SupportsSite
from drift_core.protocols.drivers import Services
from drift_core.protocols.features import SupportsBackground
from drift_core.protocols.observing import SupportsObserving
from drift_core.protocols.optimization import Optimizer
from drift_core.protocols.registry import LocalRegistry, SupportsRegistry
from drift_core.protocols.storage import BlobStore
from drift_core.protocols.transport import ServerSettings, Transport
from drift_core.registry.changes import Changes, NamedGate, NamedPulls
from drift_core.registry.delivery import NamedSubscriber
from drift_core.registry.local import Local
from drift_core.registry.migrating import migrating
from drift_core.registry.registry import Registry
from drift_core.registry.rules import Rules
from drift_core.signing.evidence import Evidence
from drift_core.signing.format import open_format
from drift_core.signing.gate import SignatureGate
from drift_core.signing.signing import Signing
from drift_core.trail import Trail

T = TypeVar("T")
MIB = 1 << 20
HOUR = 3600.0
DAY = 86400.0

SIGNING = "signing"
"""How the core's own gate and subscriber are called beside those of plugins."""

PLACES = ("path", "paths", "urls")
"""Ends of keys that say where files lie."""

POWERFUL = ("authn", "authz", "features")
"""Families whose drivers may have the powers of a feature: routes, gates, subscribers, audit."""


class NamedWork(Struct, frozen=True):
    """A feature with work beside requests, and its plugin."""

    plugin: str
    feature: SupportsBackground


class Sites(Struct, frozen=True):
    """Who serves browsers, and every way in for them; None where nobody does."""

    feature: SupportsSite | None = None
    transports: tuple[Transport, ...] = ()


class Runtime(Struct, frozen=True):
    """What one process has opened: the database, the registry, every driver by family, and who is told of events."""

    database: Database
    metrics: Metrics
    registry: Registry
    signing: Signing
    guard: Guard
    subscribers: tuple[NamedSubscriber, ...]
    works: tuple[NamedWork, ...]
    opened: dict[str, tuple[Any, ...]]
    observers: Observers
    chosen: tuple[Chosen, ...] = ()
    sites: Sites = Sites()

    @property
    def features(self) -> tuple[Any, ...]:
        """Everything that may have the powers of a feature."""
        return tuple(driver for family in POWERFUL for driver in self.opened[family])

    @property
    def named_features(self) -> tuple[tuple[str, Any], ...]:
        """The same, each with its plugin's name."""
        plugins = [one.offer.plugin.name for family in POWERFUL for one in self.chosen if one.family.name == family]
        return tuple(zip(plugins, self.features, strict=True))

    @property
    def transports(self) -> tuple[Transport, ...]:
        """Every way in; the caller serves them."""
        return cast("tuple[Transport, ...]", self.opened["transport"])


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
async def open_runtime(
    config: Config, plugins: Plugins, slot: Slot | None = None, *, serving: bool = True
) -> AsyncIterator[Runtime]:
    """Opens the database and the chosen drivers, of the transports those of ``slot``: none for who serves none.

    ``serving`` is False for a command.

    Raises:
        StartError: one of them cannot be opened; the message names the plugin. What was open is closed again.
    """
    opened: dict[str, tuple[Any, ...]] = {family.name: () for family in FAMILIES}
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        opened_database = await stack.enter_async_context(open_database(config.database_url(), settings_of(config)))
        database = Measured(opened_database, metrics.database)
        if not serving:
            await stack.enter_async_context(looking(database))
        trail = Trail()
        guard = Guard(trail)
        opener = _Opener(stack, config, metrics, database, guard, slot, serving=serving)
        powers, settings, named = _Powers(trail), {}, defaultdict[str, list[tuple[str, Any]]](list)
        policies = policies_of(config)
        every = choose(config, plugins)
        sites = Sites()
        for chosen in every:
            if chosen.family.protocol is Transport and not _served_in(slot, chosen):
                continue
            driver = await opener.open_for_long(chosen)
            opened[chosen.family.name] += (driver,)
            named[chosen.family.name].append((chosen.offer.plugin.name, driver))
            if chosen.family.protocol is Collector:
                settings = msgspec.to_builtins(chosen.config, enc_hook=_shown)
            powers.add(chosen, driver)
            sites = await _with_site(sites, opener, slot, chosen, driver)
        observers = Observers(powers.observers, metrics)
        guard.arm(observers.authenticators(named["authn"]), observers.authorizers(named["authz"]))
        store, collector = store_of(config.storage, opened["storage"]), next(iter(opened["gc"]), None)
        store = observers.store(_plugin_of(store, named["storage"]), store)
        evidence = Evidence(database, store, opened["verification"], metrics)
        gates, subscribers = powers.gates, powers.subscribers
        if policies.ask:
            gate = SignatureGate(database, evidence, policies, guard, metrics)
            gates.append(NamedGate(SIGNING, frozenset(gate.gated), gate))
        told = frozenset(action for one in subscribers for action in one.actions)
        told |= frozenset(Signing.subscribed if evidence.formats else ())
        gates = observers.gates(gates)
        changes = Changes(gates, told, config.plugins.gate_seconds, metrics, trail, powers.accountants, powers.pulls)
        roots = [driver for drivers in opened.values() for driver in drivers if isinstance(driver, SupportsRoots)]
        registry = Registry(database, store, rules_of(config), changes, metrics, collector, settings, roots)
        default = config.section("signing", SigningSwitch).default_key_id
        signing = Signing(database, registry, opened["signing"], evidence, policies, default, metrics, trail)
        for plugin, user in powers.users:
            user.use(Local(registry, database, Identity(plugin, PLUGIN), signing.is_verified))
        if evidence.formats:
            subscribers.append(NamedSubscriber(SIGNING, SIGNING, frozenset(signing.subscribed), signing))
        # Before the first request: a subscriber that is new is told all that this server ever did.
        for subscriber in subscribers:
            await database.write(partial(subscribe, subscriber=subscriber.name))
        told_of, works = tuple(observers.subscribers(subscribers)), tuple(powers.works)
        yield Runtime(
            database, metrics, registry, signing, guard, told_of, works, opened, observers, tuple(every), sites
        )


def _plugin_of(driver: object, named: Sequence[tuple[str, object]]) -> str:
    """Returns whose driver it is; a store of two places is that of the new one."""
    return next((plugin for plugin, one in named if one is driver), named[0][0])


async def _with_site(sites: Sites, opener: "_Opener", slot: Slot | None, chosen: Chosen, driver: object) -> Sites:
    """Returns who serves browsers, and how, with one driver more: transports come last, and are opened once more.

    One that shares no address with others is where its table says at which it serves browsers.
    """
    if slot is None:
        return sites
    if chosen.offer.driver.site:
        if not isinstance(driver, SupportsSite):
            offer = chosen.offer
            message = f"the {chosen.family.name} driver {offer.driver.name!r} of {offer.plugin.distribution} is no site"
            raise PluginError(message)
        return Sites(driver)
    if sites.feature is None or chosen.family.protocol is not Transport:
        return sites
    if hasattr(chosen.config, "bind_addr"):
        address = getattr(chosen.config, "ui_bind_addr", None)
        if address is None:
            return sites
        there: Any = msgspec.structs.replace(chosen.config, bind_addr=address, ui_bind_addr=None)
        chosen = msgspec.structs.replace(chosen, config=there)
    return Sites(sites.feature, (*sites.transports, await opener.open_for_browsers(chosen)))


def _served_in(slot: Slot | None, chosen: Chosen) -> bool:
    """Says whether a transport belongs into a process."""
    if slot is None:
        return False
    return slot.transport == (chosen.offer.driver.name if own_processes(chosen) else None)


class _Powers:
    """The open features by what they can do, in the order in which they were opened."""

    def __init__(self, trail: Trail) -> None:
        self.gates: list[NamedGate] = []
        self.subscribers: list[NamedSubscriber] = []
        self.works: list[NamedWork] = []
        self.users: list[tuple[str, SupportsRegistry]] = []
        self.accountants: list[Accountant] = []
        self.pulls: list[NamedPulls] = []
        self.observers: list[tuple[str, SupportsObserving]] = []
        self._trail = trail

    def add(self, chosen: Chosen, driver: object) -> None:
        """Looks for every power that a driver may have. Raises `PluginError` like `gates_of`."""
        plugin, family = chosen.offer.plugin.name, chosen.family.name
        if family in POWERFUL or family == "storage":
            self.works += [NamedWork(plugin, driver)] if isinstance(driver, SupportsBackground) else []
        if family not in POWERFUL:
            return
        self.gates += gates_of(chosen, driver)
        self.subscribers += subscribers_of(chosen, driver)
        self.users += [(plugin, driver)] if isinstance(driver, SupportsRegistry) else []
        self.accountants += [driver] if isinstance(driver, Accountant) else []
        self.pulls += [NamedPulls(plugin, driver)] if isinstance(driver, SupportsPulls) else []
        self.observers += [(plugin, driver)] if isinstance(driver, SupportsObserving) else []
        self._trail.auditors += [driver] if isinstance(driver, Auditor) else []


@asynccontextmanager
async def open_for_command(config: Config, plugins: Plugins) -> AsyncIterator[Runtime]:
    """Opens everything but transports for a command, after `prepare`. Raises `StartError`."""
    await asyncio.to_thread(prepare, config, plugins)
    async with open_runtime(config, plugins, serving=False) as runtime:
        yield runtime


@asynccontextmanager
async def open_local(config: Config, plugins: Plugins, identity: Identity) -> AsyncIterator[LocalRegistry]:
    """Opens the registry for a command; what it does is done as ``identity``. Raises `StartError`."""
    async with open_for_command(config, plugins) as runtime:
        yield Local(runtime.registry, runtime.database, identity, runtime.signing.is_verified)


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, Secret) else str(value)


def store_of(table: StorageConfig, stores: Sequence[BlobStore]) -> BlobStore:
    """Returns the outermost of the stores that are open so far: that of ``storage.type``, or a layer around it.

    That of ``storage.previous`` is behind it where there is one.
    """
    if len(stores) > len(table.places):
        return stores[-1]
    return stores[0] if len(stores) == 1 else migrating(*stores)


def gates_of(chosen: Chosen, feature: object) -> list[NamedGate]:
    """Returns a feature as a gate, or nothing.

    Raises:
        PluginError: it names an action that there is not, or is a gate only by half.
    """
    actions = _actions(chosen, feature, "gated", "admit")
    return [] if actions is None else [NamedGate(chosen.offer.plugin.name, actions, cast("Gate", feature))]


def subscribers_of(chosen: Chosen, feature: object) -> list[NamedSubscriber]:
    """Returns a feature as a subscriber, or nothing. Raises `PluginError` like `gates_of`."""
    actions = _actions(chosen, feature, "subscribed", "on_event")
    name, plugin = chosen.offer.driver.name, chosen.offer.plugin.name
    return [] if actions is None else [NamedSubscriber(name, plugin, actions, cast("Subscriber", feature))]


def _actions(chosen: Chosen, feature: object, field: str, method: str) -> frozenset[Action] | None:
    """Reads which actions a feature is asked before, or told of; None where it is neither gate nor subscriber."""
    missing = [name for name in (field, method) if not hasattr(feature, name)]
    if len(missing) == 2:  # noqa: PLR2004 - both
        return None
    offer = chosen.offer
    message = f"the {chosen.family.name} driver {offer.driver.name!r} of {offer.plugin.distribution}"
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
async def open_features(config: Config, plugins: Plugins) -> AsyncIterator[list[tuple[Chosen, object]]]:
    """Opens only what may be a feature, for a command that asks what it does. Raises `StartError`."""
    # A feature is lent the optimizers.
    every = choose(config, plugins, [family for family in FAMILIES if family.name in (*POWERFUL, "optimization")])
    # A question must not bring the tables of a server that runs to another form.
    with TemporaryDirectory() as folder:
        async with _alone(config, every, f"sqlite:///{folder}/drift.db") as drivers:
            yield [one for one in zip(every, drivers, strict=True) if one[0].family.name in POWERFUL]


@asynccontextmanager
async def open_driver(
    config: Config, plugins: Plugins, family: str, name: str, *, audited: bool = False
) -> AsyncIterator[Any]:
    """Opens one of the chosen drivers, and if it is ``audited`` those who keep a trail of what it does.

    Raises `PluginError` like `chosen_driver`, and `StartError`.
    """
    chosen = chosen_driver(config, plugins, family, name)
    lenders = {"features"} if audited and family != "features" else set[str]()
    # A feature is lent the optimizers, and a layer what lies beneath it.
    lenders |= {"optimization"} if family == "features" else {"storage"} if chosen.offer.driver.layer else set()
    others = choose(config, plugins, [one for one in FAMILIES if one.name in lenders])
    if chosen in others:
        others = others[: others.index(chosen)]
    async with _alone(config, [*others, chosen], config.database_url()) as drivers:
        yield drivers[-1]


@asynccontextmanager
async def _alone(config: Config, every: Sequence[Chosen], url: str) -> AsyncIterator[list[Any]]:
    """Opens some drivers; the database only where one of them has tables in it."""
    branches = _branches(every)
    async with AsyncExitStack() as stack:
        database = None
        if branches:
            await asyncio.to_thread(_migrate, url, branches)
            database = await stack.enter_async_context(open_database(url))
        trail = Trail()
        opener = _Opener(stack, config, Metrics(), database, Guard(trail), serving=False)
        drivers = []
        for chosen in every:
            drivers.append(await opener.open(chosen))
            trail.auditors += [drivers[-1]] if isinstance(drivers[-1], Auditor) else []
        yield drivers


@asynccontextmanager
async def open_store(config: Config, plugins: Plugins) -> AsyncIterator[BlobStore]:
    """Opens only the store, for a command that needs its bytes. Raises `StartError`."""
    every = choose(config, plugins, [family for family in FAMILIES if family.name == "storage"])
    async with _alone(config, every, config.database_url()) as stores:
        yield store_of(config.storage, stores)


@asynccontextmanager
async def open_places(config: Config, plugins: Plugins) -> AsyncIterator[list[BlobStore]]:
    """Opens the drivers of ``storage.type`` and, where there is one, of ``storage.previous``. Raises `StartError`."""
    every = choose(config, plugins, [family for family in FAMILIES if family.name == "storage"])
    async with _alone(config, every[: len(config.storage.places)], config.database_url()) as stores:
        yield stores


class NoRecords:
    """What a driver without ``migrations`` gets as `Records`."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Raises `StartError`."""
        del query
        raise StartError("a driver without migrations has no tables to read or write")

    async def write(self, change: Callable[[Connection], T], *, concurrent: bool = False) -> T:
        """Raises `StartError`."""
        del concurrent
        return await self.read(change)

    def version(self) -> bytes:
        """Returns nothing, which never differs."""
        return b""


class PluginRecords:
    """What a driver with ``migrations`` gets as `Records`: its changes fail alone."""

    def __init__(self, plugin: str, database: Database) -> None:
        self._plugin = plugin
        self._database = database

    async def read(self, query: Callable[[Connection], T]) -> T:
        """See `Records`."""
        return await self._database.read(query)

    async def write(self, change: Callable[[Connection], T], *, concurrent: bool = False) -> T:
        """See `Records`."""

        def one_at_a_time(db: Connection) -> T:
            exclusive(db, f"plugin:{self._plugin}")
            return change(db)

        return await self._database.write(change if concurrent else one_at_a_time, alone=True)

    def version(self) -> bytes:
        """See `Records`."""
        return self._database.version()


class _Opener:
    """Opens drivers into a stack, and lends each what is its own."""

    def __init__(
        self,
        stack: AsyncExitStack,
        config: Config,
        metrics: Metrics,
        database: Database | None,
        guard: Guard,
        slot: Slot | None = None,
        *,
        serving: bool,
    ) -> None:
        self._stack = stack
        self._storage = config.storage
        self._stores: list[BlobStore] = []
        self._optimizers: dict[str, Optimizer] = {}
        self._signing = _without_places(config.raw("signing"))
        self._serving = serving
        self._guard = guard
        self._metrics = metrics
        self._database = database
        self._seconds = config.plugins.open_seconds
        self._ui_addr = config.server.ui_addr
        self._server = ServerSettings(
            config.server.bind_addr,
            config.server.max_connections,
            config.server.drain_seconds,
            config.tls.cert_file,
            config.tls.key_file,
            config.tls.client_ca_file,
            0 if slot is None else slot.index,
            1 if slot is None else slot.count,
        )

    async def open(self, chosen: Chosen) -> Any:
        """Returns the opened driver. Raises `PluginError`, which names it."""
        return await self._stack.enter_async_context(self._opened(chosen))

    async def open_for_long(self, chosen: Chosen) -> Any:
        """Returns the same, but of a signer or a verifier its `Format`, which opens it anew when a file changes."""
        if chosen.family.switch is not SigningSwitch:
            return await self.open(chosen)
        # The same on every node that is configured alike, wherever its files lie.
        salt = repr((chosen.offer.plugin.version, self._signing)).encode()
        opened = open_format(chosen.offer.driver.name, partial(self._opened, chosen), salt)
        return await self._stack.enter_async_context(opened)

    async def open_for_browsers(self, chosen: Chosen) -> Transport:
        """Returns a transport once more, for browsers: at ``[server] ui_addr``, or where its own table says.

        What this one measures nobody reads.
        """
        server = msgspec.structs.replace(self._server, bind_addr=self._ui_addr)
        lent = msgspec.structs.replace(self._lent(chosen), server=server, metrics=CollectorRegistry())
        return cast("Transport", await self._stack.enter_async_context(self._opened(chosen, lent)))

    @asynccontextmanager
    async def _opened(self, chosen: Chosen, lent: Services | None = None) -> AsyncIterator[Any]:
        plugin, driver = chosen.offer.plugin, chosen.offer.driver
        named = f"the {chosen.family.name} driver {driver.name!r} of {plugin.distribution}"
        async with AsyncExitStack() as stack:
            try:
                opening = stack.enter_async_context(driver.open(chosen.config, lent or self._lent(chosen)))
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
            if chosen.family.protocol is BlobStore:
                self._stores.append(cast("BlobStore", opened))
            elif chosen.family.protocol is Optimizer:
                self._optimizers[driver.name] = cast("Optimizer", opened)
            yield opened

    def _lent(self, chosen: Chosen) -> Services:
        plugin, migrations = chosen.offer.plugin.name, chosen.offer.driver.migrations
        layer = chosen.family.protocol is BlobStore and chosen.offer.driver.name in self._storage.layers
        return Services(
            plugin,
            structlog.get_logger("drift.plugin", plugin=plugin),
            self._server,
            self._metrics.of(plugin),
            self._metrics.everything,
            NoRecords() if self._database is None or migrations is None else PluginRecords(plugin, self._database),
            self._guard,
            self._guard.trail,
            self._serving,
            store_of(self._storage, self._stores) if layer else None,
            self._optimizers,
        )


def _without_places(node: Any) -> Any:
    """Returns a table without keys that sign, which are secret, and without where files lie."""
    if isinstance(node, Mapping):
        left = {key: value for key, value in node.items() if key != "signing_keys" and not key.endswith(PLACES)}
        return [(key, _without_places(value)) for key, value in sorted(left.items())]
    return [_without_places(one) for one in node] if isinstance(node, list | tuple) else node


def settings_of(config: Config) -> Settings:
    """Returns how a process of the configuration uses a database that is a server."""
    return Settings(config.metadata.connections, config.metadata.statement_seconds)


def rules_of(config: Config) -> Rules:
    """Returns the rules of ``[registry]`` in bytes and seconds."""
    table = config.registry
    return Rules(
        max_blob_size=table.max_upload_size_mb * MIB,
        max_manifest_size=table.max_manifest_size,
        immutable_tags=tuple(table.immutable_tags),
        no_overwrite_tags=tuple(table.no_overwrite_tags),
        no_delete_tags=tuple(table.no_delete_tags),
        min_age=table.min_age_days * DAY,
        referrers=table.referrers,
        lease=table.lease_seconds,
        restorable=table.restore_hours * HOUR,
        sparse_manifests=table.sparse_manifests,
        upload_expiry=table.upload_expiry_hours * HOUR,
    )
