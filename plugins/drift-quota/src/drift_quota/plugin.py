"""Offers the feature ``quota`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, deferred, hookimpl
from drift_quota.config import QuotaConfig


def open_driver(config: QuotaConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_quota.quota import open_quota

    return open_quota(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("quota", QuotaConfig, open_driver, "drift_quota.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift quota``."""
    summary = "Show how many bytes repositories and organizations hold and may hold, and count them again."
    return [deferred("quota", summary, "drift_quota.commands:quota")]
