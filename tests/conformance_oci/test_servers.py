"""The registry as a Litestar application: the OCI suite under other ASGI servers, and within another application."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conformance_oci.suite import check_every_test_passes
from tests.server import free_port

PROGRAMS = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds after which a server counts as not starting."""

MOUNTED = """
from contextlib import asynccontextmanager
from litestar import Litestar, asgi, get
from drift_core.api import create_app

registry = create_app()

@get("/", sync_to_thread=False)
def home() -> str:
    return "an application of its own"

@asynccontextmanager
async def lifespan(app):
    async with registry.lifespan():
        yield

app = Litestar([home, asgi("/", is_mount=True, copy_scope=True)(registry)], lifespan=[lifespan], openapi_config=None)
"""
SERVERS = {
    "uvicorn": ["uvicorn", "--factory", "drift_core.api:create_app", "--port", "{port}"],
    "hypercorn": ["hypercorn", "drift_core.api:create_app()", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", "--interface", "asgi", "--factory", "drift_core.api:create_app", "--port", "{port}"],
    "litestar": ["litestar", "--app", "drift_core.api:create_app", "run", "--port", "{port}"],
    "mounted": ["uvicorn", "mounted:app", "--port", "{port}"],
}


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """Runs one of `SERVERS` and yields its host once the registry is ready."""
    (folder / "mounted.py").write_text(MOUNTED)
    port = str(free_port())
    program, *arguments = (part.format(port=port) for part in SERVERS[name])
    settings = {
        "DRIFT_STORAGE__PATH": str(folder / "data"),
        "DRIFT_AUTH__MODE": "none",
        "DRIFT_REGISTRY__SPARSE_MANIFESTS": "true",
        "PYTHONPATH": str(folder),
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PROGRAMS / program), *arguments],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not _ready(f"http://127.0.0.1:{port}/readyz"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", SERVERS)
def test_every_test_of_the_suite_passes_under(name: str, tmp_path: Path) -> None:
    with serving(name, tmp_path) as host:
        check_every_test_passes("dev", host, tmp_path)
        if name == "mounted":
            assert httpx.get(f"http://{host}/").text == "an application of its own"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_it_is_not_served_to_everybody_by_accident(tmp_path: Path) -> None:
    program = "from drift_core.api import create_app; create_app({'storage': {'path': 'data'}})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert 'auth: is missing; configure it, or write auth.mode = "none"' in done.stderr
    assert not (tmp_path / "data").exists()
