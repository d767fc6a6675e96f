"""The registry as a Litestar application: the OCI suite under other ASGI servers, and within another application."""

import os
import re
import shlex
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
from tests.tools import ROOT

PROGRAMS = Path(sys.executable).parent
PATIENCE = 60.0
"""Seconds after which a server counts as not starting."""

PAGE = (ROOT / "docs/how-to/other-servers.md").read_text()
(MOUNTED,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)]
SERVERS = {command[0]: command for command in COMMANDS} | {"mounted": ["uvicorn", "mounted:app", "--port", "5000"]}
"""Every command of the page, by its program."""


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """Runs one of `SERVERS` and yields its host once the registry is ready."""
    (folder / "mounted.py").write_text(MOUNTED)
    port = str(free_port())
    program, *arguments = (part.replace("5000", port) for part in SERVERS[name])
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


def test_the_page_names_four_servers() -> None:
    assert {*SERVERS} == {"uvicorn", "hypercorn", "granian", "litestar", "mounted"}


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
