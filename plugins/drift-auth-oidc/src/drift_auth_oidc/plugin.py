"""Offers the driver ``oidc`` and its commands; imports nothing heavy until one of them is used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from drift_auth_oidc.config import OidcConfig
from drift_core.api import Authenticator, Driver, Services, hookimpl

if TYPE_CHECKING:
    import click


def open_oidc(config: OidcConfig, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    """Opens the driver."""
    from drift_auth_oidc.opening import open_login

    return open_login(config, services)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers the one driver of this plugin."""
    return [Driver("oidc", OidcConfig, open_oidc, migrations="drift_auth_oidc.migrations")]


@hookimpl
def drift_commands() -> "Iterable[click.Command]":
    """Offers `drift login`, and `drift oidc` for the operator."""
    from drift_auth_oidc.commands import login, oidc

    return [login, oidc]
