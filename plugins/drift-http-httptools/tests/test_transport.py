"""The transport keeps the rules of every transport, and what is true of it alone."""

import asyncio
import hashlib
import os
import ssl
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from drift_http_httptools.config import HttpConfig
from drift_http_httptools.connection import Connection
from drift_http_httptools.sendfile import send_file
from drift_http_httptools.transport import open_transport

from drift_core.api import ServerSettings, StartError, Transport
from drift_core.conformance import services
from drift_core.conformance.suites.transport import (
    REQUEST,
    Application,
    OpenTransport,
    Served,
    TransportSuite,
    ask_until_refused,
    read_answer,
    serving,
    until,
)
from tests.tools import tool


def open_with(config: HttpConfig, settings: ServerSettings) -> AbstractAsyncContextManager[Transport]:
    return open_transport(config, services("http-httptools", settings))


class TestHttptools(TransportSuite):
    """On both loops: workers run uvloop where there is one."""

    @pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
        return "asyncio", {"use_uvloop": request.param}

    @pytest.fixture
    def open_transport(self) -> OpenTransport:
        return partial(open_with, HttpConfig())

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[str, str]:
        files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject]
        subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
        return files


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class More(Application):
    """Answers in ways that a server must not pass on as they are."""

    async def missing(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.pathsend", "path": str(self.file) + "-missing"})

    async def short(self, _scope: Any, _receive: Any, send: Any) -> None:
        await self.reply(send, b"x", (b"content-length", b"7"))

    async def smuggle(self, scope: Any, _receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"x", scope["query_string"] + b"\r\ny: z")]}
        )
        await send({"type": "http.response.body", "body": b""})

    async def listens_on(self, _scope: Any, receive: Any, send: Any) -> None:
        """Answers while it waits for the client to leave, as a framework does that streams."""
        await receive()
        leaving = asyncio.create_task(receive())
        await asyncio.sleep(0.05)
        await self.reply(send, b"done")
        self.events.append((await leaving)["type"])
        self.events.append((await receive())["type"])

    async def small(self, _scope: Any, _receive: Any, send: Any) -> None:
        small = self.file.with_name("small")
        small.write_bytes(b"small")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.pathsend", "path": str(small)})


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def app(tmp_path: Path) -> More:
    return More(tmp_path)


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(app: More) -> Serve:
    def serve(**config: Any) -> AbstractAsyncContextManager[Served]:
        return serving(partial(open_with, HttpConfig(**config)), app)

    return serve


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/missing", "/short", "/smuggle"])
async def test_a_defect_of_the_application_is_no_success(serve: Serve, path: str) -> None:
    async with serve() as served:
        answer = await served.ask(path)
        assert (answer.status, dict(answer.headers).get("y")) == (500, None)
        assert (await served.ask("/small")).body == b"small"


async def test_what_waits_for_the_client_to_leave_is_told_that_the_answer_is_complete(serve: Serve, app: More) -> None:
    """ASGI, "Disconnect - receive event"."""
    async with serve() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(REQUEST % (b"GET", b"/listens_on") + b"\r\n")
            assert (await read_answer(reader)).body == b"done"
        await until(lambda: app.events == ["http.disconnect"] * 4)
        writer.close()


async def test_a_long_body_and_what_follows_on_its_connection(serve: Serve) -> None:
    """A long body is read straight from the socket, and its end is longer than a head may be."""
    body = bytes(range(256)) * 40_000
    put = REQUEST % (b"PUT", b"/count") + b"content-length: %d\r\n\r\n" % len(body)
    counted = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    async with serve(max_header_bytes=8192) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(put + body + REQUEST % (b"GET", b"/") + b"\r\n")
            assert (await read_answer(reader)).body == counted
            assert (await read_answer(reader)).body == b"x"
        writer.close()


async def test_a_long_body_that_nobody_wants_is_passed_over(serve: Serve) -> None:
    body = bytes(3_000_000)
    async with serve() as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(REQUEST % (b"PUT", b"/refuse") + b"content-length: %d\r\n\r\n" % len(body) + body)
            writer.write(REQUEST % (b"GET", b"/") + b"\r\n")
            assert (await read_answer(reader)).status == 413
            assert (await read_answer(reader)).body == b"x"
        writer.close()


async def test_the_client_of_a_long_body_leaves(serve: Serve, app: More) -> None:
    """What arrived is handed over, and then that no more will."""
    async with serve() as served:
        _, writer = await served.connect()
        writer.write(REQUEST % (b"PUT", b"/count") + b"content-length: 1000000\r\n\r\n" + bytes(400_000))
        await until(lambda: app.received > 0)
        writer.close()
        await until(lambda: "http.disconnect" in app.events)
        assert app.received == 400_000


async def test_files_larger_than_what_a_socket_holds(serve: Serve, app: More) -> None:
    content = os.urandom(30_000_001)
    app.file.write_bytes(content)
    async with serve() as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(REQUEST % (b"GET", b"/blob") + b"\r\n")
        await asyncio.sleep(0.2)
        for _ in range(2):
            assert (await read_answer(reader)).body == content
        writer.close()


