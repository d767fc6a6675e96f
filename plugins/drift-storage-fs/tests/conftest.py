"""Opens stores for the tests of this plugin, on both event loops."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.store import FilesystemStore, open_store

from drift_core.api import Services
from drift_core.conformance import lending

OpenStore = Callable[..., AbstractAsyncContextManager[FilesystemStore]]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def services() -> Services:
    return lending.services("storage-fs")


@pytest.fixture
def open_at(services: Services) -> OpenStore:
    """Returns a function that opens a store below a folder, as one more worker would."""

    def open_one(
        folder: Path, *, fsync: bool = True, writer_threads: int = 4
    ) -> AbstractAsyncContextManager[FilesystemStore]:
        return open_store(FilesystemConfig(str(folder), fsync, writer_threads), lending.apart(services))

    return open_one


@pytest.fixture
async def store(data: Path, open_at: OpenStore) -> AsyncIterator[FilesystemStore]:
    async with open_at(data) as store:
        yield store
