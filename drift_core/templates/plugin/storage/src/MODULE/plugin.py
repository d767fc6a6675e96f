"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import BlobStore, Driver, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the store; ``services.log`` already names this plugin."""
    from ${module}.store import open_store

    return open_store(config, services)


@hookimpl
def drift_storage() -> Iterable[Driver[BlobStore]]:
    """Offers the driver that ``[storage] type = "${name}"`` asks for."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
