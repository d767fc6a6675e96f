"""Asks each loaded plugin what it offers, keeps the offers by family, and names both sides of a conflict."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
import pluggy
from msgspec import Struct

from drift_core import hookspecs
from drift_core.config import CORE_TABLES, Claims, Config, provider_of, type_info
from drift_core.discovery import Found, discover
from drift_core.errors import PluginError
from drift_core.failures import is_failure
from drift_core.protocols.access import Authenticator, Authorizer
from drift_core.protocols.collection import Collector
from drift_core.protocols.drivers import Driver
from drift_core.protocols.features import Feature
from drift_core.protocols.optimization import Optimizer
from drift_core.protocols.signing import Signer, Verifier
from drift_core.protocols.storage import BlobStore
from drift_core.protocols.transport import Transport
from drift_core.signing_tables import VerificationPolicy


class Switch(Struct, frozen=True):
    """What the core itself reads of a table that all drivers of a family share."""

    enabled: bool = False


class SigningSwitch(Switch, frozen=True):
    """The same of ``[signing]``: the formats that are judged, None being all that are installed.

    ``default_key_id`` signs where nobody says by which key.
    """

    signature_formats: tuple[str, ...] | None = None
    default_key_id: str = "default"
    verification_policy: VerificationPolicy = VerificationPolicy()


class Family(Struct, frozen=True):
    """One kind of driver: its hook, what an opened driver must be, where its table lies, and which are chosen.

    ``parent`` names the table whose own keys are defaults of the driver's; ``switch`` is what the core reads of a table
    that all drivers share. ``choose`` returns the names that the configuration asks for, or None for every one that is
    offered; where ``switched`` is true, ``enabled = true`` in a driver's own table asks for it, too.
    """

    name: str
    hook: str
    protocol: type
    table: str
    choose: Callable[[Config], list[str] | None]
    parent: str | None = None
    switch: type[Switch] | None = None
    switched: bool = False

    def path(self, driver: str) -> str:
        """Returns the path of a driver's table in the configuration."""
        return self.table.format(name=driver)


def _authenticators(config: Config) -> list[str]:
    if config.auth is None or config.auth.mode == "none":
        return []
    return [config.auth.mode] if config.auth.chain is None else list(config.auth.chain)


def _if_enabled(table: str) -> Callable[[Config], list[str] | None]:
    return lambda config: None if config.enabled(table) else []


def _formats(config: Config) -> list[str] | None:
    switch = config.section("signing", SigningSwitch)
    if not switch.enabled:
        return []
    return None if switch.signature_formats is None else list(switch.signature_formats)


FAMILIES: tuple[Family, ...] = (
    Family(
        "storage",
        "drift_storage",
        BlobStore,
        "storage.{name}",
        lambda config: list(config.storage.names),
        "storage",
    ),
    Family("authn", "drift_authn", Authenticator, "auth.{name}", _authenticators, "auth"),
    Family(
        "authz",
        "drift_authz",
        Authorizer,
        "{name}",
        lambda config: [] if config.auth is None else list(config.auth.policies),
        switched=True,
    ),
    Family("signing", "drift_signers", Signer, "signing", _if_enabled("signing"), switch=SigningSwitch),
    Family("verification", "drift_verifiers", Verifier, "signing", _formats, switch=SigningSwitch),
    Family(
        "optimization",
        "drift_optimizers",
        Optimizer,
        "optimization",
        _if_enabled("optimization"),
        switch=Switch,
    ),
    Family(
        "gc",
        "drift_collectors",
        Collector,
        "garbage_collector",
        _if_enabled("garbage_collector"),
        switch=Switch,
    ),
    Family("features", "drift_features", Feature, "{name}", lambda _: None),
    Family("transport", "drift_transports", Transport, "{name}", lambda _: None),
)
"""In the order in which they are opened; closed in reverse, so that transports stop first."""


DRIVER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
RUNNER = "optimization"
"""The feature that runs the optimizers; it shares their table."""

RESERVED = {*CORE_TABLES, *(family.table for family in FAMILIES if "{" not in family.table)} - {RUNNER}
"""Tables that a driver with a table of its own name cannot have."""


class Offer(Struct, frozen=True):
    """A driver and the plugin that offers it."""

    family: str
    driver: Driver[Any]
    plugin: Found


