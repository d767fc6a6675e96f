"""A real server whose QUIC has processes of its own: quic-go, crane, the suite of OCI, and our client."""

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from drift_quic_aioquic.commands import quic
from msgspec import Struct

from drift_core.api import StartError
from tests.clients.image_layout import ImageLayout, content, differences
from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.conformance_oci.suite import check_every_test_passes
from tests.faults.inspection import bound, eventually
from tests.http.described import Described
from tests.oci.content import Blob, image, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

from .conftest import Files, free_port
from .gateway_process import client, gateway
from .real_server import Both, settings


def test_every_test_of_the_suite_passes(each: Both, tmp_path: Path) -> None:
    with gateway(each.ca_file, each.port) as host:
        check_every_test_passes("1.1", host, tmp_path)


def test_crane_pushes_and_pulls(each: Both, tmp_path: Path) -> None:
    run = Programs(tmp_path / "home")
    layout = ImageLayout(tmp_path / "image")
    root = layout.add_multi_platform(17)
    layout.tag(root)
    with gateway(each.ca_file, each.port) as host:
        run("crane", "push", "--insecure", "--index", str(layout.folder), f"{host}/crane/image:v1")
        run("crane", "validate", "--insecure", "--remote", f"{host}/crane/image:v1")
        run("crane", "pull", "--insecure", "--format", "oci", f"{host}/crane/image:v1", str(tmp_path / "pulled"))
    assert (
        differences(content(root, layout.read), content(root, RegistryApi(each.server.host).reader("crane/image")))
        == []
    )


def test_quic_go_fetches_ranges_and_what_is_not_modified(each: Both) -> None:
    blob = unique_blob(3_000_000)
    each.push("quic/go", blob)
    path = f"/v2/quic/go/blobs/{blob.digest}"
    (whole,) = each.quic("-path", path)
    assert (whole["status"], whole["bytes"], whole["sha256"]) == (200, blob.size, blob.digest.partition(":")[2])
    (part,) = each.quic("-path", path, "-headers", "Range:bytes=1000000-1999999")
    assert (part["status"], part["sha256"]) == (206, hashlib.sha256(blob.content[1_000_000:2_000_000]).hexdigest())
    (head,) = each.quic("-path", path, "-method", "HEAD")
    assert (head["status"], head["bytes"], head["headers"]["Content-Length"]) == (200, 0, "3000000")  # type: ignore[index]
    (same,) = each.quic("-path", path, "-headers", f'If-None-Match:"{blob.digest}"')
    assert (same["status"], same["bytes"]) == (304, 0)
    answers = each.quic("-path", path, "-parallel", "8")
    assert {one["sha256"] for one in answers} == {blob.digest.partition(":")[2]}


def test_quic_go_sends_its_request_with_the_first_flight(both: Both) -> None:
    first, second = both.quic("-early", "-path", "/health")
    assert (first["status"], second["status"], second["early"]) == (200, 200, True)


def test_clients_of_tcp_are_led_to_quic(both: Both) -> None:
    for path in ("/health", "/v2/"):
        assert httpx.get(both.server.url + path).headers["alt-svc"] == f'h3=":{both.port}"; ma=86400'


def test_figures_are_those_of_all_processes(both: Both) -> None:
    blob = unique_blob(2_000_000)
    both.push("quic/stats", blob)
    before = both.get("stats")
    for _ in range(4):
        both.quic("-path", f"/v2/quic/stats/blobs/{blob.digest}")
    # The console of the same processes counts, too.
    client(both.ca_file, both.ui_port, "-path", "/")
    until_counted(both, int(str(before["bytes_sent"])) + 4 * blob.size)
    connected = int(str(before["connections_total"])) + 5
    eventually(lambda: int(str(both.get("stats")["connections_total"])) >= connected, "all connections are counted")
    stats = both.get("stats")
    assert (stats["backend"], stats["backend_name"]) == (4, "aioquic")
    assert [row["worker"] for row in stats["workers"]] == [0, 1]  # type: ignore[attr-defined]
    status = both.get("status")
    assert {"ping", "blob-transfer", "manifest-transfer"} <= set(status["supported_features"])  # type: ignore[call-overload]
    assert (status["enabled"], status["backend"]) == (True, "aioquic")
    shown = both.get("config")
    assert (shown["cert_configured"], shown["key_configured"], shown["workers"]) == (True, True, 2)
    assert "private_key" not in shown


def until_counted(both: Both, size: int) -> None:

    deadline = time.monotonic() + 30
    while int(str(both.get("stats")["bytes_sent"])) < size:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_another_server_is_asked_over_the_message_set(both: Both) -> None:
    blob = unique_blob(50_000)
    both.push("quic/messages", blob)
    address, url = f"127.0.0.1:{both.port}", f"{both.server.url}/api/quic"
    described = Described.of(both.server.url)
    answer = httpx.post(f"{url}/ping/{address}")
    described.check(answer)
    assert (answer.status_code, answer.json()) == (200, {"target": address, "status": "success", "message": "pong"})
    asked = {"target_addr": address}
    manifest = image(blob)
    headers = {"content-type": manifest.media_type}
    put = f"{both.server.url}/v2/quic/messages/manifests/v1"
    assert httpx.put(put, content=manifest.content, headers=headers).status_code == 201
    for path in (f"blob/quic/messages@{blob.digest}", f"blob/quic/other@{blob.digest}", "manifest/quic/messages:v1"):
        described.check(httpx.post(f"{url}/test/{path}", json=asked))
    there = httpx.post(f"{url}/test/blob/quic/messages@{blob.digest}", json=asked).json()
    assert (there["status"], there["has_content"], there["content_size"]) == ("success", True, 50_000)
    gone = httpx.post(f"{url}/test/blob/quic/other@{blob.digest}", json={"target_addr": address}).json()
    assert (gone["status"], gone["error_code"]) == ("error", 404)
    manifest = httpx.post(f"{url}/test/manifest/quic/messages:none", json={"target_addr": address}).json()
    assert (manifest["status"], manifest["error_code"]) == ("error", 404)


