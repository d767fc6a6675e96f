"""Drift and its peers, each started on a free port with a folder of its own, quiet logs and durable writes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, json

ROOT = Path(__file__).parent.parent
READY_SECONDS = 120.0


class Running(Struct):
    """A server that answers; ``seconds`` is how long it took until then."""

    name: str
    process: int
    port: int
    folder: Path
    seconds: float

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"


Command = Callable[[Path, int], list[str]]
"""Returns how to start a server on a folder and a port."""


def free_port() -> int:
    """Returns a port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drift(folder: Path, port: int, *more: str) -> list[str]:
    """Returns the command of Drift, with one worker for each core; ``more`` settings come last."""
    settings = (
        f"server.bind_addr=127.0.0.1:{port}",
        f"server.ui_addr=127.0.0.1:{free_port()}",
        f"storage.path={folder / 'data'}",
        "registry.max_upload_size_mb=20000",
        "logging.level=warning",
        *more,
    )
    program = Path(sys.executable).parent / "drift"
    return [str(program), "serve", *(part for setting in settings for part in ("--set", setting))]


def distribution(folder: Path, port: int, storage: str = "") -> list[str]:
    """Returns the command of distribution; ``storage`` is another one than its folder, as a line of YAML."""
    configuration = f"""
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  {storage or f"filesystem: {{rootdirectory: {folder / 'data'}}}"}
  delete: {{enabled: true}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: "127.0.0.1:{port}"}}
"""
    (folder / "config.yml").write_text(configuration)
    return [peer(PROGRAMS["distribution"]), "serve", str(folder / "config.yml")]


def zot(folder: Path, port: int) -> list[str]:
    """Returns the command of zot."""
    configuration = {
        "storage": {"rootDirectory": str(folder / "data"), "commit": True, "gc": False, "dedupe": True},
        "http": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "error"},
    }
    (folder / "config.json").write_bytes(json.encode(configuration))
    return [peer(PROGRAMS["zot"]), "serve", str(folder / "config.json")]


PROGRAMS = {"distribution": "registry", "zot": "zot-minimal"}
"""The peers, and the names of their programs."""

SERVERS: dict[str, Command] = {"drift": drift, "distribution": distribution, "zot": zot}
"""In the order in which they take their turns."""


def peer(program: str) -> str:
    """Returns the path of a peer's program; raises FileNotFoundError where there is none."""
    found = shutil.which(program, path=os.environ.get("REGISTRY_PEERS", "") + os.pathsep + os.environ["PATH"])
    if found is None:
        message = f"{program}: build it, and name its folder in REGISTRY_PEERS"
        raise FileNotFoundError(message)
    return found


@contextmanager
def running(name: str, folder: Path, command: Command | None = None) -> Iterator[Running]:
    """Runs a server, by its own command or the one of `SERVERS`, until the end of the block; `/v2/` then answers."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    arguments = (command or SERVERS[name])(folder, port)
    with (folder / "log").open("ab") as log:
        began = time.monotonic()
        process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                raise RuntimeError(f"{name} does not answer:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield Running(name, process.pid, port, folder, time.monotonic() - began)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
