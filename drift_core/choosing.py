"""Chooses the drivers that the configuration asks for, and checks that they fit together; opens none of them."""

import os
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from drift_core.address import is_loopback
from drift_core.config import Config, parse_address
from drift_core.errors import ConfigError, PluginError
from drift_core.plugins import FAMILIES, Family, Offer, Plugins, SigningSwitch
from drift_core.protocols.storage import BlobStore
from drift_core.protocols.transport import Transport
from drift_core.signing.policy import Policies
from drift_core.signing_tables import SigningKeys, SigningPolicy

HARMLESS_WITHOUT = frozenset({"garbage_collector"})
"""Tables that may say ``enabled = true`` while nobody reads them: without a collector nothing is lost."""

DEFAULT = SigningPolicy()

ADDRESSES = ("bind_addr", "ui_bind_addr")
"""Keys of a transport with addresses of its own: for clients, and for browsers."""


class Chosen(Struct, frozen=True):
    """A driver that the configuration asks for, with its table read into its Struct."""

    family: Family
    offer: Offer
    config: Struct


class Slot(Struct, frozen=True):
    """A process of the server: number ``index`` of the ``count`` that serve ``transport``.

    None stands for every transport that has no processes of its own; the first of these works in the background.
    """

    transport: str | None
    index: int
    count: int

    def __str__(self) -> str:
        """Returns what logs and tables of processes call it."""
        return f"{self.transport or 'worker'}-{self.index}"


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
        if family.protocol is BlobStore:
            _check_layer(config, offer)
        table = config.section(path, offer.driver.config, family.parent, tables[path])
        if getattr(table, "enabled", True):
            chosen.append(Chosen(family, offer, table))
        elif family.choose(config) is not None:
            raise ConfigError(f"{path}.enabled", "is false, but the configuration chooses this driver by name")
    for path, distribution in config.unclaimed(tables):
        if config.enabled(path) and path not in HARMLESS_WITHOUT:
            message = f"{path}.enabled is true, but no installed plugin reads [{path}]; {distribution} does"
            raise PluginError(message)
    _check_logins(config, chosen, families)
    _check_signing(config, chosen, families)
    _check_site(config, chosen)
    if config.auth is None:
        _check_addresses(config, chosen)
    return chosen


def site_of(every: Sequence[Chosen]) -> Chosen | None:
    """Returns the one that serves browsers, None where nobody does. Raises `PluginError` where several would."""
    sites = [one for one in every if one.offer.driver.site]
    if len(sites) > 1:
        names = " and ".join(f"{one.offer.driver.name} of {one.offer.plugin.distribution}" for one in sites)
        message = f"{names} would both be served on server.ui_addr; disable one of them"
        raise PluginError(message)
    return sites[0] if sites else None


def _check_site(config: Config, every: Sequence[Chosen]) -> None:
    """Raises `ConfigError` where browsers are to be served where they cannot be."""
    site = site_of(every)
    if site is not None and config.server.ui_addr == config.server.bind_addr:
        raise ConfigError(
            "server.ui_addr", f"is that of server.bind_addr; {site.offer.driver.name} needs one of its own"
        )
    for one in every if site is None else ():
        if one.family.protocol is Transport and getattr(one.config, "ui_bind_addr", None) is not None:
            path = one.family.path(one.offer.driver.name)
            raise ConfigError(f"{path}.ui_bind_addr", "nobody serves browsers; install drift-ui, or enable it")


def _check_addresses(config: Config, every: Sequence[Chosen]) -> None:
    """Raises `ConfigError` for an address that others can reach while nobody has to log in."""
    addresses = {"server.bind_addr": config.server.bind_addr} | {
        f"{one.family.path(one.offer.driver.name)}.{key}": getattr(one.config, key)
        for one in every
        for key in ADDRESSES
        if one.family.protocol is Transport and getattr(one.config, key, None) is not None
    }
    if site_of(every) is not None:
        addresses["server.ui_addr"] = config.server.ui_addr
    for path, address in addresses.items():
        if not is_loopback(parse_address(address)[0]):
            raise ConfigError(
                path,
                f"{address} can be reached by others, but nobody has to log in; configure [auth], or write "
                'auth.mode = "none" to serve everybody',
            )


