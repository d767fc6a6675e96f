"""Opens the store as a node would, on a bucket of a server that the tests have started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from drift_storage_s3.config import S3Config
from drift_storage_s3.plugin import open_s3
from drift_storage_s3.store import ObjectStore

from drift_core.api import Secret
from drift_core.conformance import open_records, services
from tests.services.object_service import ObjectService

MIB = 1 << 20


def config_of(server: ObjectService, bucket: str | None = None, **more: Any) -> S3Config:
    """Returns the configuration of a bucket, by default a new one, whose parts are as small as may be."""
    return S3Config(
        **{
            "endpoint": server.endpoint,
            "bucket": bucket or server.new_bucket(),
            "access_key": Secret(server.access_key),
            "secret_key": Secret(server.secret_key),
            "part_size_mb": 5,
            "timeout_seconds": 5.0,
            "retry_seconds": 4.0,
            **more,
        }
    )


@asynccontextmanager
async def opened(config: S3Config, url: str | None) -> AsyncIterator[ObjectStore]:
    """Opens the store on a database, as one more node would; ``url`` None is one of its own."""
    async with (
        open_records("storage-s3", "drift_storage_s3.migrations", url) as records,
        open_s3(config, services("storage-s3", records=records)) as store,
    ):
        assert isinstance(store, ObjectStore)
        yield store
