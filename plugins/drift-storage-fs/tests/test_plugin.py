"""What the core sees of the plugin before it opens anything."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest
from drift_storage_fs import plugin
from drift_storage_fs.config import FilesystemConfig

from drift_core.api import BlobStore, Services, SupportsLocalPath
from drift_core.conformance import lending


def test_entry_point() -> None:
    """The distribution names its plugin."""
    (point,) = [point for point in entry_points(group="drift.plugins") if point.name == "storage-fs"]
    assert point.load() is plugin


def test_import_is_cheap() -> None:
    """Importing the plugin imports nothing of the driver."""
    program = (
        "import sys, drift_storage_fs.plugin; print(*sorted(m for m in sys.modules if m.startswith('drift_storage')))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["drift_storage_fs", "drift_storage_fs.config", "drift_storage_fs.plugin"]


def test_config() -> None:
    """The Struct takes its documented keys, refuses others, and bounds the threads."""
    assert msgspec.convert({}, FilesystemConfig) == FilesystemConfig("./data", fsync=True, writer_threads=4)
    full = FilesystemConfig("/x", fsync=False, writer_threads=1)
    assert msgspec.convert(msgspec.to_builtins(full), FilesystemConfig) == full
    for bad in ({"pfad": "x"}, {"path": ""}, {"writer_threads": 0}, {"writer_threads": 65}, {"fsync": "yes"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, FilesystemConfig)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_driver(tmp_path: Path, services: Services) -> None:
    """The one driver opens twice, with two configurations, and each is a store of its own."""
    (driver,) = plugin.drift_storage()
    assert driver.name == "filesystem"
    assert driver.config is FilesystemConfig
    one, two = (FilesystemConfig(str(tmp_path / name)) for name in ("one", "two"))
    async with driver.open(one, services) as first, driver.open(two, lending.apart(services)) as second:
        for store in (first, second):
            assert isinstance(store, BlobStore)
            assert isinstance(store, SupportsLocalPath)
            await store.check()
        upload = await first.begin()
        await second.abort(upload)
        assert await first.received(upload) == 0
