"""What the page says of a server of several workers: exactly what clients did, whichever worker answers or died."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from drift_core import __version__
from tests.faults.inspection import all_listen, eventually
from tests.oci.client import Registry
from tests.oci.content import image, unique_blob
from tests.server import Server

COUNTED = (
    "drift_requests_total",
    "drift_received_bytes_total",
    "drift_sent_bytes_total",
    "drift_request_seconds_count",
)
UPLOADS, BLOBS = "/v2/team/app/blobs/uploads/", "/v2/team/app/blobs"

Samples = dict[tuple[str, ...], float]
"""By the name, and the values of the labels in order of their names."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("metrics"), "registry.immutable_tags=[]") as server:
        yield server


def read(server: Server) -> Samples:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def gained(server: Server, before: Samples) -> Samples:
    """Returns by how much what is counted of `/v2` has grown."""
    return {
        key: value - before.get(key, 0)
        for key, value in read(server).items()
        if key[0] in COUNTED and key[1] != "other" and value != before.get(key, 0)
    }


def settled(server: Server, expected: Samples, before: Samples) -> None:
    """A request is counted after its client has the answer: waits for the last one."""
    eventually(lambda: sum(gained(server, before).values()) >= sum(expected.values()), "all requests counted")
    assert gained(server, before) == expected


def traffic(server: Server, images: int) -> Samples:
    """Pushes and pulls over ever new connections, and returns what that has to count."""
    wanted: Counter[tuple[str, ...]] = Counter()

    def did(endpoint: str, method: str, status: int, received: int, sent: int) -> None:
        wanted["drift_requests_total", endpoint, method, str(status)] += 1
        wanted["drift_request_seconds_count", endpoint] += 1
        wanted["drift_received_bytes_total", endpoint] += received
        wanted["drift_sent_bytes_total", endpoint] += sent

    with Registry(server.url, fresh=True) as registry:
        for number in range(images):
            layer, config = unique_blob(100_000 + number), unique_blob(64)
            for blob in (layer, config):
                assert registry.post(UPLOADS, {"digest": blob.digest}, blob.content).status_code == 201
                did("uploads", "POST", 201, blob.size, 0)
            made, path = image(config, layer), f"/v2/team/app/manifests/v{number}"
            assert registry.put(path, None, made.content, content_type=made.media_type).status_code == 201
            did("manifest", "PUT", 201, made.size, 0)
            for _ in range(3):
                assert registry.get(path).content == made.content
                did("manifest", "GET", 200, 0, made.size)
                assert registry.get(f"{BLOBS}/{layer.digest}").content == layer.content
                did("blob", "GET", 200, 0, layer.size)
            assert registry.head(f"{BLOBS}/{layer.digest}").status_code == 200
            did("blob", "HEAD", 200, 0, 0)
            missing = registry.get(f"/v2/team/app/manifests/none{number}")
            did("manifest", "GET", 404, 0, len(missing.content))
    return {key: value for key, value in wanted.items() if value}


def test_every_request_is_counted_also_by_a_worker_that_died(server: Server) -> None:
    before = read(server)
    first = traffic(server, 4)
    settled(server, first, before)
    victims = server.workers()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: not {*victims} & {*server.workers()} and all_listen(server), "new workers listening")
    second = traffic(server, 3)
    settled(server, {key: first.get(key, 0) + second.get(key, 0) for key in first | second}, before)


def test_nobody_is_under_way_but_who_asks(server: Server) -> None:
    """Also after workers died in the midst of requests."""
    assert read(server)["drift_requests_under_way",] <= 1


def test_clients_cannot_invent_labels(server: Server) -> None:
    for method in ("PROPFIND", "REPORT", "MKCOL"):
        assert httpx.request(method, f"{server.url}/v2/").status_code == 405
    found = {key for key in read(server) if key[0] == "drift_requests_total" and key[3] == "405"}
    assert found == {("drift_requests_total", "base", "other", "405")}


def test_the_form_that_the_reader_prefers(server: Server) -> None:
    plain = httpx.get(f"{server.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    open_metrics = httpx.get(f"{server.url}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")


def test_a_stop_leaves_nothing_in_memory_and_a_start_removes_what_a_kill_left(tmp_path: Path) -> None:
    def left(server: Server) -> list[Path]:
        assert server.process is not None
        return list(Path("/dev/shm").glob(f"drift-metrics-{server.process.pid}-*"))

    killed = Server(tmp_path / "killed", workers=1).start()
    assert len(left(killed)) == 1
    killed.kill()
    # Whoever starts on this machine meanwhile removes it as well.
    with Server(tmp_path / "next", workers=1) as stopped:
        assert left(killed) == []
        assert len(left(stopped)) == 1
    assert left(stopped) == []


def test_who_may_read_them(tmp_path: Path) -> None:
    somebody = ("root", "good-password-1")
    users = ("auth.mode=basic", f'auth.basic.users=["{":".join(somebody)}"]')
    with Server(tmp_path / "private", *users, workers=1) as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        answer = httpx.get(f"{server.url}/metrics", auth=somebody)
        assert answer.status_code == 200
        assert "\ndrift_auth_basic_verifications_total 1.0\n" in answer.text
        assert f'\ndrift_info{{version="{__version__}"}} 1.0\n' in answer.text
    public = ("metrics.public=true", 'metrics.endpoint="/internal/metrics"')
    with Server(tmp_path / "public", *users, *public, workers=1) as server:
        assert httpx.get(f"{server.url}/internal/metrics").status_code == 200
        assert httpx.get(f"{server.url}/metrics", auth=somebody).status_code == 404
