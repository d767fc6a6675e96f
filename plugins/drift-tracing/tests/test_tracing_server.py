"""What a real server exports: whose child each span is, what it is called, and what must never be in it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.inspection import all_listen, eventually
from tests.oci.content import EMPTY_CONFIG, Blob, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server

from .collector import Collector, Span

ANN = ("ann", "correct horse battery")
PARENT = "00f067aa0ba902b7"
SERVER, INTERNAL = 2, 1
ERROR = 2
KEY = "a-key-of-the-collector"

PROBE = """
from contextlib import asynccontextmanager
from drift_core.api import Denied, Driver, Struct, Verdict, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Policy:
    async def decide(self, identity, scopes):
        return [Verdict(allowed=True) for _ in scopes]

class Probe:
    name = "probe"
    gated = ("manifest.push",)
    subscribed = ("manifest.push",)
    def routes(self):
        from litestar import get
        @get("/probe/{part:str}/broken")
        async def broken(part: str) -> None:
            raise RuntimeError("secret detail")
        return [broken]
    async def admit(self, change):
        if change.repository == "frozen":
            raise Denied("this is frozen")
        if change.repository == "failing":
            raise RuntimeError("secret detail")
    async def on_event(self, event):
        pass

@asynccontextmanager
async def open_policy(config, services):
    yield Policy()

@asynccontextmanager
async def open_probe(config, services):
    yield Probe()

@hookimpl
def drift_authz():
    return [Driver("anybody", Config, open_policy)]

@hookimpl
def drift_features():
    return [Driver("probe", Config, open_probe)]
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tracing")
    installation = Installation(folder / "site")
    installation.add("drift-probe", {"probe": "drift_probe"}, {"drift_probe": PROBE})
    settings = (
        *tracing(collector),
        f'tracing.headers={{"x-key"="{KEY}"}}',
        "tracing.service_name=registry",
        "auth.mode=basic",
        f'auth.basic.users=["{":".join(ANN)}"]',
        'auth.policies=["anybody"]',
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        with Server(folder / "server", *settings) as server:
            yield server


def tracing(collector: Collector, *settings: str) -> tuple[str, ...]:
    return ("tracing.enabled=true", f"tracing.endpoint={collector.endpoint}", *settings)


class Client:
    """Asks within a trace of its own, of which it says whether it is recorded."""

    def __init__(self, server: Server, *, sampled: bool = True) -> None:
        self.trace = os.urandom(16).hex()
        self._url = server.url
        self._parent = f"00-{self.trace}-{PARENT}-0{sampled:d}"

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"traceparent": self._parent, **options.pop("headers", {})}
        return httpx.request(method, f"{self._url}{path}", auth=ANN, headers=headers, timeout=60, **options)

    def push_blob(self, repository: str, blob: Blob) -> None:
        path = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
        assert self.ask("POST", path, content=blob.content).status_code == 201

    def push(self, repository: str) -> httpx.Response:
        self.push_blob(repository, EMPTY_CONFIG)
        made = image(EMPTY_CONFIG)
        path = f"/v2/{repository}/manifests/v1"
        return self.ask("PUT", path, content=made.content, headers={"content-type": made.media_type})


def children(collector: Collector, parent: Span) -> list[tuple[str, str]]:
    """Returns names and plugins of what a request led to, in the order in which they ended."""
    spans = [span for span in collector.of(parent.trace) if span.parent == parent.id]
    assert {span.kind for span in spans} <= {INTERNAL}
    return [(span.name, str(span.attributes["drift.plugin"])) for span in spans]


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def test_a_request_is_the_child_of_its_client_and_each_question_that_of_the_request(
    server: Server, collector: Collector
) -> None:
    client = Client(server)
    assert client.push("team/app").status_code == 201
    pushed = collector.wait("PUT /v2/{name}/manifests/{reference}", client.trace)
    assert (pushed.parent, pushed.kind, pushed.status) == (PARENT, SERVER, 0)
    assert pushed.attributes.pop("user_agent.original").startswith("python-httpx/")  # type: ignore[union-attr]
    assert pushed.attributes == {
        "http.request.method": "PUT",
        "http.route": "/v2/{name}/manifests/{reference}",
        "http.response.status_code": 201,
        "url.scheme": "http",
        "url.path": "/v2/team/app/manifests/v1",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.protocol.version": "1.1",
    }
    assert pushed.resource["service.name"] == "registry"
    asked = children(collector, pushed)
    assert asked[0] == ("authn.authenticate", "auth-basic")
    assert ("authz.decide", "probe") in asked
    assert ("gate.admit", "probe") in asked
    (gate,) = [span for span in collector.of(client.trace) if span.name == "gate.admit"]
    assert (gate.attributes["drift.action"], gate.attributes["drift.repository"]) == ("manifest.push", "team/app")
    uploaded = collector.wait("POST /v2/{name}/blobs/uploads/", client.trace)
    stored = [name for name, plugin in children(collector, uploaded) if plugin == "storage-fs"]
    assert [name for name in stored if name in {"storage.begin", "storage.append", "storage.commit"}] == [
        "storage.begin",
        "storage.append",
        "storage.commit",
    ]
    # What is told afterwards belongs to no request.
    told = collector.wait("subscriber.on_event")
    assert (told.parent, told.kind, told.attributes["drift.plugin"]) == ("", INTERNAL, "probe")
    assert told.trace != client.trace


