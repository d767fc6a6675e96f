"""SIGTERM lets running requests end; readiness tells the truth; without its supervisor no worker stays."""

import hashlib
import os
import signal
import socket
import subprocess
from contextlib import suppress
from http.client import RemoteDisconnected
from pathlib import Path

import pytest

from tests.faults.conftest import Serve, SmallDisk
from tests.faults.inspection import MIB, PATIENCE, alive, all_listen, errors_in_log, eventually, fsck, listeners
from tests.oci.content import Blob, unique_blob
from tests.oci.wire import Answer, Wire
from tests.server import Server

LARGE = 64 * MIB
"""Bytes of a blob that no socket buffer holds whole."""


def ask(server: Server, method: str, target: str, body: bytes = b"") -> Answer:
    with Wire(server) as wire:
        return wire.exchange(method, target, body)


def push(server: Server, blob: Blob) -> None:
    answer = ask(server, "POST", f"/v2/drain/blobs/uploads/?digest={blob.digest}", blob.content)
    assert answer.status == 201, answer


def terminate(server: Server) -> None:
    """Asks a server to end, and returns when it accepts no more connections."""
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: listeners(server.port) == 0, "the listeners closed")
    with socket.socket() as late:
        late.settimeout(PATIENCE)
        assert late.connect_ex(("127.0.0.1", server.port)) != 0
    assert server.process.poll() is None, "it ended although a request was running"


