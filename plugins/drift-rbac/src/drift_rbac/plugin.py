"""Offers the driver ``rbac`` and the commands `drift rbac`; imports nothing heavy until one is used."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Authorizer, Driver, Services, deferred, hookimpl
from drift_rbac.config import RbacConfig


def open_rbac(config: RbacConfig, services: Services) -> AbstractAsyncContextManager[Authorizer]:
    """Opens the policy; the import is here so that a plugin that is not chosen costs nothing."""
    from drift_rbac.authorizer import open_authorizer

    return open_authorizer(config, services)


@hookimpl
def drift_authz() -> Iterable[Driver[Authorizer]]:
    """Offers the one driver of this plugin."""
    return [Driver("rbac", RbacConfig, open_rbac, migrations="drift_rbac.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers `drift rbac`."""
    summary = "Decide who may do what: organizations, teams, roles and users."
    return [deferred("rbac", summary, "drift_rbac.commands:rbac")]
