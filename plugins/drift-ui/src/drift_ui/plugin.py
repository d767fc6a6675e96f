"""Offers the feature ``ui``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Feature, Services, hookimpl
from drift_ui.config import UiConfig


def open_driver(config: UiConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_ui.ui import open_ui

    return open_ui(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("ui", UiConfig, open_driver, "drift_ui.migrations", site=True)]