async def test_a_client_that_leaves_a_file_half_read(serve: Serve, app: More) -> None:
    app.file.write_bytes(bytes(50_000_000))
    async with serve() as served:
        # The first connection of a loop opens what stays.
        await served.raw(REQUEST % (b"GET", b"/") + b"connection: close\r\n\r\n")
        before = open_files()
        for _ in range(10):
            reader, writer = await served.connect()
            writer.write(REQUEST % (b"GET", b"/blob") + b"\r\n")
            await reader.readexactly(100_000)
            writer.transport.abort()
        await until(lambda: open_files() <= before)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"FOO / HTTP/1.1\r\nhost: x\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (REQUEST % (b"PUT", b"/count") + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello", b"400"),
        (REQUEST % (b"GET", b"/") + b"x: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (REQUEST % (b"GET", b"/") + b"x: " + b"a" * 900_000, b"431"),
    ],
)
async def test_what_is_refused(serve: Serve, app: More, request_: bytes, status: bytes) -> None:
    async with serve(max_header_bytes=8192) as served:
        assert (await served.raw(request_)).split()[1] == status
        assert app.scopes == []


async def test_other_forms_of_a_request(serve: Serve) -> None:
    """The absolute form, HTTP/1.0 with and without a kept connection, and an upgrade that is not taken."""
    async with serve() as served:
        absolute = await served.raw(b"GET http://a.example/count?n=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert absolute.startswith(b"HTTP/1.1 200")
        assert (served.app.scopes[-1]["path"], served.app.scopes[-1]["query_string"]) == ("/count", b"n=1")
        assert (await served.raw(b"GET /stream HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")
        kept = b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
        assert (await served.raw(kept + b"GET / HTTP/1.0\r\n\r\n")).count(b"HTTP/1.1 200") == 2
        upgrade = (
            REQUEST % (b"GET", b"/")
            + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n"
        )
        answer = await served.raw(upgrade)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer


async def test_who_says_nothing_is_cut_off(serve: Serve) -> None:
    async with serve(header_read_timeout=0.4) as served:
        for begun in (b"", REQUEST % (b"GET", b"/"), REQUEST % (b"GET", b"/") + b"\r\n"):
            answer = await served.raw(begun)
            assert (b" 200 " in answer) == begun.endswith(b"\r\n\r\n")


async def test_connections_beyond_the_limit_wait(app: More) -> None:
    def open_small(settings: ServerSettings) -> AbstractAsyncContextManager[Transport]:
        return open_with(HttpConfig(), msgspec.structs.replace(settings, max_connections=2))

    async with serving(open_small, app) as served:
        held = [await served.connect() for _ in range(2)]
        waiting = asyncio.create_task(served.ask("/"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        held[0][1].close()
        assert (await waiting).status == 200


async def test_a_stop_under_load_fails_no_request(app: More, serve: Serve) -> None:
    async with serve() as served:
        clients = [asyncio.create_task(ask_until_refused(served)) for _ in range(32)]
        await until(lambda: len(app.scopes) > 1000)
        served.task.cancel()
        assert min(await asyncio.wait_for(asyncio.gather(*clients), 30)) > 0


def signed(folder: Path, name: str, authority: str | None = None) -> tuple[str, str]:
    """Makes a certificate and its key, signed by an authority that was made here or by itself."""
    files = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    by = (
        []
        if authority is None
        else ["-CA", str(folder / f"{authority}.pem"), "-CAkey", str(folder / f"{authority}.key")]
    )
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *by]
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


async def test_a_certificate_of_the_client_is_shown_to_the_application(app: More, tmp_path: Path) -> None:
    """Who has none is served, too: whether it is needed is not the transport's to say."""
    server, _ = signed(tmp_path, "server"), signed(tmp_path, "authority")
    client = signed(tmp_path, "client", "authority")
    trust = ssl.create_default_context(cafile=server[0])
    files = (*server, str(tmp_path / "authority.pem"))
    async with serving(partial(open_with, HttpConfig()), app, files=files) as served:
        await served.ask("/", trust=trust)
        trust.load_cert_chain(*client)
        await served.ask("/", trust=trust)
    chains = [scope["extensions"]["tls"]["client_cert_chain"] for scope in app.scopes]
    assert chains == [[], [await asyncio.to_thread(Path(client[0]).read_text)]]


async def test_a_certificate_that_no_authority_signed_is_refused(app: More, tmp_path: Path) -> None:
    server, _ = signed(tmp_path, "server"), signed(tmp_path, "authority")
    trust = ssl.create_default_context(cafile=server[0])
    trust.load_cert_chain(*signed(tmp_path, "stranger"))
    files = (*server, str(tmp_path / "authority.pem"))
    async with serving(partial(open_with, HttpConfig()), app, files=files) as served:
        with pytest.raises(OSError):  # noqa: PT011 - reset or alert, as the client reads it
            await served.ask("/", trust=trust)
    assert app.scopes == []


async def test_authorities_that_cannot_be_read_are_a_clear_error(app: More, tmp_path: Path) -> None:
    files = (*signed(tmp_path, "server"), str(tmp_path / "missing.pem"))
    with pytest.raises(StartError, match=r"tls\.client_ca_file"):
        async with serving(partial(open_with, HttpConfig()), app, files=files):
            pass


class ClosedTransport:
    """What a transport of uvloop does once its socket is closed."""

    def is_closing(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int) -> None:
        raise RuntimeError(high)


async def test_a_client_that_left_as_a_file_begins_or_ends_is_no_failure() -> None:
    connection: Any = SimpleNamespace(transport=ClosedTransport(), site=SimpleNamespace(tls=None))
    Connection.limit_writing(connection)
    with pytest.raises(ConnectionResetError):
        await send_file(connection, b"", 0, 1)