@pytest.mark.parametrize(
    ("target", "status"),
    [("nonsense", 400), ("127.0.0.1:0", 400), ("127.0.0.1:22", 403), ("169.254.169.254:80", 403), ("localhost:1", 403)],
)
def test_no_other_address_is_asked(both: Both, target: str, status: int) -> None:
    url = f"{both.server.url}/api/quic"
    assert httpx.post(f"{url}/ping/{target}").status_code == status
    body = {"target_addr": target}
    assert httpx.post(f"{url}/test/manifest/a:b", json=body).status_code == status


class Ended(Struct):
    """How a command ended, and what it said."""

    code: int
    text: str


def drift(*arguments: str) -> Ended:
    """Runs a command of ``drift quic`` in this process."""
    ended = CliRunner().invoke(quic, arguments)
    return Ended(1 if isinstance(ended.exception, StartError) else ended.exit_code, f"{ended.output}{ended.exception}")


def test_the_commands(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    address = f"127.0.0.1:{both.port}"
    assert drift("ping", address, "--count", "1").code == 1
    command = [str(DRIFT), "quic", "ping", address, "--ca-file", str(both.ca_file)]
    answered = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (answered.returncode, answered.stdout.count("answered after")) == (0, 3), answered.stderr
    blob = unique_blob(18_000_000)
    both.push("quic/get", blob)
    wanted = f"{address}/quic/get@{blob.digest}"
    trusted = ("--ca-file", str(both.ca_file))
    # What is whole of an earlier attempt is not fetched again, but of another blob it is nothing.
    for digest, first in ((blob.digest, blob.content[: 8 << 20]), (Blob(b"x").digest, bytes(8 << 20))):
        (tmp_path / "again.part").write_bytes(first + bytes(blob.size - len(first)))
        (tmp_path / "again.part.json").write_text(json.dumps({"size": blob.size, "pieces": [0], "digest": digest}))
        got = drift("get", wanted, "-o", "again", *trusted)
        assert got.code == 0, got.text
        assert (tmp_path / "again").read_bytes() == blob.content
        assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]
    # What is damaged of it is found.
    (tmp_path / "bad.part").write_bytes(bytes(blob.size))
    (tmp_path / "bad.part.json").write_text(json.dumps({"size": blob.size, "pieces": [0, 1, 2], "digest": blob.digest}))
    bad = drift("get", wanted, "-o", "bad", *trusted)
    assert (bad.code, "what came is not" in bad.text) == (1, True)
    assert drift("get", f"{address}/quic/get@{Blob(b'x').digest}", *trusted).code == 1


@pytest.mark.soak
def test_it_can_run_in_the_http_workers(tmp_path: Path, certificate: Files) -> None:
    port = free_port()
    with Server(tmp_path, *settings(port, certificate, "quic.mode=inline"), workers=2) as server:
        # A handshake that is under way when a further socket joins may be torn in two.
        eventually(lambda: len(server.workers()) == bound(port) == 2, "both workers bound")
        for _ in range(4):
            assert client(certificate[0], port, "-path", "/health")[0]["status"] == 200


@pytest.mark.soak
def test_a_server_without_quic_says_so(tmp_path: Path) -> None:
    with Server(tmp_path, workers=1) as server:
        assert httpx.get(f"{server.url}/api/quic/status").json()["backend"] == "disabled"
        assert httpx.get(f"{server.url}/api/quic/stats").json()["backend"] == 0
        assert httpx.post(f"{server.url}/api/quic/ping/127.0.0.1:1").status_code == 503
        assert "alt-svc" not in httpx.get(f"{server.url}/health").headers


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("quic.backend=gquic",), "aioquic serves QUIC version 1"),
        (("quic.bind_addr=0.0.0.0:5443",), "nobody has to log in"),
        (("quic.ui_bind_addr=0.0.0.0:5444",), "quic.ui_bind_addr: 0.0.0.0:5444 can be reached by others"),
        (("quic.ui_bind_addr=127.0.0.1:5444", "ui.enabled=false"), "quic.ui_bind_addr: nobody serves browsers"),
        (("quic.backend=qh3", "quic.mode=inline"), "qh3 serves in one process"),
    ],
)
def test_what_cannot_be_served_stops_the_start(
    tmp_path: Path, certificate: Files, given: tuple[str, ...], said: str
) -> None:
    server = Server(tmp_path, *settings(free_port(), certificate, *given), workers=2)
    command = [*server.command()]
    ended = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert said in ended.stderr + ended.stdout
