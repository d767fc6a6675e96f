"""Clients that break off, stall, or never come to the point: nothing is lost, nothing leaks, others are served."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.faults.conftest import Serve
from tests.faults.inspection import (
    MIB,
    PATIENCE,
    all_listen,
    answers_in_log,
    eventually,
    fsck,
    open_files,
    resident,
    tracebacks_in_log,
)
from tests.oci.content import Blob, unique_blob, unique_index
from tests.oci.wire import Answer, Wire
from tests.server import Server

REPOSITORY = "cut/connections"
UPLOADS = f"/v2/{REPOSITORY}/blobs/uploads/"

SPARE_FILES = 6
"""Descriptors by which a worker may differ from itself: connections to the database, opened when they are needed."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose every test leaves it as good as it was."""
    server = Server(tmp_path_factory.mktemp("connections"), "http.header_read_timeout=2")
    try:
        server.start(PATIENCE)
        eventually(lambda: all_listen(server), "both workers listening")
        yield server
        assert not tracebacks_in_log(server)
        assert server.stop(PATIENCE) == 0
        assert fsck(server).clean
    finally:
        server.kill()


def ask(server: Server, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
    with Wire(server) as wire:
        answer = wire.exchange(method, target, body, **headers)
    assert answer.status < 500, answer
    return answer


def push(server: Server, blob: Blob) -> None:
    assert ask(server, "POST", f"{UPLOADS}?digest={blob.digest}", blob.content).status == 201


def pull(server: Server, blob: Blob) -> None:
    answer = ask(server, "GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}")
    assert answer.status == 200, answer
    assert answer.body == blob.content


def serves(server: Server) -> None:
    """Pushes and pulls on a few connections, so that each worker has to show that it goes on."""
    for _ in range(6):
        blob = unique_blob(5000)
        push(server, blob)
        pull(server, blob)


def reset(wire: Wire) -> None:
    wire.reset()


def close(wire: Wire) -> None:
    wire.socket.close()


def half_close(wire: Wire) -> None:
    """Says that nothing more comes, although more was announced; the connection has to end."""
    wire.socket.shutdown(socket.SHUT_WR)
    try:
        while wire.socket.recv(MIB):
            pass
    except ConnectionError:
        pass
    wire.socket.close()


BREAKS = [reset, close, half_close]


@pytest.mark.parametrize("break_off", BREAKS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_is_broken_off_and_goes_on(
    server: Server, method: str, *, chunked: bool, break_off: Callable[[Wire], None]
) -> None:
    blob = unique_blob(3 * MIB)
    location = ask(server, "POST", UPLOADS).headers["location"]
    target = location if method == "PATCH" else f"{location}?digest={blob.digest}"
    sent = 2 * MIB + 12345
    with Wire(server) as wire:
        if chunked:
            wire.begin(method, target, transfer_encoding="chunked")
            wire.send_chunk(blob.content[:sent])
        else:
            wire.begin(method, target, content_length=blob.size)
            wire.send(blob.content[:sent])
        eventually(lambda: held_of(server, location) >= MIB, "the first bytes kept")
        kept = held_of(server, location)
        break_off(wire)

    assert ask(server, "GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").status == 404
    answer = go_on(server, location, blob, kept)
    assert answer.status == 202, answer
    assert ask(server, "PUT", f"{location}?digest={blob.digest}").status == 201
    pull(server, blob)


def held_of(server: Server, location: str) -> int:
    """Returns how many bytes an upload has; 0 and 1 look the same."""
    answer = ask(server, "GET", location)
    assert answer.status == 204, answer
    last = int(answer.headers["range"].removeprefix("0-"))
    return last + 1 if last else 0


def go_on(server: Server, location: str, blob: Blob, kept: int) -> Answer:
    """Sends the rest, behind at least what was kept; asks again where it is told that it was wrong about the offset."""
    while True:
        held = held_of(server, location)
        assert kept <= held <= blob.size
        rest = blob.content[held:]
        answer = ask(server, "PATCH", location, rest, content_range=f"{held}-{held + len(rest) - 1}")
        if answer.status not in {409, 416}:
            return answer


@pytest.mark.parametrize("break_off", BREAKS)
def test_a_client_that_left_is_no_failure_in_the_log(server: Server, break_off: Callable[[Wire], None]) -> None:
    location = ask(server, "POST", UPLOADS).headers["location"]
    with Wire(server) as wire:
        wire.begin("PATCH", location, content_length=2000)
        wire.send(bytes(1000))
        break_off(wire)
    eventually(lambda: bool(answers_in_log(server, location)), "the end of the request in the access log")
    assert answers_in_log(server, location) == [499]


@pytest.mark.parametrize("break_off", BREAKS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_push_in_one_request_is_broken_off(
    server: Server, *, chunked: bool, break_off: Callable[[Wire], None]
) -> None:
    blob, manifest = unique_blob(2 * MIB), unique_index(text="x" * 100_000)
    pushes = (
        ("POST", f"{UPLOADS}?digest={blob.digest}", blob.content),
        ("PUT", f"/v2/{REPOSITORY}/manifests/cut", manifest.content),
    )
    for method, target, body in pushes:
        with Wire(server) as wire:
            if chunked:
                wire.begin(method, target, transfer_encoding="chunked", content_type=manifest.media_type)
                wire.send_chunk(body[:-1])
            else:
                wire.begin(method, target, content_length=len(body), content_type=manifest.media_type)
                wire.send(body[:-1])
            break_off(wire)
    assert ask(server, "GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").status == 404
    assert ask(server, "GET", f"/v2/{REPOSITORY}/manifests/cut").status == 404
    push(server, blob)
    pull(server, blob)


@pytest.mark.parametrize("break_off", [reset, close])
def test_pushes_that_are_broken_off_leave_nothing_on_the_disk(
    server: Server, break_off: Callable[[Wire], None]
) -> None:
    """Nobody was told the name of such an upload: nobody can go on with it, or end it."""
    uploads = server.folder / "data" / "uploads"
    before = set(uploads.iterdir())
    for _ in range(3):
        blob = unique_blob(2 * MIB)
        with Wire(server) as wire:
            wire.begin("POST", f"{UPLOADS}?digest={blob.digest}", content_length=blob.size)
            wire.send(blob.content[: blob.size // 2])
            break_off(wire)
    serves(server)
    eventually(lambda: set(uploads.iterdir()) <= before, "what was cut is gone from the disk")


@pytest.mark.parametrize("break_off", [reset, close])
def test_an_answer_that_nobody_waits_for(server: Server, break_off: Callable[[Wire], None]) -> None:
    blob = unique_blob(100_000)
    with Wire(server) as wire:
        wire.begin("POST", f"{UPLOADS}?digest={blob.digest}", content_length=blob.size)
        wire.send(blob.content)
        break_off(wire)
    # It may have been committed or not, and is whole if it was; a second push is no conflict.
    answer = ask(server, "GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}")
    assert answer.status == 404 or answer.body == blob.content
    push(server, blob)
    pull(server, blob)


def test_a_client_that_says_it_has_sent_everything_is_answered(server: Server) -> None:
    """To close the sending half behind a whole request is legal, and some clients (`nc -N`) do it."""
    blob = unique_blob(300_000)
    requests = (
        ("POST", f"{UPLOADS}?digest={blob.digest}", blob.content, 201),
        ("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}", b"", 200),
    )
    for method, target, body, status in requests:
        with Wire(server) as wire:
            wire.begin(method, target, content_length=len(body))
            wire.send(body)
            wire.socket.shutdown(socket.SHUT_WR)
            assert wire.answer(method).status == status


def test_heads_that_never_end_are_closed(server: Server) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(Wire(server)) for _ in range(50)]
        for wire in slow:
            wire.send(b"GET /v2/ HTTP/1.1\r\nhost: a\r\nx-slow: ")
        serves(server)
        for wire in slow:
            wire.socket.settimeout(PATIENCE)
            said = b""
            try:
                while piece := wire.socket.recv(4096):
                    said += piece
            except ConnectionError:
                pass
            assert said == b"" or said.startswith(b"HTTP/1.1 408 "), said


def test_heads_that_drip_are_closed(server: Server) -> None:
    """A byte now and then is not progress."""
    with Wire(server) as wire:
        wire.send(b"GET /v2/ HTTP/1.1\r\nx-slow: ")
        closed = threading.Event()

        def listen() -> None:
            try:
                while wire.socket.recv(4096):
                    pass
            except ConnectionError:
                pass
            closed.set()

        listener = threading.Thread(target=listen)
        listener.start()
        deadline = time.monotonic() + PATIENCE / 2
        while not closed.wait(0.2) and time.monotonic() < deadline:
            try:
                wire.send(b"a")
            except ConnectionError:
                break
        assert closed.wait(1), "a head that dripped for a minute is still read"
        listener.join()


def test_500_idle_connections(serve: Serve) -> None:
    server = serve("http.header_read_timeout=600")
    eventually(lambda: all_listen(server), "both workers listening")
    serves(server)
    workers = server.workers()
    before = {pid: open_files(pid) for pid in workers}
    with ExitStack() as stack:
        idle = [stack.enter_context(Wire(server)) for _ in range(500)]
        for wire in idle[::2]:
            assert wire.exchange("GET", "/v2/").status == 200
        eventually(lambda: sum(map(open_files, workers)) >= sum(before.values()) + 250, "the connections accepted")
        serves(server)
        for wire in idle[::20]:
            assert wire.exchange("GET", "/v2/").status == 200
    eventually(lambda: nothing_leaked(server, before), "the descriptors given back")
    assert server.workers() == workers


def nothing_leaked(server: Server, before: dict[int, int]) -> bool:
    return all(open_files(pid) <= before[pid] + SPARE_FILES for pid in server.workers())


@pytest.mark.parametrize("span", [None, "bytes=5-"])
@pytest.mark.parametrize("break_off", [reset, close])
def test_pulls_that_are_broken_off_leak_nothing(
    server: Server, span: str | None, break_off: Callable[[Wire], None]
) -> None:
    blob = unique_blob(32 * MIB)
    push(server, blob)
    serves(server)
    before = {pid: open_files(pid) for pid in server.workers()}
    headers = {} if span is None else {"range": span}
    for number in range(60):
        with Wire(server) as wire:
            wire.begin("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}", **headers)
            # At once, behind the head, and in the middle.
            for _ in range(number % 3):
                assert wire.socket.recv(64 << 10)
            break_off(wire)
        ask(server, "HEAD", f"/v2/{REPOSITORY}/blobs/{blob.digest}", **headers)
    eventually(lambda: nothing_leaked(server, before), "the descriptors given back")
    serves(server)
    pull(server, blob)


def test_uploads_that_are_broken_off_leak_nothing(server: Server) -> None:
    serves(server)
    before = {pid: open_files(pid) for pid in server.workers()}
    for number in range(60):
        location = ask(server, "POST", UPLOADS).headers["location"]
        with Wire(server) as wire:
            wire.begin("PATCH", location, content_length=2 * MIB)
            wire.send(bytes(number * 20_000))
            (reset if number % 2 else close)(wire)
    eventually(lambda: nothing_leaked(server, before), "the descriptors given back")
    serves(server)


CLIENTS = 20
LARGE = 64 * MIB
PER_CLIENT = 8 * MIB
"""Bytes that a worker may hold for each transfer: a batch in flight, one that is received, and what lies in buffers."""

FLOOR = 128 * MIB
"""Bytes that a worker may hold whatever it does."""


def test_memory_while_many_upload_slowly(serve: Serve) -> None:
    server = serve()
    eventually(lambda: all_listen(server), "both workers listening")
    workers = server.workers()
    content = unique_blob(LARGE).content
    locations = [ask(server, "POST", UPLOADS).headers["location"] for _ in range(CLIENTS)]
    together = threading.Barrier(CLIENTS)

    def upload(location: str) -> None:
        with Wire(server) as wire:
            wire.begin("PATCH", location, content_length=LARGE)
            for start in range(0, LARGE, MIB):
                wire.send(content[start : start + MIB])
                if start in {0, LARGE // 2}:
                    together.wait(PATIENCE)
                time.sleep(0.02)
            assert wire.answer("PATCH").status == 202

    with ThreadPoolExecutor(CLIENTS) as pool:
        for uploading in [pool.submit(upload, location) for location in locations]:
            uploading.result()
    assert server.workers() == workers
    for pid in workers:
        assert resident(pid, peak=True) < FLOOR + CLIENTS * PER_CLIENT
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    for location in locations:
        assert ask(server, "PUT", f"{location}?digest={digest}").status == 201
    for pid in workers:
        assert resident(pid, peak=True) < FLOOR + CLIENTS * PER_CLIENT


@pytest.mark.parametrize("span", [None, "bytes=1-"])
def test_memory_while_many_download_slowly(serve: Serve, span: str | None) -> None:
    server = serve()
    eventually(lambda: all_listen(server), "both workers listening")
    blob = unique_blob(LARGE)
    push(server, blob)
    headers = {} if span is None else {"range": span}
    with ExitStack() as stack:
        slow = []
        for _ in range(CLIENTS):
            # One after the other: who says nothing for too long is cut off.
            wire = stack.enter_context(Wire(server))
            slow.append(wire)
            wire.begin("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}", **headers)
            assert wire.socket.recv(12) == b"HTTP/1.1 20" + (b"6" if span else b"0")
        # Nobody reads on; the server fills its buffers meanwhile, and goes on for others.
        for _ in range(10):
            serves(server)
            time.sleep(0.1)
        peaks = [resident(pid, peak=True) for pid in server.workers()]
        assert max(peaks) < FLOOR + CLIENTS * PER_CLIENT, peaks
        for wire in slow[:2]:
            with wire.socket.makefile("rb") as stream:
                assert _body(stream.read) == (blob.content[1:] if span else blob.content)
    serves(server)


def _body(read: Callable[[int], bytes]) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read(1)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return read(int(length.partition(b":")[2]))


def test_the_owner_of_a_stalled_upload_has_another_way(server: Server) -> None:
    """The client's machine is gone without a word: its connection stands, and it comes back on another."""
    blob = unique_blob(2 * MIB)
    location = ask(server, "POST", UPLOADS).headers["location"]
    with Wire(server) as dead:
        dead.begin("PATCH", location, content_length=blob.size)
        dead.send(blob.content[:MIB])
        eventually(lambda: held_of(server, location) == MIB, "the first bytes kept")
        rest = blob.content[MIB:]
        answer = ask(server, "PATCH", location, rest, content_range=f"{MIB}-{blob.size - 1}")
        assert answer.status == 409, answer
        assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_INVALID"
        push(server, blob)
        pull(server, blob)
        dead.reset()
    assert go_on(server, location, blob, MIB).status == 202
    assert ask(server, "PUT", f"{location}?digest={blob.digest}").status == 201
