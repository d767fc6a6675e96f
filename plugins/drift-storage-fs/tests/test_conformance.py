"""The filesystem store keeps the rules of every store."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from drift_core.api import BlobStore
from drift_core.conformance import StorageSuite
from drift_core.conformance.suites.storage import Reopen


class TestFilesystem(StorageSuite):
    @pytest.fixture
    def reopen(self, data: Path, open_at: Callable[[Path], AbstractAsyncContextManager[BlobStore]]) -> Reopen:
        return lambda: open_at(data)

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store
