"""The kit's rules, on two different servers that speak S3 and on both databases, and those of every plugin."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from drift_storage_s3 import plugin
from drift_storage_s3.config import S3Config

from drift_core.api import BlobStore, Driver, Services
from drift_core.conformance import FaultProxy, PluginSuite, StorageSuite, open_records, services
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.storage import Faulty, Reopen, push, read
from tests.services.minio import Minio
from tests.services.versitygw import VersityGateway

from .opening import MIB, config_of, opened


class TestMinio(StorageSuite):
    """With records in SQLite."""

    large = 64 * MIB
    sequences = 6

    @pytest.fixture
    def reopen(self, minio: Minio, tmp_path: Path) -> Reopen:
        return partial(opened, config_of(minio), f"sqlite:///{tmp_path / 'drift.db'}")

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        async with reopen() as store:
            yield store

    @pytest.fixture
    async def faulty(self, minio: Minio) -> AsyncIterator[Faulty]:  # type: ignore[override]
        async with FaultProxy("127.0.0.1", minio.port) as proxy:
            config = config_of(minio, endpoint=f"http://{proxy.address}", retry_seconds=1.0)
            async with opened(config, None) as store:
                yield store, proxy


@pytest.mark.soak
class TestVersityGateway(StorageSuite):
    """With records in PostgreSQL; the short form is the suite on MinIO, which takes as long."""

    large = 64 * MIB
    sequences = 3

    @pytest.fixture
    def reopen(self, versitygw: VersityGateway, postgresql_url: str) -> Reopen:
        return partial(opened, config_of(versitygw), postgresql_url)

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        async with reopen() as store:
            yield store

    @pytest.fixture
    async def faulty(self, versitygw: VersityGateway) -> AsyncIterator[Faulty]:  # type: ignore[override]
        async with FaultProxy("127.0.0.1", versitygw.port) as proxy:
            config = config_of(versitygw, endpoint=f"http://{proxy.address}", retry_seconds=1.0)
            async with opened(config, None) as store:
                yield store, proxy


class TestPlugin(PluginSuite):
    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        return next(driver for driver in plugin.drift_storage() if driver.name == "s3")

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("storage-s3", "drift_storage_s3.migrations") as records:
            yield services("storage-s3", records=records)

    @pytest.fixture
    def configs(self, minio: Minio) -> tuple[S3Config, S3Config]:
        return config_of(minio), config_of(minio, prefix="registry/", redirect=True)

    @pytest.fixture
    def unreachable(self, minio: Minio) -> tuple[S3Config, str]:
        return config_of(minio, "no-bucket", endpoint="http://127.0.0.1:9"), "http://127.0.0.1:9"

    @pytest.fixture
    def use(self) -> Use:
        async def push_and_read(store: BlobStore) -> None:
            content = bytes(12 * MIB)
            assert await read(store, (await push(store, content)).digest) == content

        return push_and_read
