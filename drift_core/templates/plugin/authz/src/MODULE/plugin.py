"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Authorizer, Driver, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Authorizer]:
    """Opens the driver; ``services.log`` already names this plugin."""
    from ${module}.authorizer import open_authorizer

    return open_authorizer(config, services)


@hookimpl
def drift_authz() -> Iterable[Driver[Authorizer]]:
    """Offers the driver ``${name}``: ``[auth] policies = ["${name}"]``."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
