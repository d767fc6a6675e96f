"""Offers the authenticator ``token`` and its commands; imports nothing heavy until they are used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_auth_token.config import TokenConfig
from drift_core.api import Authenticator, Driver, Services, deferred, hookimpl


def _open(config: TokenConfig, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    from drift_auth_token.authenticator import open_authenticator

    return open_authenticator(config, services)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers ``token``."""
    return [Driver("token", TokenConfig, _open, migrations="drift_auth_token.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift token`` and ``drift robot``."""
    return [
        deferred("token", "Personal access tokens, and the keys that sign tokens.", "drift_auth_token.commands:token"),
        deferred("robot", "Robot accounts: tokens of nobody, for machines.", "drift_auth_token.commands:robot"),
    ]
