"""What plugins and the core measure, read by a throw-away plugin that serves it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.oci.content import unique_blob
from tests.plugins.installation import Installation
from tests.server import Server, free_port

SHOW = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Show:
    name = "show"
    def __init__(self, services):
        self.services = services
    def routes(self):
        from litestar import get
        from prometheus_client import generate_latest
        @get("/measured", sync_to_thread=False)
        def measured() -> bytes:
            return generate_latest(self.services.all_metrics)
        return [measured]

@asynccontextmanager
async def open_show(config, services):
    yield Show(services)

@hookimpl
def drift_features():
    return [Driver("show", Config, open_show)]
"""
MEASURED = """
import asyncio
from contextlib import asynccontextmanager
from drift_core.api import Denied, Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Broken:
    def describe(self):
        return []
    def collect(self):
        raise RuntimeError("no reading")

class Measured:
    name = "measured"
    gated = ("blob.push",)
    subscribed = ("blob.push",)
    async def admit(self, change):
        if change.repository == "refused":
            raise Denied("no")
        if change.repository == "failing":
            raise asyncio.CancelledError
        if change.repository == "ending":
            raise SystemExit(3)
    async def on_event(self, event):
        if event.repository == "lost":
            raise asyncio.CancelledError
        if event.repository == "gone":
            raise SystemExit(3)

@asynccontextmanager
async def open_measured(config, services):
    from prometheus_client import Counter
    Counter("tape_starts", "How often the tape started.", registry=services.metrics).inc()
    assert services.metrics.get_sample_value("tape_starts_total") == 1
    services.metrics.register(Broken())
    yield Measured()

@hookimpl
def drift_features():
    return [Driver("measured", Config, open_measured)]
"""


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    installation = Installation(tmp_path / "site")
    installation.add("acme-measured", {"measured": "acme_measured"}, {"acme_measured": MEASURED})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    return installation


@pytest.fixture
def server(installation: Installation, tmp_path: Path) -> Iterator[Server]:
    installation.add("acme-show", {"show": "acme_show"}, {"acme_show": SHOW})
    with Server(tmp_path / "server", workers=1) as server:
        yield server


def push(server: Server, repository: str) -> int:
    blob = unique_blob(20)
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    return httpx.post(url, content=blob.content).status_code


def measured(server: Server) -> dict[str, float]:
    lines = httpx.get(f"{server.url}/measured").text.splitlines()
    samples = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def test_failures_of_gates_and_subscribers_are_counted(server: Server) -> None:
    """A plugin that raises what would end a task or the process has failed like any other."""
    repositories = ("refused", "failing", "ending", "lost", "gone", "kept")
    assert [push(server, repository) for repository in repositories] == [403, 403, 403, 201, 201, 201]
    while 'drift_event_failures_total{subscriber="measured"}' not in (found := measured(server)) or (
        found['drift_events_taken_total{subscriber="measured"}'] < 1
    ):
        assert server.process is not None
        assert server.process.poll() is None
    assert found['drift_gate_refusals_total{plugin="measured"}'] == 1
    assert found['drift_gate_failures_total{plugin="measured"}'] == 2
    assert found['drift_event_failures_total{subscriber="measured"}'] >= 2


def test_a_collector_that_fails_leaves_out_itself_alone(server: Server) -> None:
    first, second = measured(server), measured(server)
    assert (first["tape_starts_total"], second["tape_starts_total"]) == (1, 1)
    assert second['drift_metric_failures_total{plugin="measured"}'] >= 1
    assert "no reading" in server.log.read_text()


def test_a_name_that_another_plugin_has_stops_the_start(installation: Installation, tmp_path: Path) -> None:
    twin = MEASURED.replace('"measured"', '"twin"')
    installation.add("acme-twin", {"twin": "acme_twin"}, {"acme_twin": twin})
    settings = (f"storage.path={tmp_path}", f"server.bind_addr=127.0.0.1:{free_port()}", "server.workers=1")
    done = installation.drift("serve", *(part for setting in settings for part in ("--set", setting)))
    assert done.returncode == 1
    assert (
        "the features driver 'twin' of acme-twin 1.0 cannot be opened: DuplicateTimeseries: Duplicated" in done.stderr
    )
