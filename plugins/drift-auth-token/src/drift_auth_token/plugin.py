"""Offers the authenticator ``token`` and its commands; imports nothing heavy until they are used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_auth_token.config import TokenConfig
from drift_core.api import Authenticator, Driver, Services, hookimpl


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
    from drift_auth_token.commands import robot, token

    return [token, robot]
