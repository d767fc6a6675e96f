"""Offers the feature ``scrub`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import Driver, Feature, Services, deferred, hookimpl
from drift_scrub.config import ScrubConfig


def open_driver(config: ScrubConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_scrub.scrub import open_scrub

    return open_scrub(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("scrub", ScrubConfig, open_driver, "drift_scrub.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift scrub``."""
    return [deferred("scrub", "Read what is stored again, and find what is damaged.", "drift_scrub.commands:scrub")]
