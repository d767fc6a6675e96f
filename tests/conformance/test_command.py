"""`drift conformance`: an installed driver is proved without a test file."""

import json
from pathlib import Path

import pytest

from tests.plugins.installation import Installation

MEMORY = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    broken: bool = False

PLACES = []

@asynccontextmanager
async def open_memory(config, services):
    from drift_core.conformance.mutants.storage import LeavesItsProbe
    from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore
    if not PLACES:
        PLACES.append(MemoryPlace())
    yield (LeavesItsProbe if config.broken else MemoryStore)(PLACES[0])

@hookimpl
def drift_storage():
    return [Driver("memory", Config, open_memory)]
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path / "site")
    installation.add("acme-memory", {"memory": "acme_memory"}, {"acme_memory": MEMORY})
    return installation


def test_a_driver_that_keeps_every_rule(installation: Installation, tmp_path: Path) -> None:
    place = f"storage.path={tmp_path / 'data'}"
    shown = installation.drift("conformance", "storage:filesystem", "--set", place, "--mib", "1")
    assert shown.returncode == 0, shown.stdout
    assert "storage.uncommitted-is-invisible" in shown.stdout
    assert "SupportsRedirect is not claimed" in shown.stdout


def test_a_driver_that_breaks_one(installation: Installation) -> None:
    done = installation.drift(
        "conformance", "storage:memory", "--json", "-", "--set", "storage.memory.broken=true", "--mib", "1"
    )
    assert done.returncode == 1, done.stderr
    failed = [result for result in json.loads(done.stdout) if result["outcome"] == "fail"]
    assert [result["rule"] for result in failed] == ["storage.check"]
    assert failed[0]["sentence"] == "A store that works says so, and leaves nothing behind."


def test_a_store_with_blobs_is_left_alone(installation: Installation, tmp_path: Path) -> None:
    blob = tmp_path / "data/blobs/sha256/aa" / ("a" * 64)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"precious")
    done = installation.drift("conformance", "storage:filesystem", "--set", f"storage.path={tmp_path / 'data'}")
    assert done.returncode == 1
    assert "the store has blobs, which the suite would remove" in done.stderr
    assert blob.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["storage", "storge:filesystem", "features:x", ":"])
def test_what_has_no_suite_is_named(installation: Installation, name: str) -> None:
    done = installation.drift("conformance", name)
    assert done.returncode == 1
    assert "is not FAMILY:NAME; the families with a suite are storage" in done.stderr


def test_an_unknown_driver_is_named(installation: Installation) -> None:
    done = installation.drift("conformance", "storage:tape")
    assert done.returncode == 1
    assert "no installed plugin offers the storage driver 'tape'" in done.stderr
