"""Sinks against servers on this machine, and the file on this disk: at least once, in order, behind every restart."""

import asyncio
import csv
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from drift_audit import delivery
from drift_audit.auditor import AuditTrail
from drift_audit.config import AuditConfig, ElasticsearchExport, FileExport, SyslogExport, WebhookExport
from drift_audit.delivery import Item, SinkError
from drift_audit.record import encoded, record_of
from drift_audit.sinks import sinks_of
from drift_audit.sinks.file import FileSink
from drift_audit.sinks.syslog import SyslogSink
from drift_audit.tables import sinks
from sqlalchemy import select, update

from drift_core.api import AuditEvent, Records, Secret
from tests.tools import tool

OpenTrail = Callable[..., AbstractAsyncContextManager[AuditTrail]]

PATIENCE = 20.0
SECRET = "webhook-signing-secret"


@pytest.fixture
def database_url() -> None:
    """SQLite alone: nothing here depends on what the database is."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a sink that is down be asked soon again."""
    monkeypatch.setattr(delivery, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(delivery, "LONGEST_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(delivery, "RENEW_SECONDS", 0.3)


class Receiver:
    """An HTTP server that keeps what it is sent; ``answers`` are given first, then 200 with ``body``."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.body: Callable[[bytes], bytes] = lambda _: b"{}"
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, content))
                status, body = receiver.answers.pop(0) if receiver.answers else (200, receiver.body(content))
                self.send_response(status)
                if status == 307:
                    self.send_header("location", f"{receiver.url}/elsewhere")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def records(self) -> list[dict[str, Any]]:
        return [record for _, _, content in self.requests for record in json.loads(content)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


async def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def log_in(trail: AuditTrail, *names: str) -> None:
    for name in names:
        await trail.note(AuditEvent(type="Login", username=name))


def names(records: Sequence[dict[str, Any]]) -> list[str]:
    return [record["user"]["username"] for record in records if record["event_type"] == "Login"]


def items(*numbers: int) -> list[Item]:
    return [
        Item(number, encoded(record_of(AuditEvent(type="Login", username=f"u{number}"), None), number))
        for number in numbers
    ]


async def test_a_webhook_gets_signed_arrays_in_order(open_trail: OpenTrail, receiver: Receiver) -> None:
    hook = WebhookExport(
        url=f"{receiver.url}/hook", secret=Secret(SECRET), headers={"X-Key": Secret("header-secret")}, batch_size=3
    )
    async with open_trail(webhook_export=hook) as trail:
        await log_in(trail, *"abcdefgh")
        await eventually(lambda: names(receiver.records()) == list("abcdefgh"))
    for path, headers, content in receiver.requests:
        assert path == "/hook"
        assert (headers["content-type"], headers["x-key"]) == ("application/json", "header-secret")
        assert len(json.loads(content)) <= 3
        found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["x-drift-signature"])
        assert found is not None
        assert abs(int(found[1]) - time.time()) < 60
        expected = hmac.new(SECRET.encode(), f"{found[1]}.".encode() + content, hashlib.sha256).hexdigest()
        assert found[2] == expected


@pytest.mark.parametrize("status", [307, 401, 404, 429, 500, 503])
async def test_what_a_webhook_does_not_take_is_sent_again(
    open_trail: OpenTrail, receiver: Receiver, status: int
) -> None:
    receiver.answers = [(status, b"")] * 3
    hook = WebhookExport(url=f"{receiver.url}/hook", retry_attempts=1)
    async with open_trail(webhook_export=hook) as trail:
        await log_in(trail, "a")
        await eventually(lambda: "a" in names(receiver.records()[1:]) and len(receiver.requests) >= 4)
        began = time.monotonic()
        await log_in(trail, *"bcd")
        assert time.monotonic() - began < 1
        await eventually(lambda: names(receiver.records())[-3:] == list("bcd"))
    assert {path for path, _, _ in receiver.requests} == {"/hook"}
    # The same first record each time: nothing is skipped.
    assert [json.loads(content)[0]["sequence"] for _, _, content in receiver.requests[:4]] == [1] * 4


async def test_a_webhook_that_is_down_holds_nobody_up_and_gets_all_later(
    open_trail: OpenTrail, records: Records, tmp_path: Path
) -> None:
    receiver = Receiver()
    url = receiver.url
    receiver.close()
    keys = {"webhook_export": WebhookExport(url=url, retry_attempts=0, timeout_seconds=0.5)}
    async with open_trail(**keys, file_export=FileExport(path=str(tmp_path / "a.jsonl"))) as trail:
        await log_in(trail, *"abc")
        # The other sink goes on.
        await eventually(lambda: (tmp_path / "a.jsonl").exists() and len(lines(tmp_path / "a.jsonl")) >= 3)
    second = Receiver()
    try:
        keys = {"webhook_export": WebhookExport(url=second.url)}
        async with open_trail(**keys) as trail:
            await log_in(trail, "d")
            await eventually(lambda: names(second.records()) == list("abcd"))
    finally:
        second.close()
    query = select(sinks.c.name, sinks.c.holder)
    assert dict(await records.read(lambda db: [tuple(row) for row in db.execute(query)])) == {
        "webhook": None,
        "file": None,
    }


async def test_one_process_at_a_time_feeds_a_sink(open_trail: OpenTrail, receiver: Receiver) -> None:
    hook = {"webhook_export": WebhookExport(url=receiver.url, batch_size=1)}
    async with open_trail(**hook) as one:
        async with open_trail(**hook) as two:
            for number in range(10):
                await log_in(one if number % 2 else two, str(number))
            await eventually(lambda: len(names(receiver.records())) >= 10)
        await log_in(one, "10")
        await eventually(lambda: len(names(receiver.records())) >= 11)
    assert names(receiver.records()) == [str(number) for number in range(11)]


async def test_who_holds_a_sink_and_dies_is_followed(
    open_trail: OpenTrail, receiver: Receiver, records: Records
) -> None:
    hook = {"webhook_export": WebhookExport(url=receiver.url)}
    async with open_trail(**hook):
        pass
    held = update(sinks).values(holder="dead", held_until=int((time.time() + 1.5) * 1000))
    await records.write(lambda db: db.execute(held).rowcount)
    before = len(receiver.requests)
    async with open_trail(**hook) as trail:
        await log_in(trail, "a")
        await asyncio.sleep(0.7)
        assert len(receiver.requests) == before
        await eventually(lambda: names(receiver.records()) == ["a"])


async def test_a_position_behind_the_end_does_not_silence_a_sink(
    open_trail: OpenTrail, receiver: Receiver, records: Records
) -> None:
    hook = {"webhook_export": WebhookExport(url=receiver.url)}
    async with open_trail(**hook):
        pass
    await records.write(lambda db: db.execute(update(sinks).values(position=1_000_000)).rowcount)
    with structlog.testing.capture_logs() as logs:
        async with open_trail(**hook) as trail:
            await eventually(lambda: any(line["log_level"] == "error" for line in logs))
            await log_in(trail, "a")
            await eventually(lambda: "a" in names(receiver.records()))


@pytest.mark.parametrize("answers", [True, False])
async def test_the_path_of_a_webhook_is_not_told(receiver: Receiver, answers: bool) -> None:
    receiver.answers = [(500, b"")]
    url = receiver.url if answers else "http://127.0.0.1:1"
    (sink,) = sinks_of(AuditConfig(webhook_export=WebhookExport(url=f"{url}/services/{SECRET}?key={SECRET}")))
    try:
        with pytest.raises(SinkError) as failed:
            await sink.send(items(1))
    finally:
        await sink.close()
    assert str(failed.value).startswith(url)
    assert SECRET not in str(failed.value)


async def test_a_header_that_cannot_be_sent_is_not_told(receiver: Receiver) -> None:
    hook = WebhookExport(url=receiver.url, headers={"X-Key": Secret(f"{SECRET}\n")})
    (sink,) = sinks_of(AuditConfig(webhook_export=hook))
    try:
        with pytest.raises(SinkError) as failed:
            await sink.send(items(1))
    finally:
        await sink.close()
    assert SECRET not in str(failed.value)


async def test_a_sink_begins_with_what_is_recorded_from_then_on(open_trail: OpenTrail, receiver: Receiver) -> None:
    async with open_trail() as trail:
        await log_in(trail, "before")
    async with open_trail(webhook_export=WebhookExport(url=receiver.url)) as trail:
        await log_in(trail, "after")
        await eventually(lambda: bool(names(receiver.records())))
    assert names(receiver.records()) == ["after"]


def bulk_answer(statuses: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def answer(content: bytes) -> bytes:
        documents = content.splitlines()[1::2]
        outcomes = [{"create": {"status": statuses(place)}} for place in range(len(documents))]
        return json.dumps({"took": 1, "errors": True, "items": outcomes}).encode()

    return answer


async def test_elasticsearch_gets_each_record_in_the_index_of_its_day(
    open_trail: OpenTrail, receiver: Receiver
) -> None:
    receiver.body = bulk_answer(lambda _: 201)
    # Once all is well but for one that is asked for later: all of them are sent again, and were there already.
    receiver.answers = [(200, b"no json"), (503, b"")]
    export = ElasticsearchExport(url=f"{receiver.url}/", index_prefix="trail", username="drift", password=Secret("pw"))
    async with open_trail(elasticsearch_export=export) as trail:
        await log_in(trail, *"ab")
        await eventually(lambda: b'"b"' in b"".join(content for _, _, content in receiver.requests[2:]))
    path, headers, content = receiver.requests[-1]
    assert path == "/_bulk"
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["authorization"] == "Basic ZHJpZnQ6cHc="
    assert content.endswith(b"\n")
    action, document = (json.loads(line) for line in content.splitlines()[:2])
    day = document["timestamp"][:10].replace("-", ".")
    assert action == {"create": {"_index": f"trail-{day}", "_id": document["id"]}}


@pytest.mark.parametrize(
    ("statuses", "refused"),
    [([201, 409, 201], []), ([201, 400, 201], [2]), ([201, 429, 400], None), ([500, 201, 201], None)],
)
async def test_elasticsearch_answers_for_each_record(
    receiver: Receiver, statuses: list[int], refused: list[int] | None
) -> None:
    receiver.body = bulk_answer(lambda place: statuses[place])
    (sink,) = sinks_of(AuditConfig(elasticsearch_export=ElasticsearchExport(url=receiver.url)))
    try:
        if refused is None:
            with pytest.raises(SinkError, match="were not taken now"):
                await sink.send(items(1, 2, 3))
        else:
            assert await sink.send(items(1, 2, 3)) == refused
    finally:
        await sink.close()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def sequences(file: Path, form: str) -> list[int]:
    if form == "csv":
        with file.open(newline="") as stream:
            return [int(row["sequence"]) for row in csv.DictReader(stream)]
    if form == "json":
        return [record["sequence"] for record in json.loads(file.read_text())]
    return [json.loads(line)["sequence"] for line in lines(file)]


@pytest.mark.parametrize("form", ["json", "jsonlines", "csv"])
async def test_a_file_is_whole_after_each_batch_and_each_restart(tmp_path: Path, form: str) -> None:
    file = tmp_path / "logs" / "audit"
    config = FileExport(path=str(file), format=form)  # type: ignore[arg-type]
    for batch in ([1, 2], [3], [4, 5]):
        sink = FileSink(config)
        await sink.send(items(*batch))
        assert sequences(file, form) == list(range(1, batch[-1] + 1))
        await sink.close()
    assert file.stat().st_mode & 0o777 == 0o640 & ~umask()


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("cut", range(1, 40, 6))
@pytest.mark.parametrize("form", ["json", "jsonlines", "csv"])
async def test_what_a_crash_left_of_a_line_is_written_anew(tmp_path: Path, form: str, cut: int) -> None:
    file = tmp_path / "audit"
    config = FileExport(path=str(file), format=form)  # type: ignore[arg-type]
    batch = items(1, 2, 3)
    sink = FileSink(config)
    await sink.send(batch)
    await sink.close()
    os.truncate(file, file.stat().st_size - cut)
    sink = FileSink(config)
    # The position was not written either: the same batch comes again, and more.
    await sink.send([*batch, *items(4)])
    assert sequences(file, form) == [1, 2, 3, 4]
    await sink.close()


@pytest.mark.parametrize("form", ["json", "jsonlines", "csv"])
async def test_what_is_in_the_file_already_is_left_out(tmp_path: Path, form: str) -> None:
    file = tmp_path / "audit"
    sink = FileSink(FileExport(path=str(file), format=form))  # type: ignore[arg-type]
    first = items(1, 2, 3)
    await sink.send(first)
    await sink.send(first)
    await sink.send([first[2], *items(4)])
    assert sequences(file, form) == [1, 2, 3, 4]
    # A trail that was begun anew has other records under the same numbers.
    await sink.send(items(3, 4, 5))
    assert sequences(file, form) == [1, 2, 3, 4, 3, 4, 5]
    await sink.close()


async def test_a_file_that_was_moved_is_opened_anew(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    sink = FileSink(FileExport(path=str(file)))
    await sink.send(items(1))
    file.rename(tmp_path / "moved")
    await sink.send(items(2))
    assert (sequences(tmp_path / "moved", "jsonlines"), sequences(file, "jsonlines")) == ([1], [2])
    file.unlink()
    await sink.send(items(3))
    assert sequences(file, "jsonlines") == [3]
    await sink.close()


@pytest.mark.parametrize("form", ["json", "jsonlines", "csv"])
async def test_a_large_file_is_renamed_and_an_old_one_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("drift_audit.sinks.file.MIB", 1000)
    file = tmp_path / "audit.log"
    old, other = tmp_path / "audit-20200101T000000.000000Z.log", tmp_path / "audit-notes.log"
    for path in (old, other):
        path.write_text("")
        os.utime(path, (0, 0))
    sink = FileSink(FileExport(path=str(file), format=form, rotation_size_mb=1, retention_days=1))  # type: ignore[arg-type]
    for number in range(1, 25):
        await sink.send(items(number))
    await sink.close()
    rotated = sorted(tmp_path.glob("audit-2*.log"))  # noqa: ASYNC240 - nobody waits here
    assert len(rotated) >= 2
    assert not old.exists()
    assert other.exists()
    every = [number for path in rotated for number in sequences(path, form)]
    every += sequences(file, form) if file.exists() else []
    assert every == list(range(1, 25))


async def test_a_file_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = FileSink(FileExport(path=str(tmp_path / "file" / "audit")))
    with pytest.raises(SinkError, match=r"Not a directory|File exists"):
        await sink.send(items(1))


MESSAGE = re.compile(
    rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (\S+) drift (\d+) (\S{1,32}) "
    rb'\[drift@32473((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\] \xef\xbb\xbf(\{.*\})',
    re.DOTALL,
)
"""RFC 5424 section 6."""

ODD = 'a"b]c\\d\ne'


def check_message(text: bytes) -> dict[str, Any]:
    found = MESSAGE.fullmatch(text)
    assert found is not None, text
    assert int(found[1]) == 13 * 8 + 6
    record: dict[str, Any] = json.loads(found[7])
    (user,) = re.findall(rb' user="((?:[^"\\\]]|\\.)*)"', found[6]) or [b""]
    assert re.sub(r"\\(.)", r"\1", user.decode()) == record["user"].get("username", "")
    return record


async def test_syslog_over_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        sink = SyslogSink(SyslogExport(address=f"127.0.0.1:{server.getsockname()[1]}", protocol="udp"))
        event = AuditEvent(type="Login", username=ODD)
        assert await sink.send([Item(1, encoded(record_of(event, None), 1)), *items(2)]) == []
        first, second = [await asyncio.to_thread(server.recv, 70_000) for _ in range(2)]
    assert check_message(first)["user"]["username"] == 'a"b]c\\d\\u000ae'
    assert check_message(second)["sequence"] == 2


async def read_messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yields messages by their octet counts (RFC 6587 section 3.4.1)."""
    while True:
        try:
            count = await reader.readuntil(b" ")
        except asyncio.IncompleteReadError:
            return
        yield await reader.readexactly(int(count))


@asynccontextmanager
async def stream_server(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[dict[str, Any]], Any]]:
    received: list[dict[str, Any]] = []
    writers: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        async for text in read_messages(reader):
            received.append(check_message(text))  # noqa: PERF401 - the test looks at it meanwhile

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], received, writers
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def test_syslog_over_tcp_counts_octets_and_connects_again() -> None:
    async with stream_server() as (port, received, writers):
        sink = SyslogSink(SyslogExport(address=f"127.0.0.1:{port}", protocol="tcp"))
        await sink.send([Item(1, encoded(record_of(AuditEvent(type="Login", username=ODD), None), 1)), *items(2, 3)])
        await eventually(lambda: len(received) == 3)
        writers[0].close()
        await asyncio.sleep(0.2)
        await sink.send(items(4))
        await eventually(lambda: [record["sequence"] for record in received] == [1, 2, 3, 4])
        await sink.close()
    with pytest.raises(SinkError):
        await sink.send(items(5))


async def test_syslog_over_tls_checks_the_certificate(tmp_path: Path) -> None:
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    command = [tool("openssl"), "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", *subject, *files]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with stream_server(context) as (port, received, _):
        trusting = SyslogSink(SyslogExport(address=f"127.0.0.1:{port}", ca_file=str(tmp_path / "cert.pem")))
        await trusting.send(items(1))
        await eventually(lambda: len(received) == 1)
        await trusting.close()
        stranger = SyslogSink(SyslogExport(address=f"127.0.0.1:{port}"))
        with pytest.raises(SinkError, match="certificate"):
            await stranger.send(items(2))
    assert len(received) == 1
