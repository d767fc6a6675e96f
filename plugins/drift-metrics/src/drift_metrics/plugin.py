"""Offers the feature ``metrics`` and the command ``drift top``; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, deferred, hookimpl
from drift_metrics.config import MetricsConfig


def open_driver(config: MetricsConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_metrics.page import open_page

    return open_page(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("metrics", MetricsConfig, open_driver)]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift top``."""
    summary = "Show what a server does right now: requests, errors, durations, bytes, queues, storage and database."
    return [deferred("top", summary, "drift_metrics.commands:top")]
