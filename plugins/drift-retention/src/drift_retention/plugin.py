"""Offers the feature ``retention`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, deferred, hookimpl
from drift_retention.config import RetentionConfig


def open_driver(config: RetentionConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_retention.retention import open_retention

    return open_retention(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("retention", RetentionConfig, open_driver, "drift_retention.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift retention``."""
    summary = "Drop tags that no rule keeps, and see why one is kept."
    return [deferred("retention", summary, "drift_retention.commands:retention")]