def test_a_stream_is_a_child_of_its_request(server: Server, collector: Collector) -> None:
    client, blob = Client(server), unique_blob(200_000)
    client.push_blob("team/app", blob)
    answer = client.ask("GET", f"/v2/team/app/blobs/{blob.digest}", headers={"range": "bytes=10-99999"})
    assert (answer.status_code, answer.content) == (206, blob.content[10:100_000])
    read = collector.wait("storage.read", client.trace)
    request = collector.wait("GET /v2/{name}/blobs/{digest}", client.trace)
    assert (read.parent, read.attributes["drift.digest"]) == (request.id, blob.digest)


def test_the_log_says_the_trace_beside_the_request(server: Server, collector: Collector) -> None:
    client = Client(server)
    answer = client.ask("GET", "/v2/", headers={"x-request-id": "in-the-trace"})
    assert answer.headers["x-request-id"] == "in-the-trace"
    assert client.push("failing").status_code == 403

    def mine() -> list[str]:
        return [line["event"] for line in lines(server) if line.get("trace_id") == client.trace]

    eventually(lambda: mine().count("request") == 3, "three requests in the log")
    assert "a gate failed and refuses" in mine()
    (line,) = [line for line in lines(server) if line.get("request_id") == "in-the-trace"]
    assert line["trace_id"] == client.trace
    # Without a client's trace there is one that begins here.
    httpx.get(f"{server.url}/healthz", headers={"x-request-id": "of-its-own"})
    eventually(lambda: any(line.get("request_id") == "of-its-own" for line in lines(server)), "a line")
    (line,) = [line for line in lines(server) if line.get("request_id") == "of-its-own"]
    assert collector.wait("GET /healthz", line["trace_id"]).parent == ""


@pytest.mark.parametrize(
    ("repository", "status", "kind"), [("frozen", 0, "Denied"), ("failing", ERROR, "RuntimeError")]
)
def test_a_refusal_is_no_failure(server: Server, collector: Collector, repository: str, status: int, kind: str) -> None:
    client = Client(server)
    assert client.push(repository).status_code == 403
    gate = collector.wait("gate.admit", client.trace)
    assert (gate.status, gate.attributes["error.type"]) == (status, kind)
    request = collector.wait("PUT /v2/{name}/manifests/{reference}", client.trace)
    assert (request.status, request.attributes["http.response.status_code"]) == (0, 403)
    assert "error.type" not in request.attributes


def test_a_defect_is_an_error(server: Server, collector: Collector) -> None:
    client = Client(server)
    assert client.ask("GET", "/probe/x/broken").status_code == 500
    span = collector.wait("GET /probe/{part}/broken", client.trace)
    assert (span.status, span.attributes["error.type"]) == (ERROR, "500")


def test_names_are_few_whatever_clients_invent(server: Server, collector: Collector) -> None:
    client = Client(server)
    assert client.ask("PROPFIND", "/nobody/knows").status_code in {404, 405}
    span = collector.wait("HTTP", client.trace)
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "PROPFIND"


