"""Offers the driver ``packed`` and its commands; imports nothing heavy until one of them is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import click

from drift_core.api import BlobStore, Driver, Services, deferred, hookimpl
from drift_storage_packed.config import PackedConfig


def open_packed(config: PackedConfig, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the layer; the import is here so that a plugin that is not chosen costs nothing."""
    from drift_storage_packed.store import open_store

    return open_store(config, services)


@hookimpl
def drift_storage() -> Iterable[Driver[BlobStore]]:
    """Offers the one driver of this plugin."""
    return [Driver("packed", PackedConfig, open_packed, "drift_storage_packed.migrations", layer=True)]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift packed``."""
    summary = "Keep what is stored packed, and see what that gains."
    return [deferred("packed", summary, "drift_storage_packed.commands:packed")]
