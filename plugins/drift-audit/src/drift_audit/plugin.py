"""Offers the feature ``audit`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_audit.config import AuditConfig
from drift_core.api import Driver, Feature, Services, deferred, hookimpl


def open_trail(config: AuditConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the trail; the import is here so that one that is not enabled costs nothing."""
    from drift_audit.auditor import open_audit

    return open_audit(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("audit", AuditConfig, open_trail, "drift_audit.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift audit``."""
    summary = "Read the audit trail, and verify that nothing of it was removed or changed."
    return [deferred("audit", summary, "drift_audit.commands:audit")]