def ended(server: Server) -> int:
    """Returns the exit code of a server that is ending."""
    assert server.process is not None
    return server.process.wait(PATIENCE)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_completes(serve: Serve, *, chunked: bool) -> None:
    server = serve("server.drain_seconds=300")
    blob = unique_blob(8 * MIB)
    target = f"/v2/drain/blobs/uploads/?digest={blob.digest}"
    with Wire(server) as wire:
        half = blob.content[: blob.size // 2]
        if chunked:
            wire.begin("POST", target, transfer_encoding="chunked")
            wire.send_chunk(half)
        else:
            wire.begin("POST", target, content_length=blob.size)
            wire.send(half)
        eventually(lambda: _upload_bytes(server) > MIB, "the upload under way")
        terminate(server)
        rest = blob.content[blob.size // 2 :]
        if chunked:
            wire.send_chunk(rest)
            wire.send_chunk(b"")
        else:
            wire.send(rest)
        answer = wire.answer("POST")
    assert answer.status == 201, answer
    assert ended(server) == 0
    assert fsck(server).clean
    server.start(PATIENCE)
    assert ask(server, "GET", f"/v2/drain/blobs/{blob.digest}").body == blob.content
    assert not errors_in_log(server)


def _upload_bytes(server: Server) -> int:
    uploads = server.folder / "data" / "uploads"
    return sum(path.stat().st_size for path in uploads.iterdir() if not path.suffix)


@pytest.mark.parametrize("headers", [{}, {"range": f"bytes=1-{LARGE - 2}"}])
def test_a_slow_download_completes(serve: Serve, headers: dict[str, str]) -> None:
    server = serve("server.drain_seconds=300")
    blob = unique_blob(LARGE)
    push(server, blob)
    expected = blob.content[1:-1] if headers else blob.content
    with Wire(server) as wire:
        wire.begin("GET", f"/v2/drain/blobs/{blob.digest}", **headers)
        first = wire.socket.recv(1000)
        assert first.startswith(b"HTTP/1.1 20")
        terminate(server)
        received = bytearray(first)
        head = received.index(b"\r\n\r\n") + 4
        while len(received) < head + len(expected):
            piece = wire.socket.recv(MIB)
            assert piece, f"cut after {len(received) - head} bytes"
            received += piece
    assert hashlib.sha256(received[head:]).digest() == hashlib.sha256(expected).digest()
    assert ended(server) == 0
    assert not errors_in_log(server)


def test_idle_connections_do_not_hold_it(serve: Serve) -> None:
    server = serve("server.drain_seconds=100000")
    with Wire(server) as used, Wire(server):
        assert used.exchange("GET", "/v2/").status == 200
        assert server.stop(PATIENCE) == 0
        with pytest.raises((RemoteDisconnected, ConnectionError)):
            used.exchange("GET", "/v2/")


def test_a_request_beyond_the_drain_is_cut_and_can_go_on(serve: Serve) -> None:
    server = serve("server.drain_seconds=0.5")
    blob = unique_blob(4 * MIB)
    location = ask(server, "POST", "/v2/drain/blobs/uploads/").headers["location"]
    with Wire(server) as wire:
        wire.begin("PATCH", location, content_length=blob.size)
        wire.send(blob.content[: 3 * MIB])
        eventually(lambda: _upload_bytes(server) >= 2 * MIB, "the upload under way")
        assert server.stop(PATIENCE) == 0
        with suppress(RemoteDisconnected, ConnectionError):
            answer = wire.answer("PATCH")
            assert answer.status == 503, f"cut, and blamed on a defect: {answer}"
    assert not errors_in_log(server)
    assert fsck(server).clean
    server.start(PATIENCE)
    held = int(ask(server, "GET", location).headers["range"].removeprefix("0-")) + 1
    assert 2 * MIB <= held <= 3 * MIB
    with Wire(server) as wire:
        answer = wire.exchange("PATCH", location, blob.content[held:], content_range=f"{held}-{blob.size - 1}")
        assert answer.status == 202, answer
        assert wire.exchange("PUT", f"{location}?digest={blob.digest}").status == 201
        assert wire.exchange("GET", f"/v2/drain/blobs/{blob.digest}").body == blob.content


def readiness(server: Server) -> int:
    """Returns the status of `/readyz` and checks that it says why, and that the process is alive all the same."""
    answer = ask(server, "GET", "/readyz")
    if answer.status != 200:
        assert answer.json()["reason"]
    assert ask(server, "GET", "/healthz").status == 200
    return answer.status


def test_readiness_when_the_folder_vanishes(serve: Serve) -> None:
    server = serve(workers=1)
    blob = unique_blob(1000)
    push(server, blob)
    data = server.folder / "data"
    data.rename(data.with_name("away"))
    assert readiness(server) == 503
    other = unique_blob(1000)
    refused = ask(server, "POST", f"/v2/drain/blobs/uploads/?digest={other.digest}", other.content)
    assert refused.status == 503, refused
    assert refused.json()["errors"][0]["code"] == "UNAVAILABLE"
    pulled = ask(server, "GET", f"/v2/drain/blobs/{blob.digest}")
    assert pulled.status == 503, "a volume that is not mounted must not read as a blob that does not exist"
    data.with_name("away").rename(data)
    assert readiness(server) == 200
    assert ask(server, "GET", f"/v2/drain/blobs/{blob.digest}").body == blob.content
    push(server, other)
    assert not errors_in_log(server)
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean


def test_readiness_when_the_blobs_are_read_only(small_disk: SmallDisk, serve: Serve) -> None:
    disk = small_disk("32m")
    server = serve(f"storage.filesystem.path={disk / 'blobs'}", workers=1)
    blob = unique_blob(1000)
    push(server, blob)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert readiness(server) == 503
    other = unique_blob(1000)
    refused = ask(server, "POST", f"/v2/drain/blobs/uploads/?digest={other.digest}", other.content)
    assert refused.status == 503, refused
    assert refused.json()["errors"][0]["code"] == "UNAVAILABLE"
    assert ask(server, "GET", f"/v2/drain/blobs/{blob.digest}").body == blob.content
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert readiness(server) == 200
    push(server, other)
    assert not errors_in_log(server)


def test_without_its_supervisor_no_worker_stays(serve: Serve) -> None:
    server = serve()
    eventually(lambda: all_listen(server), "both workers listening")
    blob = unique_blob(2 * MIB)
    workers = server.workers()
    with Wire(server) as wire:
        wire.begin("POST", f"/v2/drain/blobs/uploads/?digest={blob.digest}", content_length=blob.size)
        wire.send(blob.content[:MIB])
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        eventually(lambda: not any(alive(pid) for pid in workers), "the workers gone")
    eventually(lambda: listeners(server.port) == 0, "the port given back")
    server.start(PATIENCE)
    push(server, blob)
    assert server.stop(PATIENCE) == 0


def test_a_worker_that_dies_is_replaced_and_told_in_the_log(serve: Serve) -> None:
    server = serve()
    eventually(lambda: all_listen(server), "both workers listening")
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: all_listen(server) and server.workers() != before, "a new worker listening")
    assert before[1] in server.workers()
    assert "a worker died and is replaced" in Path(server.log).read_text()
    assert server.stop(PATIENCE) == 0
