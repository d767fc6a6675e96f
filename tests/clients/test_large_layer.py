"""Checks that a layer of 1 GiB goes through the registry unchanged, and through little memory."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.couriers import COURIERS, pull, push
from tests.clients.image_layout import MIB, ImageLayout
from tests.clients.programs import Programs
from tests.server import Server

SIZE = int(os.environ.get("DRIFT_LARGE_LAYER_MIB", "1024")) * MIB
ALLOWED_GROWTH = 200 * MIB
RING = tuple(zip(COURIERS, COURIERS[1:] + COURIERS[:1], strict=True))


def tree(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def peak_memory(pid: int) -> int:
    """Returns the most memory that one process ever had resident, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no VmHWM")


def peaks(server: Server) -> dict[int, int]:
    """Returns by process id the peak memory of every process of a server."""
    assert server.process is not None
    return {pid: peak_memory(pid) for pid in tree(server.process.pid)}


def digest_of_file(path: Path) -> str:
    """Returns the sha256 digest of a file without loading it."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageLayout]:
    """A layout whose tag `v1` is an image with one layer that is large and does not compress."""
    layout = ImageLayout(tmp_path_factory.mktemp("large") / "layout")
    layout.tag(layout.add_image(seed=31, layers=1, layer_size=SIZE, compression="stored"))
    yield layout
    shutil.rmtree(layout.folder)


@pytest.mark.parametrize(("pusher", "puller"), RING)
def test_a_layer_of_one_gib(
    run: Programs, large: ImageLayout, image: ImageLayout, pusher: str, puller: str, tmp_path: Path
) -> None:
    """What one client pushes another pulls unchanged, while the server's processes stay small."""
    (layer,) = json.loads(large.read(large.root()))["layers"]
    assert layer["size"] > SIZE
    received = ImageLayout(tmp_path / "received")
    with Server(tmp_path / "registry", "registry.max_upload_size_mb=4096") as server:
        push(run, pusher, image.folder, f"{server.host}/large:warm")
        pull(run, puller, f"{server.host}/large:warm", tmp_path / "warm")
        before = peaks(server)
        push(run, pusher, large.folder, f"{server.host}/large:v1")
        pull(run, puller, f"{server.host}/large:v1", received.folder)
        after = peaks(server)
        assert before.keys() == after.keys(), f"a process of the server ended:\n{server.log.read_text()[-4000:]}"
    shutil.rmtree(server.folder)
    assert digest_of_file(received.path(layer["digest"])) == layer["digest"]
    assert received.read(large.root()) == large.read(large.root())
    shutil.rmtree(received.folder)
    shutil.rmtree(run.home)
    growth = sum(after.values()) - sum(before.values())
    assert growth < ALLOWED_GROWTH, f"the server grew by {growth // MIB} MiB: {before} became {after}"
