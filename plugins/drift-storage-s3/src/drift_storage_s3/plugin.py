"""Offers the drivers ``s3`` and ``ghostbay``; imports nothing heavy until one of them is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial

from drift_core.api import BlobStore, Driver, Services, hookimpl
from drift_storage_s3.config import GhostBayConfig, S3Config


def open_s3(config: S3Config, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the store on a bucket of S3; the imports are here so that a plugin that is not chosen costs nothing."""
    from drift_storage_s3.s3 import S3Bucket
    from drift_storage_s3.store import open_store

    return open_store("s3", config, services, partial(S3Bucket, config))


def open_ghostbay(config: GhostBayConfig, services: Services) -> AbstractAsyncContextManager[BlobStore]:
    """Opens the store on a bucket of GhostBay; see `open_s3`."""
    from drift_storage_s3.ghostbay import GhostBayBucket
    from drift_storage_s3.store import open_store

    return open_store("ghostbay", config, services, partial(GhostBayBucket, config))


@hookimpl
def drift_storage() -> Iterable[Driver[BlobStore]]:
    """Offers both drivers, which share their tables."""
    return [
        Driver("s3", S3Config, open_s3, "drift_storage_s3.migrations"),
        Driver("ghostbay", GhostBayConfig, open_ghostbay, "drift_storage_s3.migrations"),
    ]
