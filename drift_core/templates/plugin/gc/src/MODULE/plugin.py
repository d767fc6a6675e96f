"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Collector, Driver, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Collector]:
    """Opens the driver; ``services.log`` already names this plugin."""
    from ${module}.collector import open_collector

    return open_collector(config, services)


@hookimpl
def drift_collectors() -> Iterable[Driver[Collector]]:
    """Offers the driver ``${name}``: ``[garbage_collector] enabled = true``."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
