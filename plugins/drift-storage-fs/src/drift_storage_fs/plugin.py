"""Offers the driver ``filesystem``; imports nothing heavy until it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import BlobStore, Driver, Services, hookimpl
from drift_storage_fs.config import FilesystemConfig


def open_filesystem(config: FilesystemConfig, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the store; the import is here so that a plugin that is not chosen costs nothing."""
    from drift_storage_fs.store import open_store

    return open_store(config, services)


@hookimpl
def drift_storage() -> Iterable[Driver[BlobStore]]:
    """Offers the one driver of this plugin."""
    return [Driver("filesystem", FilesystemConfig, open_filesystem)]
