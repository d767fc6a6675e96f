"""The kit's rules, on the stand-in of GhostBay as a process of its own, and those of every plugin."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import urllib3
from drift_storage_s3 import plugin
from drift_storage_s3.config import GhostBayConfig
from drift_storage_s3.plugin import open_ghostbay

from drift_core.api import BlobStore, Driver, Services
from drift_core.conformance import FaultProxy, PluginSuite, StorageSuite, open_records, services
from drift_core.conformance.suites.plugin import Use
from drift_core.conformance.suites.storage import Faulty, Reopen, push, read
from tests.services.service import Service

from . import ghostbay_server

MIB = 1 << 20


class GhostBay(Service):
    """A stand-in of a GhostBay server."""

    name = "ghostbay"

    @property
    def endpoint(self) -> str:
        """As a URL."""
        return f"http://{self.address}"

    def command(self) -> list[str]:
        return [sys.executable, ghostbay_server.__file__, str(self.data), str(self.port)]

    def answers(self) -> bool:
        try:
            return urllib3.request("GET", f"{self.endpoint}/health", retries=False, timeout=5).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def config(self) -> GhostBayConfig:
        """Returns a configuration with a bucket of its own, whose parts are small."""
        bucket = f"bucket-{uuid4().hex[:12]}"
        return GhostBayConfig(
            endpoint=self.endpoint, bucket=bucket, part_size_mb=5, timeout_seconds=5.0, retry_seconds=4.0
        )


@pytest.fixture(scope="module")
def ghostbay() -> Iterator[GhostBay]:
    with GhostBay() as server:
        yield server


@asynccontextmanager
async def reopened(config: GhostBayConfig, url: str) -> AsyncIterator[BlobStore]:
    """Opens the store on a database, as one more node would."""
    async with (
        open_records("storage-s3", "drift_storage_s3.migrations", url) as records,
        open_ghostbay(config, services("storage-s3", records=records)) as store,
    ):
        yield store


class TestGhostBay(StorageSuite):
    large = 48 * MIB
    sequences = 8

    @pytest.fixture
    def reopen(self, ghostbay: GhostBay, tmp_path: Path) -> Reopen:
        return partial(reopened, ghostbay.config(), f"sqlite:///{tmp_path / 'drift.db'}")

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        async with reopen() as store:
            yield store

    @pytest.fixture
    async def faulty(self, ghostbay: GhostBay, tmp_path: Path) -> AsyncIterator[Faulty]:  # type: ignore[override]
        async with FaultProxy("127.0.0.1", ghostbay.port) as proxy:
            config = msgspec.structs.replace(ghostbay.config(), endpoint=f"http://{proxy.address}", retry_seconds=1.0)
            async with reopened(config, f"sqlite:///{tmp_path / 'drift.db'}") as store:
                yield store, proxy


class TestPlugin(PluginSuite):
    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        return next(driver for driver in plugin.drift_storage() if driver.name == "ghostbay")

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("storage-s3", "drift_storage_s3.migrations") as records:
            yield services("storage-s3", records=records)

    @pytest.fixture
    def configs(self, ghostbay: GhostBay) -> tuple[GhostBayConfig, GhostBayConfig]:
        return ghostbay.config(), ghostbay.config()

    @pytest.fixture
    def unreachable(self) -> tuple[GhostBayConfig, str]:
        return GhostBayConfig(endpoint="http://127.0.0.1:9"), "http://127.0.0.1:9"

    @pytest.fixture
    def use(self) -> Use:
        async def push_and_read(store: BlobStore) -> None:
            content = bytes(12 * MIB)
            assert await read(store, (await push(store, content)).digest) == content

        return push_and_read
