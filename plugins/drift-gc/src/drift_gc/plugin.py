"""Offers the driver ``collector``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Collector, Driver, Services, hookimpl
from drift_gc.config import CollectorConfig


def open_driver(config: CollectorConfig, services: Services) -> AbstractAsyncContextManager[Collector]:
    """Opens the collector; the clients of metrics are imported here."""
    from drift_gc.collector import open_collector

    return open_collector(config, services)


@hookimpl
def drift_collectors() -> Iterable[Driver[Collector]]:
    """Offers the one driver of this plugin."""
    return [Driver("collector", CollectorConfig, open_driver)]
