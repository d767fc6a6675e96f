"""The kit's rules, with blobs that are packed between any two calls, and those of every plugin."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from drift_storage_fs import plugin as files
from drift_storage_packed import plugin
from drift_storage_packed.config import PackedConfig
from drift_storage_packed.forms import Pass
from drift_storage_packed.store import PackedStore

from drift_core.api import BlobStat, BlobStore, Digest, Records, Services, StoreLayer, SupportsLocalPath, UploadId
from drift_core.conformance import MemoryPlace, ModuleSuite, StorageSuite, open_memory_store, open_records, services
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.storage import MIB, Reopen, read

from .conftest import AT_ONCE, OpenLayer, layer, lying, open_files, packed

EVERYTHING: dict[str, Any] = AT_ONCE | {"min_size": 0, "min_gain": -1e6, "frame_kib": 64}
"""Packs what gains nothing, too: the contents of the kit do not compress."""


class Busy(StoreLayer):
    """A store in which everything is packed before the call that follows a commit; two of them are two packers."""

    def __init__(self, store: PackedStore) -> None:
        super().__init__(services("busy", beneath=store))
        self._packer = store.packer
        self._packed = False

    async def pack(self) -> None:
        if not self._packed:
            self._packed = True
            async for _ in self._packer.run(Pass.new()):
                pass

    async def stat(self, digest: Digest) -> BlobStat:
        await self.pack()
        return await self.beneath.stat(digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        await self.pack()
        async for chunk in self.beneath.read(digest, start, stop):
            yield chunk

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        try:
            return await self.beneath.commit(upload, digest)
        finally:
            self._packed = False

    async def delete(self, digest: Digest) -> None:
        await self.pack()
        await self.beneath.delete(digest)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        await self.pack()
        async for blob in self.beneath.scan(after):
            yield blob


class BusyWithPath(Busy):
    def local_path(self, digest: Digest) -> str:
        assert isinstance(self.beneath, SupportsLocalPath)
        return self.beneath.local_path(digest)


class Reopened:
    """Opens the layer; in another process, which has no such database, what lies beneath: there it only uploads."""

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[BlobStore]], elsewhere: Any) -> None:
        self._opened = opened
        self._elsewhere = elsewhere

    def __call__(self) -> AbstractAsyncContextManager[BlobStore]:
        return self._opened()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, self._elsewhere


@pytest.fixture
async def one_records() -> AsyncIterator[Records]:
    async with open_records("storage-packed", "drift_storage_packed.migrations") as records:
        yield records


@pytest.mark.soak
class TestIdleFiles(StorageSuite):
    """Around files, while nothing is packed: with each power that they have."""

    large = 64 * MIB
    sequences = 4

    @asynccontextmanager
    async def layered(self, folder: Path, records: Records) -> AsyncIterator[BlobStore]:
        async with open_files(folder) as beneath, layer(records, beneath) as store:
            yield store

    @pytest.fixture
    def reopen(self, tmp_path: Path, one_records: Records) -> Reopen:
        (driver,) = files.drift_storage()
        elsewhere = (driver.open, driver.config(str(tmp_path)), services("storage-fs"))
        return Reopened(partial(self.layered, tmp_path, one_records), elsewhere)

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store


class TestPackedFiles(TestIdleFiles):
    """Around files, with a packer at work between any two calls."""

    @asynccontextmanager
    async def layered(self, folder: Path, records: Records) -> AsyncIterator[BlobStore]:
        async with open_files(folder) as beneath, layer(records, beneath, **EVERYTHING) as store:
            yield BusyWithPath(store)

    @pytest.mark.xfail(reason="of what is packed there is no file", strict=True)
    async def test_local_path(self, store: BlobStore) -> None:
        await super().test_local_path(store)


class TestIdleMemory(StorageSuite):
    """Around the reference, while nothing is packed: short enough for every run."""

    large = 8 * MIB
    sequences = 20

    @asynccontextmanager
    async def layered(self, place: MemoryPlace, records: Records) -> AsyncIterator[BlobStore]:
        async with open_memory_store(place) as beneath, layer(records, beneath) as store:
            yield store

    @pytest.mark.xfail(reason="what is in memory ends with its process", strict=True)
    async def test_kill_between_append_and_commit(self, store: BlobStore, reopen: Reopen) -> None:
        await super().test_kill_between_append_and_commit(store, reopen)

    @pytest.fixture
    def reopen(self, one_records: Records) -> Reopen:
        return partial(self.layered, MemoryPlace(), one_records)

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        async with reopen() as store:
            yield store


@pytest.mark.soak
class TestPackedMemory(TestIdleMemory):
    """Around the reference, with a packer at work between any two calls."""

    sequences = 100

    @asynccontextmanager
    async def layered(self, place: MemoryPlace, records: Records) -> AsyncIterator[BlobStore]:
        async with open_memory_store(place) as beneath, layer(records, beneath, **EVERYTHING) as store:
            yield Busy(store)


async def test_the_kit_meets_packed_blobs(open_layer: OpenLayer) -> None:
    """What the suites above rely on: a call finds everything packed that was there before."""
    async with open_layer(**EVERYTHING) as store:
        digest = await packed(store, b"x")
        assert digest not in await lying(store)
        assert await read(store, digest) == b"x"
        await asyncio.sleep(0)


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self, one_records: Records) -> AsyncIterator[Services]:  # type: ignore[override]
        # Without threads of its own, which a driver would seem to have left.
        async with open_memory_store() as beneath:
            yield services("storage-packed", records=one_records, beneath=beneath)

    @pytest.fixture
    def configs(self) -> tuple[PackedConfig, PackedConfig]:
        other = PackedConfig(pack=False, algorithm="brotli", level=11, frame_kib=64, min_gain=0.5, interval_minutes=1.5)
        return PackedConfig(**AT_ONCE), other

    @pytest.fixture
    def use(self) -> Use:
        async def pack_and_read(store: PackedStore) -> None:
            content = bytes(range(100)) * 20_000
            if not store.packer.config.min_age_minutes:
                digest = await packed(store, content)
                assert await read(store, digest, 5, 1_500_000) == content[5:1_500_000]
                await store.delete(digest)

        return pack_and_read
