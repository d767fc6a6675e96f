"""Observers are told of everything, wrap nothing where there are none, hide no power, and fail alone."""

import json
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from drift_core.api import Call, SupportsEncoded, SupportsLocalPath, SupportsObserving, SupportsRedirect, SupportsStored
from drift_core.http.access import RequestLog, request_log
from drift_core.http.client import Clients
from drift_core.http.measures import Measures
from drift_core.metrics import Metrics
from drift_core.observing import Observers
from drift_core.protocols.storage import BlobStore
from tests.oci.client import Registry
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.plugins.installation import Installation
from tests.server import Server

WATCH = """
import json
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    file: str
    fails: str = ""

class Seen:
    def __init__(self, watch, what):
        self.watch, self.what, self.fields = watch, what, {"watched": "yes"} if what[0] == "request" else {}
    def end(self, error, status=None, route=""):
        with open(self.watch.config.file, "a") as file:
            file.write(json.dumps([*self.what, error and type(error).__name__, status, route]) + "\\n")
        if self.watch.config.fails == "end":
            raise RuntimeError("a defect at the end")

class Watch:
    name = "watch"
    def __init__(self, config):
        self.config = config
    def observe_request(self, scope, client_address):
        if self.config.fails == "request":
            raise RuntimeError("a defect before a request")
        return Seen(self, ["request", scope["method"], client_address])
    def observe_call(self, call):
        if self.config.fails == "call":
            raise RuntimeError("a defect before a call")
        return Seen(self, [call.asked, call.plugin, call.method])

@asynccontextmanager
async def open_watch(config, services):
    yield Watch(config)

@hookimpl
def drift_features():
    return [Driver("watch", Config, open_watch)]
"""
POWERS = (SupportsLocalPath, SupportsStored, SupportsRedirect, SupportsEncoded)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    installation = Installation(tmp_path_factory.mktemp("site"))
    installation.add("acme-watch", {"watch": "acme_watch"}, {"acme_watch": WATCH})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        yield


def pushed(server: Server) -> None:
    """Pushes an image and pulls it, with a range of a blob."""
    blob = unique_blob(100_000)
    with Registry(server.url) as client:
        client.push_blob("team/app", EMPTY_CONFIG)
        client.push_blob("team/app", blob)
        manifest = client.push("team/app", image(EMPTY_CONFIG, blob), "v1")
        assert client.get("/v2/team/app/manifests/v1").content == manifest.content
        part = client.get(f"/v2/team/app/blobs/{blob.digest}", range="bytes=1-999")
        assert (part.status_code, part.content) == (206, blob.content[1:1000])
        assert client.get("/v2/team/app/manifests/none").status_code == 404


@pytest.mark.usefixtures("site")
def test_requests_and_calls_are_told_with_how_they_ended(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    with Server(tmp_path / "server", f"watch.file={file}", workers=1) as server:
        pushed(server)
    seen = [json.loads(line) for line in file.read_text().splitlines()]
    for told in (
        ["request", "PUT", "127.0.0.1", None, 201, "/v2/{name}/manifests/{reference}"],
        ["request", "GET", "127.0.0.1", None, 404, "/v2/{name}/manifests/{reference}"],
        ["request", "GET", "127.0.0.1", None, 206, "/v2/{name}/blobs/{digest}"],
        ["request", "GET", "127.0.0.1", None, 200, "/readyz"],
        ["storage", "storage-fs", "append", None, None, ""],
        ["storage", "storage-fs", "commit", None, None, ""],
        ["storage", "storage-fs", "read", None, None, ""],
    ):
        assert told in seen
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert {line["watched"] for line in lines if line["event"] == "request"} == {"yes"}
    assert [line for line in lines if "watched" in line and line["event"] == "listening"] == []


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("fails", ["request", "call", "end"])
def test_an_observer_that_fails_is_counted_and_fails_no_request(tmp_path: Path, fails: str) -> None:
    settings = (f"watch.file={tmp_path / 'seen'}", f"watch.fails={fails}")
    with Server(tmp_path / "server", *settings, workers=1) as server:
        pushed(server)
        families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        found = [one for one in samples if one.name == "drift_work_failures_total" and one.labels["plugin"] == "watch"]
        assert found[0].value > 1
    assert "a defect" in server.log.read_text()


class Plain:
    """A store; nothing of it is called here."""

    async def stat(self, _: Any) -> Any: ...
    def read(self, *_: Any) -> Any: ...
    async def begin(self, *_: Any) -> Any: ...
    async def received(self, _: Any) -> Any: ...
    async def append(self, *_: Any) -> Any: ...
    async def commit(self, *_: Any) -> Any: ...
    async def abort(self, _: Any) -> Any: ...
    async def delete(self, _: Any) -> Any: ...
    def scan(self, *_: Any) -> Any: ...
    async def check(self) -> Any: ...


class Local:
    def local_path(self, _: Any) -> Any: ...


class Redirecting:
    async def redirect(self, *_: Any) -> Any: ...


class Coding:
    async def encoded(self, *_: Any) -> Any: ...


class Deaf:
    """An observer."""

    def observe_request(self, scope: Any, client_address: str) -> Any: ...
    def observe_call(self, call: Call) -> Any: ...


@pytest.mark.parametrize(
    "kinds", [*chain.from_iterable(combinations((Local, Redirecting, Coding), count) for count in range(4))]
)
def test_a_store_has_the_same_powers_and_is_itself_where_nobody_observes(kinds: tuple[type[Any], ...]) -> None:
    store = type("Store", (*kinds, Plain), {})()
    deaf = Deaf()
    assert isinstance(deaf, SupportsObserving)
    wrapped = Observers([("deaf", deaf)], Metrics()).store("own", store)
    assert wrapped is not store
    assert isinstance(wrapped, BlobStore)
    assert [isinstance(wrapped, power) for power in POWERS] == [isinstance(store, power) for power in POWERS]
    assert Observers([], Metrics()).store("own", store) is store


def test_nothing_is_between_a_request_and_its_answer_where_nobody_observes() -> None:
    nobody, metrics = Observers([], Metrics()), Metrics()

    async def app(*_: Any) -> None: ...

    log = request_log(app, Clients(()), Measures(metrics), nobody)
    assert type(log) is RequestLog
    things: list[Any] = [("own", object())]
    assert nobody.authenticators(things) == nobody.authorizers(things) == [things[0][1]]
    assert nobody.gates(things) == nobody.subscribers(things) == things
