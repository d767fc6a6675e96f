"""Offers the driver ``cached``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import BlobStore, Driver, Services, hookimpl
from drift_storage_cached.config import CachedConfig


def open_cached(config: CachedConfig, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the layer; the import is here so that a plugin that is not chosen costs nothing."""
    from drift_storage_cached.store import open_store

    return open_store(config, services)


@hookimpl
def drift_storage() -> Iterable[Driver[BlobStore]]:
    """Offers the one driver of this plugin."""
    return [Driver("cached", CachedConfig, open_cached, layer=True)]
