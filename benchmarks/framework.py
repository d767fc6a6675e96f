"""What plugins cost a pull: Drift with 0, 1 and 10 features installed, in turn; `python -m benchmarks.framework`.

Each feature has a gate and a subscriber for pushes, and a route: none of it concerns a pull.
"""

import socket
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.process_tree import cpu_seconds
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server

COUNTS = (0, 1, 10)
ROUNDS = 9
REQUESTS = 6000

FEATURE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Extra:
    name = "{name}"
    gated = ("manifest.push", "blob.push")
    subscribed = ("manifest.push",)
    async def admit(self, change):
        pass
    async def on_event(self, event):
        pass
    def routes(self):
        from litestar import get
        @get("/{name}", sync_to_thread=False)
        def extra() -> None:
            pass
        return [extra]

@asynccontextmanager
async def open_extra(config, services):
    yield Extra()

@hookimpl
def drift_features():
    return [Driver("{name}", Config, open_extra)]
"""


@contextmanager
def served(folder: Path, features: int) -> Iterator[Server]:
    """Runs one worker with so many features."""
    installation = Installation(folder / "site")
    installation.folder.mkdir(parents=True)
    for number in range(features):
        name = f"extra{number}"
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": FEATURE.format(name=name)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        server = Server(folder / "server", "logging.level=warning", workers=1).start()
    try:
        yield server
    finally:
        server.stop()


def push(server: Server) -> list[str]:
    """Pushes a small image and returns the paths of a pull."""
    layer, manifest, url = unique_blob(1024), image(EMPTY_CONFIG), f"{server.url}/v2/app"
    for blob in (EMPTY_CONFIG, layer):
        httpx.post(f"{url}/blobs/uploads/?digest={blob.digest}", content=blob.content).raise_for_status()
    headers = {"content-type": manifest.media_type}
    httpx.put(f"{url}/manifests/v1", content=manifest.content, headers=headers).raise_for_status()
    return ["/v2/app/manifests/v1", f"/v2/app/manifests/{manifest.digest}", f"/v2/app/blobs/{layer.digest}"]


def pull(server: Server, paths: list[str], requests: int) -> float:
    """Sends so many requests on one connection and returns the CPU time of the server for each, in seconds."""
    assert server.process is not None
    before = cpu_seconds(server.process.pid)
    with socket.create_connection(("127.0.0.1", server.port)) as connection, connection.makefile("rb") as answers:
        for number in range(requests):
            connection.sendall(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
            assert b" 200 " in answers.readline()
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            assert len(answers.read(length)) == length
    return (cpu_seconds(server.process.pid) - before) / requests


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {count: stack.enter_context(served(Path(folder) / str(count), count)) for count in COUNTS}
        paths = {count: push(server) for count, server in servers.items()}
        for count, server in servers.items():
            pull(server, paths[count], REQUESTS)
        spent: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(ROUNDS):
            for count, server in servers.items():
                spent[count].append(pull(server, paths[count], REQUESTS))
    print("| Features | CPU per request, ratio to none (median of pairs) | Smallest and largest ratio |\n|---|---|---|")
    for count in COUNTS:
        ratios = sorted(mine / none for mine, none in zip(spent[count], spent[0], strict=True))
        print(f"| {count} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")


if __name__ == "__main__":
    main()
