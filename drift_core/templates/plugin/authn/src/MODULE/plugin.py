"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Authenticator, Driver, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Authenticator]:
    """Opens the driver; ``services.log`` already names this plugin."""
    from ${module}.authenticator import open_authenticator

    return open_authenticator(config, services)


@hookimpl
def drift_authn() -> Iterable[Driver[Authenticator]]:
    """Offers the driver ``${name}``: ``[auth] mode = "${name}"``."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
