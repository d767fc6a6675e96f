"""The transport, driven over real sockets: methods, bodies, back-pressure, TLS, drain."""

import asyncio
import hashlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from drift_http_granian.config import HttpConfig
from drift_http_granian.transport import GranianTransport, open_transport

from drift_core.api import ServerSettings, Services, StartError
from tests.server import free_port
from tests.tools import tool

MIB = 1 << 20
H2C = "--http2-prior-knowledge"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Application:
    """Answers by path, and keeps what it saw."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.file.write_bytes(b"0123456789" * MIB)
        self.events: list[str] = []
        self.sent = 0
        self.release = asyncio.Event()
        self.entered = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await getattr(self, scope["path"].strip("/") or "root")(scope, receive, send)

    async def reply(self, send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    async def root(self, _scope: Any, _receive: Any, send: Any) -> None:
        await self.reply(send, b"x", (b"link", b"a"), (b"link", b"b"), (b"content-length", b"1"))

    async def count(self, _scope: Any, receive: Any, send: Any) -> None:
        state, size = hashlib.sha256(), 0
        while True:
            event = await receive()
            self.events.append(event["type"])
            if event["type"] == "http.disconnect":
                return
            size += len(event["body"])
            state.update(event["body"])
            if not event["more_body"]:
                await self.reply(send, f"{size} {state.hexdigest()}".encode())
                return

    async def refuse(self, _scope: Any, _receive: Any, send: Any) -> None:
        await self.reply(send, b"too large", status=413)

    async def download(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(512):
            await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body", "body": b""})

    async def path(self, scope: Any, _receive: Any, send: Any) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        size = str(self.file.stat().st_size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        await send({"type": "http.response.pathsend", "path": str(self.file)})

    async def endless(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
        except OSError:
            self.events.append("gone")
            raise

    async def broken(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        message = "broken on purpose"
        raise ValueError(message)

    async def missing(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.pathsend", "path": str(self.file) + "-missing"})

    async def wait(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.entered.set()
        await self.release.wait()
        await self.reply(send, b"done")


@asynccontextmanager
async def serving(app: Application, **options: Any) -> AsyncIterator[tuple[str, int, "asyncio.Task[None]"]]:
    """Serves the application and yields scheme, port and the task that serves."""
    port = free_port()
    settings = ServerSettings(f"127.0.0.1:{port}", 1000, options.pop("drain", 5.0), *options.pop("tls", (None, None)))
    services = Services("http-granian", structlog.get_logger(), settings)
    ready = asyncio.Event()
    async with open_transport(HttpConfig(**options), services) as transport:
        task = asyncio.create_task(transport.serve(app, ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            task.result()
        try:
            yield "https" if settings.cert_file else "http", port, task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def raw(port: int, request: bytes, *, end: bool = False) -> bytes:
    """Sends bytes as they are and returns everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if end:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@pytest.fixture
async def app(tmp_path: Path) -> Application:
    return Application(tmp_path)