def slots_of(config: Config, every: Sequence[Chosen]) -> list[Slot]:
    """Returns the processes of a server with these drivers, those of all workers first."""
    count = config.server.workers or os.cpu_count() or 1
    counts: list[tuple[str | None, int]] = [(None, count)]
    counts += [(one.offer.driver.name, own_processes(one)) for one in every]
    return [Slot(transport, index, count) for transport, count in counts for index in range(count)]


def own_processes(chosen: Chosen) -> int:
    """Returns how many processes of its own a transport has; 0 where it shares those of all."""
    ask = chosen.offer.driver.processes
    return 0 if ask is None or chosen.family.protocol is not Transport else ask(chosen.config)


def _check_layer(config: Config, offer: Offer) -> None:
    """Raises `ConfigError` for a layer in the place of a store, and the other way round: it would hide all content."""
    name, layer = offer.driver.name, offer.driver.layer
    if layer and name not in config.storage.layers:
        raise ConfigError("storage.type", f"{name} lies around another store; name it in storage.layers")
    if not layer and name in config.storage.layers:
        raise ConfigError("storage.layers", f"{name} is a store by itself")


def _check_logins(config: Config, every: Sequence[Chosen], families: Sequence[Family]) -> None:
    """Raises `ConfigError` where policies are never asked, or no authenticator reads what ``[auth]`` switches on."""
    if not any(family.name == "authn" for family in families):
        return
    chosen = [one for one in every if one.family.name == "authn"]
    policies = ", ".join(one.offer.driver.name for one in every if one.family.name == "authz")
    if policies and not chosen:
        raise ConfigError("auth", f"nobody has to log in, so that the policies ({policies}) would never be asked")
    read = {one.offer.driver.name for one in chosen}
    read.update(field.encode_name for one in chosen for field in msgspec.structs.fields(one.config))
    for key in config.raw("auth"):
        if key not in read and config.enabled(f"auth.{key}"):
            names = ", ".join(one.offer.driver.name for one in chosen) or "none"
            advice = f"name in auth.chain one that reads it, behind what is there ({names})"
            raise ConfigError(f"auth.{key}.enabled", f"is true, but no chosen authenticator reads it; {advice}")


def _check_signing(config: Config, every: Sequence[Chosen], families: Sequence[Family]) -> None:
    """Raises `ConfigError` where signatures are required, and nothing would be refused, or everything."""
    table, policies = config.section("signing", SigningSwitch), policies_of(config)
    path = "signing.verification_policy"
    if policies.ask and not table.enabled:
        raise ConfigError(f"{path}.require_signatures", "is true, but signing.enabled is not: nothing is verified")
    if policies.exempt and (config.auth is None or config.auth.mode == "none"):
        reason = "is true, but nobody has to log in: everybody may push, and would be let pull what is not signed"
        raise ConfigError(f"{path}.exempt_pushers", reason)
    if not any(family.name == "verification" for family in families):
        return
    opened = {one.offer.driver.name for one in every if one.family.name == "verification"}
    keys = [one.config for one in every if isinstance(one.config, SigningKeys)]
    stores = {"sigstore", *(store.name for one in keys for store in one.trust_stores)}
    stores |= {key.key_id for one in keys for key in one.verification_keys}
    for policy in policies.required():
        formats, trusted = set(policy.allowed_signature_formats), set(policy.trust_stores)
        if not formats & opened or formats - opened - set(DEFAULT.allowed_signature_formats):
            judged = ", ".join(sorted(opened)) or "none"
            reason = (
                f"{', '.join(sorted(formats - opened)) or 'no format'} is judged by no plugin here; judged are {judged}"
            )
            raise ConfigError(f"{path}.allowed_signature_formats", reason)
        if trusted - stores - set(DEFAULT.trust_stores):
            reason = (
                f"there is no trust store {', '.join(sorted(trusted - stores))}; there are {', '.join(sorted(stores))}"
            )
            raise ConfigError(f"{path}.trust_stores", reason)


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


def policies_of(config: Config) -> Policies:
    """Returns what ``[signing]`` requires of pulls. Raises `ConfigError`."""
    return Policies(config.section("signing", SigningSwitch).verification_policy)
