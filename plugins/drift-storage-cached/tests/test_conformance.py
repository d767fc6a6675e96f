"""The kit's rules around files and around MinIO, where each whole read leaves a copy, and those of every plugin."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from drift_storage_cached import plugin
from drift_storage_cached.config import CachedConfig
from drift_storage_cached.store import CachedStore
from drift_storage_s3.config import S3Config
from drift_storage_s3.plugin import open_s3

from drift_core.api import BlobStore, Digest, Secret, Services
from drift_core.conformance import FaultProxy, ModuleSuite, StorageSuite, open_memory_store, open_records, services
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.storage import Faulty, Reopen, push, read
from tests.services.minio import Minio

from .conftest import copies, layer, open_files, settle

MIB = 1 << 20


def at_once(store: CachedStore) -> CachedStore:
    """Returns the same store, whose copies are there as soon as a read has ended, which the kit cannot wait for."""
    inner = store.read

    async def read_and_settle(digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in inner(digest, start, stop):
            yield chunk
        await settle(store)

    store.read = read_and_settle  # type: ignore[method-assign]
    return store


@asynccontextmanager
async def around_files(folder: Path) -> AsyncIterator[BlobStore]:
    async with open_files(folder / "data") as beneath, layer(beneath, folder / "cache") as store:
        yield at_once(store)


@asynccontextmanager
async def around_s3(config: S3Config, url: str | None, folder: Path) -> AsyncIterator[BlobStore]:
    async with (
        open_records("storage-s3", "drift_storage_s3.migrations", url) as records,
        open_s3(config, services("storage-s3", records=records)) as beneath,
        layer(beneath, folder) as store,
    ):
        yield at_once(store)


def bucket_of(minio: Minio, **more: Any) -> S3Config:
    keys = {"access_key": Secret(minio.access_key), "secret_key": Secret(minio.secret_key)}
    own = {"endpoint": minio.endpoint, "part_size_mb": 5, "timeout_seconds": 5.0, "retry_seconds": 4.0}
    return S3Config(**{"bucket": minio.new_bucket(), **keys, **own, **more})


class TestFiles(StorageSuite):
    """Around files, and where an endpoint fails around MinIO: short enough for every run."""

    large = 16 * MIB
    sequences = 4

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(around_files, tmp_path)

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store

    @pytest.fixture
    async def faulty(self, minio: Minio, tmp_path: Path) -> AsyncIterator[Faulty]:  # type: ignore[override]
        async with FaultProxy("127.0.0.1", minio.port) as proxy:
            config = bucket_of(minio, endpoint=f"http://{proxy.address}", retry_seconds=1.0)
            async with around_s3(config, None, tmp_path / "cache") as store:
                yield store, proxy


@pytest.mark.soak
class TestMinio(TestFiles):
    """Around the store that the layer is made for, in all."""

    large = 64 * MIB
    sequences = 6

    @pytest.fixture
    def reopen(self, minio: Minio, tmp_path: Path) -> Reopen:
        return partial(around_s3, bucket_of(minio), f"sqlite:///{tmp_path / 'drift.db'}", tmp_path / "cache")

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:  # type: ignore[override]
        async with reopen() as store:
            yield store


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_memory_store() as beneath:
            yield services("storage-cached", beneath=beneath)

    @pytest.fixture
    def configs(self, tmp_path: Path) -> tuple[CachedConfig, CachedConfig]:
        return (
            CachedConfig(path=str(tmp_path / "one")),
            CachedConfig(path=str(tmp_path / "two"), max_gb=0.5, max_blob_mb=0),
        )

    @pytest.fixture
    def use(self) -> Use:
        async def read_twice(store: CachedStore) -> None:
            content = bytes(range(100)) * 30_000
            digest = (await push(store, content)).digest
            assert await read(store, digest) == content
            await settle(store)
            assert copies(store) == {digest}
            assert await read(store, digest, 5, 2_000_000) == content[5:2_000_000]
            await store.delete(digest)
            assert not copies(store)

        return read_twice
