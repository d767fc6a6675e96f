"""Servers that a test may ruin, and small file systems to fill."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.inspection import PATIENCE
from tests.server import Server
from tests.tools import unavailable

Serve = Callable[..., Server]
SmallDisk = Callable[[str], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mounts file systems of a given size, such as ``16m``, and returns where."""
    if os.geteuid() != 0:
        unavailable("only root can mount a small tmpfs")
    with ExitStack() as mounted:

        def mount(size: str) -> Path:
            folder = tmp_path / f"disk-{size}"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                unavailable(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield mount


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts servers, two workers each, of which nothing is left after the test whatever it did to them."""
    servers: list[Server] = []

    def start(*settings: str, workers: int = 2) -> Server:
        server = Server(tmp_path / f"server{len(servers)}", *settings, workers=workers)
        servers.append(server)
        return server.start(PATIENCE)

    yield start
    for server in servers:
        if server.process is not None:
            server.kill()