class Plugins:
    """What is installed, and what the loaded plugins offer."""

    def __init__(self, found: list[Found]) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.commands: dict[str, click.Command] = {}
        self._offers: list[Offer] = []
        self.found = tuple(self._register(plugin) for plugin in found)

    def offers(self, family: Family | None = None) -> list[Offer]:
        """Returns the offers of a family, or all."""
        return [offer for offer in self._offers if family is None or offer.family == family.name]

    def chosen(self, config: Config, families: Sequence[Family] = FAMILIES) -> Iterator[tuple[Family, Offer]]:
        """Yields what the configuration asks for of ``families``, in the order of opening.

        Raises:
            PluginError: it asks for what nobody offers, or two do; or two offers of a family share a name.
        """
        for family in families:
            names = family.choose(config)
            if names is None:
                names = list(dict.fromkeys(offer.driver.name for offer in self.offers(family)))
            if family.switched:
                offered = [offer.driver.name for offer in self.offers(family)]
                names = list(dict.fromkeys([*names, *(name for name in offered if config.enabled(family.path(name)))]))
            for name in names:
                yield family, self.offer(family, name)

    def tables(self) -> Claims:
        """Returns the path of every table that offered drivers read, and the Structs they and the core read it into."""
        tables: dict[str, dict[type[Struct], None]] = {}
        for family in FAMILIES:
            for offer in self.offers(family):
                table = tables.setdefault(family.path(offer.driver.name), {})
                table |= dict.fromkeys(struct for struct in (family.switch, offer.driver.config) if struct)
        return {path: tuple(structs) for path, structs in tables.items()}

    def offer(self, family: Family, name: str) -> Offer:
        """Returns the one offer of a driver. Raises `PluginError` where nobody offers it, or two do."""
        offers = [offer for offer in self.offers(family) if offer.driver.name == name]
        if len(offers) == 1:
            return offers[0]
        if offers:
            sources = " and ".join(f"{offer.plugin.distribution} {offer.plugin.version}" for offer in offers)
            message = f"the {family.name} driver {name!r} is offered by {sources}; disable one of the plugins"
            raise PluginError(message)
        installed = ", ".join(sorted(offer.driver.name for offer in self.offers(family))) or "none"
        provider = provider_of(family.path(name))
        advice = f"; {provider} provides it" if provider else ""
        broken = "".join(
            f"; the plugin {plugin.name} of {plugin.distribution} is broken: {plugin.error}"
            for plugin in self.found
            if plugin.state == "broken" and provider in (plugin.distribution, None)
        )
        message = (
            f"no installed plugin offers the {family.name} driver {name!r}{advice}{broken} (installed: {installed})"
        )
        raise PluginError(message)

    def _register(self, plugin: Found) -> Found:
        if plugin.module is None:
            return plugin
        try:
            self._manager.register(plugin.module, name=plugin.name)
            self._check_hooks(plugin)
            offers = [
                Offer(family.name, _checked(family, driver), plugin)
                for family in FAMILIES
                for driver in self._ask(family.hook, plugin)
            ]
            commands = {str(command.name): command for command in self._ask("drift_commands", plugin)}
            self._check_commands(commands)
        except BaseException as error:  # whatever a plugin raises makes that plugin broken, and no other
            if not is_failure(error):
                raise
            if self._manager.has_plugin(plugin.name):
                self._manager.unregister(name=plugin.name)
            reason = f"{type(error).__name__}: {error}"
            return Found(plugin.name, plugin.distribution, plugin.version, "broken", None, reason)
        self._offers += offers
        self.commands |= commands
        return plugin

    def _check_hooks(self, plugin: Found) -> None:
        unknown = [
            name
            for name in dir(plugin.module)
            if name.startswith(f"{hookspecs.PROJECT}_")
            and self._manager.parse_hookimpl_opts(plugin.module, name) is not None
            and not hasattr(hookspecs, name)
        ]
        if unknown:
            message = f"unknown hooks: {', '.join(unknown)}"
            raise PluginError(message)

    def _check_commands(self, commands: Mapping[str, click.Command]) -> None:
        for name in commands.keys() & self.commands.keys():
            message = f"another plugin has the command {name!r}"
            raise PluginError(message)

    def _ask(self, hook: str, plugin: Found) -> list[Any]:
        others = [module for name, module in self._manager.list_name_plugin() if name != plugin.name]
        answers = self._manager.subset_hook_caller(hook, others)()
        return [item for answer in answers for item in answer]


def _checked(family: Family, driver: Any) -> Driver[Any]:
    if not isinstance(driver, Driver):
        message = f"a hook returned {type(driver).__name__}, not Driver"
        raise TypeError(message)
    if DRIVER_NAME.fullmatch(str(driver.name)) is None:
        message = f"{driver.name!r} is not a name for a driver: letters, digits, - and _, beginning with a letter"
        raise ValueError(message)
    if family.table == "{name}" and driver.name in RESERVED:
        message = f"a driver of the family {family.name} cannot be named {driver.name!r}: [{driver.name}] is the core's"
        raise ValueError(message)
    config: Any = driver.config
    if not (isinstance(config, type) and issubclass(config, Struct)):
        message = f"the config of the driver {driver.name!r} is no Struct"
        raise TypeError(message)
    # What cannot be resolved would fail whoever reads the configuration of others.
    type_info(config)
    return driver


def load_plugins(config: Config) -> Plugins:
    """Returns the plugins that the configuration enables.

    Raises:
        PluginError: ``plugins.enabled`` names one that is not installed, or is broken.
    """
    plugins = Plugins(discover(config.plugins.enabled, config.plugins.disabled))
    for plugin in plugins.found:
        if plugin.state == "broken" and plugin.name in (config.plugins.enabled or ()):
            message = f"plugins.enabled: {plugin.name} cannot be loaded: {plugin.error}"
            raise PluginError(message)
    return plugins