async def test_repeated_headers_stay(app: Application) -> None:
    async with serving(app) as (_, port, _):
        answer = await raw(port, b"GET /?q HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.lower().count(b"\r\nlink: ") == 2


async def test_head_keeps_the_length_and_has_no_body(app: Application) -> None:
    async with serving(app) as (_, port, _):
        for path in (b"/", b"/path"):
            answer = await raw(port, b"HEAD " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"content-length: " in answer.lower()
            assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_upload_arrives_whole(app: Application, *, chunked: bool) -> None:
    body = bytes(range(256)) * 40_000
    async with serving(app) as (scheme, port, _), httpx.AsyncClient() as client:
        content = (body[place : place + 70_000] for place in range(0, len(body), 70_000)) if chunked else body
        sent = content if not chunked else _asynchronous(content)
        answer = await client.post(f"{scheme}://127.0.0.1:{port}/count", content=sent)
        assert answer.text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


async def _asynchronous(parts: Any) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    "request_", [b"content-length: 100\r\n\r\nshort", b"transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"]
)
async def test_a_body_that_is_cut_short_is_a_disconnect(app: Application, request_: bytes) -> None:
    async with serving(app) as (_, port, _):
        await raw(port, b"POST /count HTTP/1.1\r\nhost: x\r\n" + request_, end=True)
        async with asyncio.timeout(10):
            while "http.disconnect" not in app.events:
                await asyncio.sleep(0.01)


async def test_a_client_that_expects_100_is_told_to_continue(app: Application) -> None:
    async with serving(app) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /count HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 100")
        writer.write(b"hello")
        assert b"5 2cf24dba" in await asyncio.wait_for(reader.readuntil(b"9824"), 10)
        writer.close()


async def test_an_answer_that_does_not_wait_for_the_body_arrives(app: Application) -> None:
    async with serving(app) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
        assert b" 413 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()


async def test_a_client_that_sends_all_before_it_listens_hears_the_refusal(app: Application) -> None:
    def upload(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"PUT /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (64 * MIB))
            for _ in range(64):
                client.sendall(bytes(MIB))
            return client.recv(65536)

    async with serving(app) as (_, port, _):
        assert b" 413 " in await asyncio.to_thread(upload, port)


async def test_a_refusal_does_not_ask_for_the_body(app: Application) -> None:
    async with serving(app) as (_, port, _):
        request = b"PUT /refuse HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        answer = await raw(port, request)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b" 100 " not in answer


async def test_a_stream_ends_when_its_reader_leaves(app: Application) -> None:
    async with serving(app) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.read(65536)
        writer.close()
        async with asyncio.timeout(10):
            while "gone" not in app.events:
                await asyncio.sleep(0.01)


async def test_an_answer_that_breaks_off_does_not_look_whole(app: Application) -> None:
    async with serving(app) as (_, port, _):
        answer = await raw(port, b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"half" in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_a_file_that_is_not_there_is_not_an_empty_success(app: Application) -> None:
    async with serving(app) as (_, port, _):
        answer = await raw(port, b"GET /missing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(("http", "flag"), [("auto", "--http1.1"), ("auto", H2C), ("1", "--http1.1"), ("2", H2C)])
async def test_versions_are_spoken_as_configured(app: Application, tmp_path: Path, http: str, flag: str) -> None:
    async with serving(app, http=http) as (scheme, port, _):
        received = tmp_path / "received"
        arguments = ["--silent", flag, "--output", str(received), "--write-out", "%{http_version}"]
        command = await asyncio.create_subprocess_exec(
            tool("curl"), *arguments, f"{scheme}://127.0.0.1:{port}/path", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await command.communicate()
        assert said == (b"2" if flag == H2C else b"1.1")
        assert received.read_bytes() == app.file.read_bytes()


async def test_a_file_is_sent_by_the_server(app: Application) -> None:
    async with serving(app) as (scheme, port, _), httpx.AsyncClient() as client:
        answer = await client.get(f"{scheme}://127.0.0.1:{port}/path")
        assert answer.content == app.file.read_bytes()


async def test_a_slow_reader_holds_the_sender_back(app: Application) -> None:
    async with serving(app) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
        writer.write(b"GET /download HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readline()
        before = -1
        while before != app.sent:
            before = app.sent
            await asyncio.sleep(0.3)
        assert app.sent < 64
        writer.close()


async def test_headers_beyond_the_limit_are_refused(app: Application) -> None:
    async with serving(app, max_header_bytes=16384) as (_, port, _):
        ok = await raw(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: " + b"a" * 8000 + b"\r\n\r\n")
        assert b" 200 " in ok.splitlines()[0]
        refused = await raw(port, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: " + b"a" * 40000 + b"\r\n\r\n")
        assert b" 431 " in refused.splitlines()[0]


async def test_a_client_that_never_ends_its_headers_is_cut_off(app: Application) -> None:
    async with serving(app, header_read_timeout=0.5) as (_, port, _):
        assert b" 200 " not in await raw(port, b"GET / HTTP/1.1\r\nhost: x\r\n")


async def test_a_thousand_idle_connections_do_not_stop_service(app: Application) -> None:
    async with serving(app) as (scheme, port, _), httpx.AsyncClient() as client:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(900)]
        assert (await client.get(f"{scheme}://127.0.0.1:{port}/count")).status_code == 200
        for _, writer in idle:
            writer.close()


async def test_a_drain_lets_running_requests_end_and_accepts_no_new_ones(app: Application) -> None:
    async with serving(app) as (scheme, port, task), httpx.AsyncClient() as client:
        running = asyncio.create_task(client.get(f"{scheme}://127.0.0.1:{port}/wait", timeout=20))
        await app.entered.wait()
        task.cancel()
        async with asyncio.timeout(10):
            while await _accepts(port):
                await asyncio.sleep(0.05)
        assert not running.done()
        app.release.set()
        assert (await running).text == "done"
        with pytest.raises(asyncio.CancelledError):
            await task


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("http", ["auto", "1"])
async def test_a_stop_under_load_fails_no_request(app: Application, http: str) -> None:
    async with serving(app, http=http) as (_, port, task):
        clients = [asyncio.create_task(_ask_until_refused(port)) for _ in range(32)]
        await asyncio.sleep(0.5)
        task.cancel()
        answered = await asyncio.wait_for(asyncio.gather(*clients), 30)
        assert min(answered) > 0


async def _ask_until_refused(port: int) -> int:
    """Asks again and again, on one connection while it lasts; raises where an answer is missing."""
    answered = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return answered
        last = False
        while not last:
            writer.write(b"PUT /count HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len("5 ") + 64)
            answered += 1
            last = b"connection: close" in head
        writer.close()


async def test_idle_connections_do_not_hold_a_drain_up(app: Application) -> None:
    async with serving(app, drain=30.0) as (_, port, task):
        fresh = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        used = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for reader, writer in used:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nx")
        task.cancel()
        await asyncio.wait_for(asyncio.wait([task]), 10)
        for _, writer in fresh + used:
            writer.close()


async def test_a_slow_upload_and_a_slow_download_end_within_the_drain(app: Application) -> None:
    async with serving(app, drain=20.0) as (_, port, task):
        down, down_writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
        down_writer.write(b"GET /path HTTP/1.1\r\nhost: x\r\n\r\n")
        await down.readuntil(b"\r\n\r\n")
        up, up_writer = await asyncio.open_connection("127.0.0.1", port)
        up_writer.write(b"PUT /count HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello")
        while "http.request" not in app.events:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(1)
        up_writer.write(b"hello")
        assert b"10 " in await asyncio.wait_for(up.read(), 10)
        whole = await asyncio.wait_for(down.read(), 20)
        assert whole == app.file.read_bytes()
        down_writer.close()
        up_writer.close()


async def test_a_drain_ends_in_time_whatever_runs(app: Application) -> None:
    async with serving(app, drain=0.5) as (scheme, port, task), httpx.AsyncClient() as client:
        running = asyncio.create_task(client.get(f"{scheme}://127.0.0.1:{port}/wait", timeout=30))
        await app.entered.wait()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done == {task}
        app.release.set()
        running.cancel()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return make_certificate(tmp_path, "rsa:2048", "-nodes")


def make_certificate(folder: Path, *key: str) -> tuple[str, str]:
    """Returns the files of a new certificate and its key of the kind that openssl's options name."""
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [tool("openssl"), "req", "-x509", "-newkey", *key, *subject, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


async def test_tls_offers_http_2_and_checks_out(app: Application, certificate: tuple[str, str]) -> None:
    trust = ssl.create_default_context(cafile=certificate[0])
    trust.set_alpn_protocols(["h2"])
    async with serving(app, tls=certificate) as (_, port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "h2"
        writer.close()
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=certificate[0])) as client:
            assert (await client.get(f"https://127.0.0.1:{port}/path")).content == app.file.read_bytes()


async def test_a_certificate_that_is_not_there_is_a_clear_error(app: Application, certificate: tuple[str, str]) -> None:
    for tls in (("/missing.pem", certificate[1]), (certificate[1], certificate[0]), (certificate[0], None)):
        with pytest.raises(StartError, match=r"tls\."):
            async with serving(app, tls=tls):
                pass


@pytest.mark.parametrize(
    "key", [["ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-nodes"], ["rsa:2048", "-passout", "pass:secret"]]
)
async def test_a_key_that_cannot_be_used_is_a_clear_error(app: Application, tmp_path: Path, key: list[str]) -> None:
    files = make_certificate(tmp_path, *key)
    with pytest.raises(StartError, match=r"tls\."):
        async with serving(app, tls=files):
            pass


@pytest.mark.parametrize("key", [["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], ["ed25519"]])
async def test_a_key_of_a_modern_kind_serves(app: Application, tmp_path: Path, key: list[str]) -> None:
    files = make_certificate(tmp_path, *key, "-nodes")
    trust = ssl.create_default_context(cafile=files[0])
    async with serving(app, tls=files) as (_, port, _), httpx.AsyncClient(verify=trust) as client:
        assert (await client.get(f"https://127.0.0.1:{port}/")).text == "x"


@pytest.mark.parametrize("address", ["192.0.2.1:5000", "nowhere.invalid:5000", "127.0.0.1:http"])
async def test_an_address_that_cannot_be_used_is_a_clear_error(app: Application, address: str) -> None:
    services = Services("http-granian", structlog.get_logger(), ServerSettings(address, 10, 1.0))
    async with open_transport(HttpConfig(), services) as transport:
        with pytest.raises(StartError, match=f"cannot listen on {address}"):
            await transport.serve(app, lambda: None)


async def test_a_port_that_another_server_does_not_share_is_a_clear_error(app: Application) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        services = Services("http-granian", structlog.get_logger(), ServerSettings(address, 10, 1.0))
        async with open_transport(HttpConfig(), services) as transport:
            with pytest.raises(StartError, match=f"cannot listen on {address}: Address already in use"):
                await transport.serve(app, lambda: None)


def test_the_seam_is_typed() -> None:
    serve: Callable[..., Awaitable[None]] = GranianTransport.serve
    assert asyncio.iscoroutinefunction(serve)
