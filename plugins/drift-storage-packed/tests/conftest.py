"""Opens the layer around a store of files, as the core would, with tables of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from drift_storage_fs import plugin as files
from drift_storage_packed.config import PackedConfig
from drift_storage_packed.forms import Pass
from drift_storage_packed.packing import Packed
from drift_storage_packed.store import PackedStore, open_store

from drift_core.api import BlobStore, Digest, Records
from drift_core.conformance import open_records, services
from drift_core.conformance.suites.storage import push

OpenLayer = Callable[..., AbstractAsyncContextManager[PackedStore]]

AT_ONCE: dict[str, Any] = {"min_age_minutes": 0, "rate_mb_per_second": 0, "keep_original_minutes": 0}
"""Packs what was just pushed, and takes the original away at once."""


@asynccontextmanager
async def open_files(folder: Path) -> AsyncIterator[BlobStore]:
    (driver,) = files.drift_storage()
    async with driver.open(driver.config(str(folder), fsync=False), services("storage-fs")) as store:
        yield store


def layer(records: Records, beneath: BlobStore | None, **keys: Any) -> AbstractAsyncContextManager[PackedStore]:
    """Opens the layer around a store; ``keys`` are those of its table."""
    return open_store(PackedConfig(**keys), services("storage-packed", records=records, beneath=beneath))


async def pack(store: PackedStore) -> list[Packed]:
    """Looks through the store once."""
    return [one async for one in store.packer.run(Pass.new())]


async def packed(store: PackedStore, content: bytes) -> Digest:
    """Pushes a blob, and packs it; its original is then gone."""
    digest = (await push(store, content)).digest
    assert [(one.digest, one.outcome) for one in await pack(store) if one.digest == digest] == [(digest, "packed")]
    return digest


async def lying(store: PackedStore) -> set[Digest]:
    """Returns what really lies beneath."""
    return {blob.digest async for blob in store.beneath.scan()}


BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
"""For what rests on transactions: two at once, and every statement."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Returns what `open_records` takes; see the root's, which runs both each time."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("storage-packed", "drift_storage_packed.migrations", database_url) as records:
        yield records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_layer(records: Records, data: Path) -> OpenLayer:
    """Returns a function that opens the layer once more, as another worker would; keys are those of its table."""

    @asynccontextmanager
    async def opened(beneath: BlobStore | None = None, **keys: Any) -> AsyncIterator[PackedStore]:
        if beneath is not None:
            async with layer(records, beneath, **(AT_ONCE | keys)) as store:
                yield store
            return
        async with open_files(data) as own, layer(records, own, **(AT_ONCE | keys)) as store:
            yield store

    return opened


@pytest.fixture
async def store(open_layer: OpenLayer) -> AsyncIterator[PackedStore]:
    async with open_layer() as store:
        yield store
