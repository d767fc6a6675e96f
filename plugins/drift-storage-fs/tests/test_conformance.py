"""The kit's rules, on files, and those of every plugin."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from drift_storage_fs import plugin
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.store import open_store

from drift_core.api import BlobStore
from drift_core.conformance import ModuleSuite, StorageSuite, services
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.storage import Reopen, push, read


def opened(folder: str) -> AbstractAsyncContextManager[BlobStore]:
    """Opens a store as one more worker does, which measures for itself."""
    return open_store(FilesystemConfig(folder), services())


class TestFilesystem(StorageSuite):
    """On both event loops."""

    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:  # type: ignore[override]
        return "asyncio", {"use_uvloop": request.param}

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(opened, str(tmp_path))

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self, tmp_path: Path) -> tuple[FilesystemConfig, FilesystemConfig]:
        one, two = (str(tmp_path / name) for name in ("one", "two"))
        return FilesystemConfig(one), FilesystemConfig(two, fsync=False, writer_threads=1)

    @pytest.fixture
    def use(self) -> Use:
        async def push_and_read(store: BlobStore) -> None:
            content = bytes(3 << 20)
            assert await read(store, (await push(store, content)).digest) == content

        return push_and_read
