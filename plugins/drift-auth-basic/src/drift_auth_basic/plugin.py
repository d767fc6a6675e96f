"""Offers the driver ``basic`` and the command ``user``; imports nothing heavy until they are used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

import click

from drift_auth_basic.config import BasicConfig
from drift_auth_basic.tally import Tally
from drift_core.api import Authenticator, Driver, Services, deferred, hookimpl

TALLY: Final = Tally()
"""That of all workers of a server, which are forked after the plugin was imported."""


def open_driver(config: BasicConfig, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    """Opens the authenticator; argon2, bcrypt and SQLAlchemy are imported here."""
    from drift_auth_basic.authenticator import open_basic

    return open_basic(config, services, TALLY)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers the one driver of this plugin."""
    return [Driver("basic", BasicConfig, open_driver, migrations="drift_auth_basic.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers `drift user`."""
    summary = "Manage the users in the database, who log in with a password."
    return [deferred("user", summary, "drift_auth_basic.commands:user")]
