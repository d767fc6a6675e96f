"""Opens the layer as the core would, around a store of files, and around one on MinIO."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drift_storage_cached.config import CachedConfig
from drift_storage_cached.store import CachedStore, PassingStore, open_store
from drift_storage_fs import plugin as files

from drift_core.api import BlobStore, Digest
from drift_core.conformance import services
from tests.services.minio import Minio

OpenLayer = Callable[..., AbstractAsyncContextManager[CachedStore]]


@asynccontextmanager
async def open_files(folder: Path) -> AsyncIterator[BlobStore]:
    (driver,) = files.drift_storage()
    async with driver.open(driver.config(str(folder), fsync=False), services("storage-fs")) as store:
        yield store


@asynccontextmanager
async def layer(beneath: BlobStore | None, path: Path, *, serving: bool = True, **keys: Any) -> AsyncIterator[Any]:
    """Opens the layer around a store, as a worker would, or a command; ``keys`` are those of its table."""
    lent = msgspec.structs.replace(services("storage-cached", beneath=beneath), serving=serving)
    async with open_store(CachedConfig(path=str(path), **keys), lent) as store:
        yield store


async def settle(store: CachedStore) -> None:
    """Returns when no copy is being made any more."""
    while ending := [one.ended for one in store._fillings.values() if one.ended is not None]:
        await asyncio.wait(ending)


def copies(store: PassingStore) -> set[Digest]:
    """Returns of what there are copies."""
    places = Path(store.folder._blobs)
    return {Digest(f"{path.parts[-3]}:{path.name}") for path in places.glob("*/*/*")}


def half_made(store: PassingStore) -> list[Path]:
    return list((store.folder.root / "making").iterdir())


@pytest.fixture(scope="session")
def minio() -> Iterator[Minio]:
    """One server for all tests, each of which has a bucket of its own."""
    with Minio() as server:
        yield server


@pytest.fixture
def open_layer(tmp_path: Path) -> OpenLayer:
    """Returns a function that opens the layer once more, as another worker would; keys are those of its table."""

    @asynccontextmanager
    async def opened(beneath: BlobStore | None = None, **keys: Any) -> AsyncIterator[CachedStore]:
        async with open_files(tmp_path / "data") as own, layer(beneath or own, tmp_path / "cache", **keys) as store:
            yield store

    return opened


@pytest.fixture
async def store(open_layer: OpenLayer) -> AsyncIterator[CachedStore]:
    async with open_layer() as store:
        yield store
