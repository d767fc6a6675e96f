"""Offers the feature ``webhooks`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, deferred, hookimpl
from drift_webhooks.config import WebhooksConfig


def open_driver(config: WebhooksConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_webhooks.webhooks import open_webhooks

    return open_webhooks(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("webhooks", WebhooksConfig, open_driver, "drift_webhooks.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift webhooks``."""
    summary = "Show whom the registry tells what is changed, and whom it could not tell."
    return [deferred("webhooks", summary, "drift_webhooks.commands:webhooks")]
