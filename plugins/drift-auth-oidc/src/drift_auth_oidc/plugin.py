"""Offers the driver ``oidc`` and its commands; imports nothing heavy until one of them is used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_auth_oidc.config import OidcConfig
from drift_core.api import Authenticator, Driver, Services, deferred, hookimpl


def open_oidc(config: OidcConfig, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    """Opens the driver."""
    from drift_auth_oidc.opening import open_login

    return open_login(config, services)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers the one driver of this plugin."""
    return [Driver("oidc", OidcConfig, open_oidc, migrations="drift_auth_oidc.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers `drift login`, and `drift oidc` for the operator."""
    for_people = (
        "Log in to a registry in a browser, on this machine or another; docker, crane and others then use the token."
    )
    for_operators = "See and end sessions and tokens of people who logged in by a provider."
    return [
        deferred("login", for_people, "drift_auth_oidc.device_login:login"),
        deferred("oidc", for_operators, "drift_auth_oidc.commands:oidc"),
    ]
