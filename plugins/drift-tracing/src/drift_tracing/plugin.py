"""Offers the feature ``tracing``; OpenTelemetry is imported when it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Feature, Services, hookimpl
from drift_tracing.config import TracingConfig


def open_driver(config: TracingConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_tracing.exporting import open_tracing

    return open_tracing(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one driver of this plugin."""
    return [Driver("tracing", TracingConfig, open_driver)]