def test_no_secret_is_in_what_is_exported_nor_in_the_configuration(server: Server, collector: Collector) -> None:
    client = Client(server)
    secrets = {"x-secret": "a-header-of-the-client", "cookie": "session=a-cookie-of-the-client"}
    client.ask("GET", "/v2/team/app/tags/list?n=5&token=a-token-in-the-query", headers=secrets)
    client.ask("GET", "/probe/x/broken?access_token=a-token-in-the-query")
    client.push("failing")
    collector.wait("GET /v2/{name}/tags/list", client.trace)
    collector.wait("GET /probe/{part}/broken", client.trace)
    collector.wait("gate.admit", client.trace)
    exported = b"".join(collector.bodies)
    wrong = ["a-token-in-the-query", "secret detail", *secrets.values(), *ANN[1:], "Basic ", KEY]
    assert [one for one in wrong if one.encode() in exported] == []
    assert {headers["x-key"] for headers in collector.headers} == {KEY}
    shown = Installation(server.folder).drift("config", "show", *server.arguments())
    assert shown.returncode == 0, shown.stderr
    assert collector.endpoint in shown.stdout
    assert KEY not in shown.stdout + server.log.read_text()


def test_a_client_that_does_not_record_is_not_recorded(server: Server, collector: Collector) -> None:
    quiet, loud = Client(server, sampled=False), Client(server)
    for client in (quiet, loud):
        assert client.ask("GET", "/v2/").status_code == 200
    collector.wait("GET /v2/", loud.trace)
    assert collector.of(quiet.trace) == []


def test_workers_that_replace_others_export_too(server: Server, collector: Collector) -> None:
    victims = server.workers()
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: not {*victims} & {*server.workers()} and all_listen(server), "new workers listening")
    clients = [Client(server) for _ in range(12)]
    for client in clients:
        assert client.ask("GET", "/v2/").status_code == 200
    for client in clients:
        collector.wait("GET /v2/", client.trace)


def test_what_waits_is_exported_at_the_end_and_a_share_of_what_begins_here(tmp_path: Path) -> None:
    with Collector() as collector:
        with Server(tmp_path, *tracing(collector, "tracing.sample_ratio=0"), workers=1) as server:
            httpx.get(f"{server.url}/version")
            clients = [Client(server) for _ in range(30)]
            for client in clients:
                client.ask("GET", "/v2/")
            assert server.stop() == 0
        assert all(collector.named("GET /v2/", client.trace) for client in clients)
        assert collector.named("GET /version") == []
        assert "not every span was exported" not in server.log.read_text()


def test_a_collector_that_is_away_is_said_once_and_delays_nobody(tmp_path: Path) -> None:
    """Neither requests nor the end; once it is there, spans are exported again."""
    collector = Collector()
    away, again = "spans cannot be exported and are lost", "spans are exported again"
    settings = tracing(collector, "tracing.timeout_seconds=2", "tracing.queue_size=64")
    with Server(tmp_path / "server", *settings, workers=1) as server:

        def said(what: str) -> list[dict[str, Any]]:
            return [line for line in lines(server) if line["event"] == what]

        def lost() -> float:
            text = httpx.get(f"{server.url}/metrics").text
            prefix = 'drift_tracing_spans_total{result="lost"} '
            return next((float(line.removeprefix(prefix)) for line in text.splitlines() if line.startswith(prefix)), 0)

        def ask(times: int) -> None:
            with httpx.Client(base_url=server.url) as client:
                for _ in range(times):
                    assert client.get("/v2/").status_code == 200

        ask(10)
        eventually(lambda: lost() > 0, "lost spans")
        seen = lost()
        ask(300)
        eventually(lambda: lost() > seen, "another attempt")
        (warning,) = said(away)
        assert warning["endpoint"] == collector.endpoint
        assert "refused" in warning["reason"]
        assert [line for line in lines(server) if "opentelemetry" in str(line)] == []
        with collector:
            asked = Client(server)
            assert asked.ask("GET", "/v2/").status_code == 200
            collector.wait("GET /v2/", asked.trace)
            eventually(lambda: len(said(again)) == 1, "that spans are exported again")
            collector.ill = True
            asked.ask("GET", "/v2/")
            eventually(lambda: len(said(away)) == 2, "that the collector is ill")
        assert server.stop() == 0
        # The end did not wait for it, and nobody was killed.
        told = [line["event"] for line in lines(server) if line["level"] in {"warning", "error"}]
        assert told == [away, away]
