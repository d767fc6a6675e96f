"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Transport, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Transport]:
    """Opens the driver; ``services.log`` already names this plugin."""
    from ${module}.driver import open_transport

    return open_transport(config, services)


@hookimpl
def drift_transports() -> Iterable[Driver[Transport]]:
    """Offers the driver ``${name}``: every transport that is installed serves."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
