"""The kit's rules, on files."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.store import open_store

from drift_core.api import BlobStore
from drift_core.conformance import StorageSuite, services
from drift_core.conformance.suites.storage import Reopen


class TestFilesystem(StorageSuite):
    """On both event loops."""

    @pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:  # type: ignore[override]
        return "asyncio", {"use_uvloop": request.param}

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(open_store, FilesystemConfig(str(tmp_path)), services())

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store
