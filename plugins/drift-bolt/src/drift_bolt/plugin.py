"""Offers the feature ``bolt`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_bolt.config import BoltConfig
from drift_core.api import Driver, Feature, Services, deferred, hookimpl


def open_driver(config: BoltConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_bolt.bolt import open_bolt

    return open_bolt(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("bolt", BoltConfig, open_driver, "drift_bolt.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift bolt``."""
    summary = "Show profiles and plugins of Bolt, and run images with a profile."
    return [deferred("bolt", summary, "drift_bolt.commands:bolt")]
