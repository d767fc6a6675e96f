"""The rules of every `Transport`, over real sockets."""

import asyncio
import hashlib
import http.client
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec import Struct

from drift_core.api import ServerSettings, StartError, Transport
from drift_core.conformance.rules import Suite

MIB = 1 << 20
PATIENCE = 20.0
"""Seconds after which something counts as never happening."""

DRAIN = 5.0
"""Seconds of a drain, where a rule needs no other."""

IN_FLIGHT = 64 * MIB
"""Most bytes of one transfer that a transport and the kernel may hold between a fast and a slow side."""

SETTLE = 0.3
"""Seconds without progress after which a transfer counts as held back."""

OpenTransport = Callable[[ServerSettings], AbstractAsyncContextManager[Transport]]
Message = dict[str, Any]


class Application:
    """An ASGI application that answers by path, and keeps what it saw."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.file.write_bytes(b"0123456789" * MIB)
        self.scopes: list[Message] = []
        self.events: list[str] = []
        self.sent = 0
        self.received = 0
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Runs the method that the first part of the path names."""
        self.scopes.append(scope)
        await getattr(self, scope["path"].split("/")[1] or "root")(scope, receive, send)

    async def reply(self, send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        """Sends an answer of one part, with its length."""
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await send({"type": "http.response.body", "body": body})

    async def root(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answers with one header twice."""
        await self.reply(send, b"x", (b"link", b"a"), (b"link", b"b"))

    async def count(self, _scope: Any, receive: Any, send: Any) -> None:
        """Reads the body and answers with its size and digest."""
        state, size = hashlib.sha256(), 0
        while True:
            event = await receive()
            self.events.append(event["type"])
            if event["type"] == "http.disconnect":
                return
            body = event.get("body", b"")
            size += len(body)
            self.received = size
            state.update(body)
            if not event.get("more_body", False):
                await self.reply(send, f"{size} {state.hexdigest()}".encode())
                return

    async def refuse(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answers without reading the body."""
        await self.reply(send, b"too large", status=413)

    async def fail(self, _scope: Any, _receive: Any, _send: Any) -> None:
        """Fails before it answers."""
        message = "a secret of the application"
        raise ValueError(message)

    async def half(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Fails in the middle of an answer without a length."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        message = "broken on purpose"
        raise ValueError(message)

    async def part(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answers with a part of a blob."""
        headers = (b"content-range", b"bytes 2-4/10"), (b"accept-ranges", b"bytes")
        await self.reply(send, b"234", *headers, status=206)

    async def empty(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answers with a status that has no body."""
        await self.reply(send, b"", status=204)

    async def download(self, scope: Any, _receive: Any, send: Any) -> None:
        """Sends 512 MiB."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(512 if scope["method"] == "GET" else 0):
            await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
            self.sent += MIB
        await send({"type": "http.response.body", "body": b""})

    async def blob(self, scope: Any, _receive: Any, send: Any) -> None:
        """Sends 10 MiB by the server's own means, where it has them, as the registry does."""
        size = str(self.file.stat().st_size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        if "http.response.pathsend" in scope["extensions"]:
            await send({"type": "http.response.pathsend", "path": str(self.file)})
        else:
            await send({"type": "http.response.body", "body": self.file.read_bytes()})

    async def stream(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Sends the same 10 MiB in parts."""
        size = str(self.file.stat().st_size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        content = self.file.read_bytes()
        for place in range(0, len(content), MIB):
            await send({"type": "http.response.body", "body": content[place : place + MIB], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def endless(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Sends until the client leaves."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(MIB), "more_body": True})
        except OSError:
            self.events.append("gone")
            raise

    async def wait(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answers when it is released."""
        self.entered.set()
        await self.release.wait()
        await self.reply(send, b"done")

    async def held(self, _scope: Any, receive: Any, send: Any) -> None:
        """Reads a body only when it is released."""
        self.entered.set()
        await self.release.wait()
        await self.count(_scope, receive, send)


class Answer(Struct, frozen=True):
    """What a client got; header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Served(Struct, frozen=True):
    """An application that is served on a port of this machine by ``task``."""

    app: Application
    port: int
    task: "asyncio.Task[None]"
    connections: list[asyncio.StreamWriter] = []

    async def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> Answer:
        """Asks as an ordinary client does; an iterable body is sent in chunks."""
        return await asyncio.wait_for(asyncio.to_thread(self._ask, path, method, body, headers or {}, trust), PATIENCE)

    def _ask(
        self,
        path: str,
        method: str,
        body: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
        trust: ssl.SSLContext | None,
    ) -> Answer:
        client = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            if trust is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=trust)
        )
        try:
            client.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes | None))
            answer = client.getresponse()
            names = [(name.lower(), value) for name, value in answer.getheaders()]
            return Answer(answer.status, names, answer.read())
        finally:
            client.close()

    async def raw(self, request: bytes, *, end: bool = False) -> bytes:
        """Sends bytes as they are, ``end`` closes that direction; returns everything that comes back."""
        reader, writer = await self.connect()
        answer = b""
        # A reset ends the answer, too; a time-out, which is an `OSError` as well, does not.
        async with asyncio.timeout(PATIENCE):
            with suppress(OSError):
                writer.write(request)
                if end:
                    writer.write_eof()
                while part := await reader.read(65536):
                    answer += part
        await close(writer)
        return answer

    async def connect(self, trust: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Opens a connection that buffers little; what is left open is closed at the end."""
        opening = asyncio.open_connection("127.0.0.1", self.port, ssl=trust, limit=65536)
        reader, writer = await asyncio.wait_for(opening, PATIENCE)
        self.connections.append(writer)
        return reader, writer

    async def refuses(self) -> None:
        """Returns when nobody listens any more."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                while True:
                    _, writer = await self.connect()
                    await close(writer)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer that states its length, on a connection that may go on."""
    async with asyncio.timeout(PATIENCE):
        first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        return Answer(int(first.split()[1]), headers, await reader.readexactly(int(dict(headers)["content-length"])))


async def ask_until_refused(served: Served) -> int:
    """Asks again and again, on one connection while it lasts; raises where an answer is missing."""
    answered = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        except OSError:
            return answered
        last = False
        while not last:
            writer.write(REQUEST % (b"PUT", b"/count") + b"content-length: 5\r\n\r\nhello")
            answer = await read_answer(reader)
            answered += 1
            last = ("connection", "close") in answer.headers
        writer.close()


async def close(writer: asyncio.StreamWriter) -> None:
    """Closes a connection, whatever its state."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def until(reached: Callable[[], bool]) -> None:
    """Returns when something has happened, and fails where it never does."""
    async with asyncio.timeout(PATIENCE):
        while not reached():  # noqa: ASYNC110 - on the other side of a socket there is nothing to wait for
            await asyncio.sleep(0.01)


async def settled(amount: Callable[[], int]) -> int:
    """Returns the amount when it grows no more."""
    async with asyncio.timeout(PATIENCE):
        before = -1
        while before != (now := amount()):
            before = now
            await asyncio.sleep(SETTLE)
    return before


def free_address() -> str:
    """Returns an address of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def serving(
    open_transport: OpenTransport,
    app: Application,
    *,
    address: str | None = None,
    drain: float | None = None,
    files: tuple[str | None, ...] = (),
) -> AsyncIterator[Served]:
    """Opens a transport and serves, until it is left or the task is cancelled."""
    address = address or free_address()
    drain = DRAIN if drain is None else drain
    ready = asyncio.Event()
    certificate, key, clients = (*files, None, None, None)[:3]
    async with open_transport(ServerSettings(address, 2000, drain, certificate, key, clients)) as transport:
        task = asyncio.create_task(transport.serve(app, ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([task, waiting], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        assert ready.is_set(), "ready was never called"
        served = Served(app, int(address.rpartition(":")[2]), task)
        try:
            yield served
        finally:
            await asyncio.gather(*(close(writer) for writer in served.connections))
            app.release.set()
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE + drain)
            assert task.done(), "a cancelled transport did not return"


REQUEST = b"%s %s HTTP/1.1\r\nhost: x\r\n"


class TransportSuite(Suite):
    """The rules of a `Transport` that speaks HTTP/1.1, whatever else it speaks.

    Fixtures: ``open_transport``, a function that opens the driver for given `ServerSettings`; ``certificate``, the
    files of a certificate for 127.0.0.1 and of its key, or None, and the rules of TLS are skipped. ``large`` is the
    size in bytes of the body that an application reads slowly, ``idle`` the number of idle connections.
    """

    family = "transport"
    subject = "transport"

    large: ClassVar[int] = 256 * MIB
    idle: ClassVar[int] = 1000

    @pytest.fixture
    async def transport(self, open_transport: OpenTransport) -> AsyncIterator[Transport]:
        """The opened driver, which does not serve."""
        async with open_transport(ServerSettings(free_address(), 2000, DRAIN)) as transport:
            yield transport

    @pytest.fixture
    async def app(self) -> AsyncIterator[Application]:
        """What is served."""
        with tempfile.TemporaryDirectory() as folder:
            yield Application(Path(folder))

    @pytest.fixture
    async def served(self, open_transport: OpenTransport, app: Application) -> AsyncIterator[Served]:
        """The application, served."""
        async with serving(open_transport, app) as served:
            yield served

    async def test_get(self, served: Served) -> None:
        """Status, body and headers arrive as they were sent; a header that was sent twice arrives twice."""
        answer = await served.ask("/")
        assert (answer.status, answer.body) == (200, b"x")
        assert [value for name, value in answer.headers if name == "link"] == ["a", "b"]
        assert (await served.ask("/empty")).status == 204

    async def test_scope(self, served: Served) -> None:
        """The application sees method, raw path, query, headers and client as they were sent."""
        await served.ask("/count/a%2Fb%20c?n=1&last=x%2Fy", "PUT", b"hello", {"X-One": "1"})
        (scope,) = served.app.scopes
        assert (scope["type"], scope["method"], scope["scheme"]) == ("http", "PUT", "http")
        assert (scope["path"], scope["query_string"]) == ("/count/a/b c", b"n=1&last=x%2Fy")
        assert scope["raw_path"].partition(b"?")[0] == b"/count/a%2Fb%20c"
        assert (b"x-one", b"1") in [tuple(header) for header in scope["headers"]]
        assert scope["client"][0] == "127.0.0.1"

    async def test_head(self, served: Served) -> None:
        """HEAD is answered with the length of the body and without the body."""
        for path, size in ((b"/", b"1"), (b"/blob", str(served.app.file.stat().st_size).encode())):
            answer = await served.raw(REQUEST % (b"HEAD", path) + b"connection: close\r\n\r\n")
            head, _, body = answer.lower().partition(b"\r\n\r\n")
            assert b"content-length: " + size in head.split(b"\r\n")
            assert body == b""

    async def test_partial_content(self, served: Served) -> None:
        """An answer of 206 keeps its range and its length."""
        answer = await served.ask("/part", headers={"range": "bytes=2-4"})
        assert (answer.status, answer.body) == (206, b"234")
        assert {("content-range", "bytes 2-4/10"), ("content-length", "3")} <= set(answer.headers)

    async def test_file(self, served: Served) -> None:
        """A file arrives whole, whether the transport sends it by itself or not."""
        assert (await served.ask("/blob")).body == served.app.file.read_bytes()

    async def test_keep_alive(self, served: Served) -> None:
        """One connection carries many requests, with and without a body, also where the next arrives early."""
        reader, writer = await served.connect()
        put = REQUEST % (b"PUT", b"/count") + b"content-length: 5\r\n\r\nhello"
        get = REQUEST % (b"GET", b"/") + b"\r\n"
        counted = f"5 {hashlib.sha256(b'hello').hexdigest()}".encode()
        for requests, bodies in ((put, [counted]), (get, [b"x"]), (put + get + put, [counted, b"x", counted])):
            writer.write(requests)
            assert [(await read_answer(reader)).body for _ in bodies] == bodies
        await close(writer)

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_upload(self, served: Served, *, chunked: bool) -> None:
        """A body arrives whole, whether its length is known or it comes in chunks."""
        body = bytes(range(256)) * 40_000
        parts = [body[place : place + 70_000] for place in range(0, len(body), 70_000)]
        answer = await served.ask("/count", "POST", parts if chunked else body)
        assert answer.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"

    @pytest.mark.parametrize(
        "rest", [b"content-length: 100\r\n\r\nshort", b"transfer-encoding: chunked\r\n\r\n5\r\nshort\r\n"]
    )
    async def test_body_cut_short(self, served: Served, rest: bytes) -> None:
        """A body that the client cuts short is a disconnect to the application, and never looks whole."""
        await served.raw(REQUEST % (b"POST", b"/count") + rest, end=True)
        await until(lambda: "http.disconnect" in served.app.events)

    async def test_reset(self, served: Served) -> None:
        """A connection that is reset in the middle of a body is a disconnect, and others are served on."""
        _, writer = await served.connect()
        writer.write(REQUEST % (b"PUT", b"/count") + b"content-length: 100\r\n\r\nhello")
        await until(lambda: served.app.received == 5 or bool(served.app.events))
        # Closed without lingering, a socket sends a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await close(writer)
        await until(lambda: "http.disconnect" in served.app.events)
        assert (await served.ask("/")).status == 200

    async def test_continue(self, served: Served) -> None:
        """A client that waits for 100 Continue gets it when the application reads the body."""
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"POST", b"/count") + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"hello")
        assert (await read_answer(reader)).body.startswith(b"5 2cf24dba")
        await close(writer)

    async def test_refusal_without_continue(self, served: Served) -> None:
        """A body that the application does not read is not asked for."""
        rest = b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        answer = await served.raw(REQUEST % (b"PUT", b"/refuse") + rest)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b" 100 " not in answer

    async def test_early_answer(self, served: Served) -> None:
        """An answer that does not wait for the body arrives before the body does."""
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"PUT", b"/refuse") + b"content-length: 100000000\r\n\r\n")
        assert (await read_answer(reader)).status == 413
        await close(writer)

    async def test_refusal_is_heard(self, served: Served) -> None:
        """A client that sends its whole body before it listens still gets the answer that did not want it."""

        def upload() -> bytes:
            with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as client:
                client.sendall(REQUEST % (b"PUT", b"/refuse") + b"content-length: %d\r\n\r\n" % (64 * MIB))
                for _ in range(64):
                    client.sendall(bytes(MIB))
                return client.recv(65536)

        assert b" 413 " in await asyncio.to_thread(upload)

    async def test_half_close(self, served: Served) -> None:
        """A client that closes its side after the request gets its answer, or a close; others are served on."""
        answer = await served.raw(REQUEST % (b"GET", b"/") + b"\r\n", end=True)
        assert answer == b"" or (answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"x"))
        assert (await served.ask("/")).body == b"x"

    async def test_reader_leaves(self, served: Served) -> None:
        """When the client of a streamed answer leaves, `send` raises `OSError`, and the stream can end."""
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"GET", b"/endless") + b"\r\n")
        await asyncio.wait_for(reader.read(65536), PATIENCE)
        await close(writer)
        await until(lambda: "gone" in served.app.events)

    async def test_broken_answer(self, served: Served) -> None:
        """An answer that breaks off in the middle does not look whole."""
        answer = await served.raw(REQUEST % (b"GET", b"/half") + b"\r\n")
        assert not answer.endswith(b"0\r\n\r\n")
        assert (await served.ask("/")).status == 200

    async def test_failing_application(self, served: Served) -> None:
        """An application that fails before it answers is a 5xx that tells nothing, and others are served on."""
        answer = await served.ask("/fail")
        assert 500 <= answer.status <= 599
        assert b"secret" not in answer.body
        assert (await served.ask("/")).status == 200

    async def test_slow_reader(self, served: Served) -> None:
        """A client that reads slowly holds the application back: what is in flight is bounded."""
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"GET", b"/download") + b"\r\n")
        await asyncio.wait_for(reader.readline(), PATIENCE)
        assert await settled(lambda: served.app.sent) < IN_FLIGHT
        await close(writer)

    async def test_slow_application(self, served: Served) -> None:
        """An application that reads slowly holds the client back: what is in flight is bounded, and arrives whole."""
        size, sent = self.large, 0
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"PUT", b"/held") + b"content-length: %d\r\n\r\n" % size)

        async def upload() -> None:
            nonlocal sent
            while sent < size:
                writer.write(bytes(MIB))
                await writer.drain()
                sent += MIB

        uploading = asyncio.create_task(upload())
        await asyncio.wait_for(served.app.entered.wait(), PATIENCE)
        assert await settled(lambda: sent) < IN_FLIGHT
        served.app.release.set()
        async with asyncio.timeout(3 * PATIENCE):
            await uploading
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert served.app.received == size
        await close(writer)

    async def test_slow_clients(self, served: Served) -> None:
        """Clients that send their requests a byte at a time, or stop in the middle, do not hold up others."""
        slow = [await served.connect() for _ in range(100)]
        request = REQUEST % (b"GET", b"/") + b"\r\n"
        for place in range(len(request) - 1):
            for _, writer in slow:
                writer.write(request[place : place + 1])
                await writer.drain()
        assert (await served.ask("/")).status == 200
        for reader, writer in slow:
            writer.write(request[-1:])
            assert (await read_answer(reader)).body == b"x"
            await close(writer)

    async def test_long_head(self, served: Served) -> None:
        """A head of 8 KiB is accepted; one of 4 MiB is refused, and never reaches the application."""
        for size, accepted in ((8000, True), (4 * MIB, False)):
            served.app.scopes.clear()
            head = REQUEST % (b"GET", b"/") + b"connection: close\r\nx: " + b"a" * size + b"\r\n\r\n"
            answer = await served.raw(head)
            assert answer.startswith(b"HTTP/1.1 200") == accepted
            assert answer == b"" or accepted or answer.split()[1].startswith(b"4")
            assert bool(served.app.scopes) == accepted

    @pytest.mark.parametrize(
        "request_",
        [
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
            REQUEST % (b"PUT", b"/count") + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            REQUEST % (b"PUT", b"/count") + b"content-length: five\r\n\r\nhello",
            REQUEST % (b"PUT", b"/count") + b"content-length: -5\r\n\r\nhello",
            REQUEST % (b"PUT", b"/count") + b"transfer-encoding: gzip\r\n\r\nhello",
        ],
        ids=["line", "space", "two-lengths", "no-number", "negative", "coding"],
    )
    async def test_malformed(self, served: Served, request_: bytes) -> None:
        """A malformed head, or a length that is ambiguous, is refused with 4xx or a close (RFC 9112 section 6.3)."""
        answer = await served.raw(request_, end=True)
        assert answer == b"" or answer.split()[1].startswith(b"4")
        assert served.app.events == []

    async def test_many_at_once(self, served: Served) -> None:
        """A hundred requests are in progress at once, and all are answered."""
        waiting = [asyncio.create_task(self._one(served, b"/wait")) for _ in range(100)]
        await until(lambda: len(served.app.scopes) == 100)
        served.app.release.set()
        assert {answer.body for answer in await asyncio.gather(*waiting)} == {b"done"}

    async def _one(self, served: Served, path: bytes) -> Answer:
        reader, writer = await served.connect()
        writer.write(REQUEST % (b"GET", path) + b"\r\n")
        answer = await read_answer(reader)
        await close(writer)
        return answer

    async def test_idle_connections(self, served: Served) -> None:
        """A thousand idle connections do not stop service."""
        idle = [await served.connect() for _ in range(self.idle)]
        assert (await served.ask("/count", "PUT", b"hello")).status == 200
        await asyncio.gather(*(close(writer) for _, writer in idle))

    async def test_drain(self, served: Served) -> None:
        """Cancelled, a transport accepts nobody new and lets the request that runs end, then returns."""
        running = asyncio.create_task(self._one(served, b"/wait"))
        await asyncio.wait_for(served.app.entered.wait(), PATIENCE)
        served.task.cancel()
        await served.refuses()
        assert not served.task.done()
        served.app.release.set()
        assert (await running).body == b"done"
        await asyncio.wait([served.task], timeout=PATIENCE)
        assert served.task.done()

    async def test_drain_of_slow_transfers(self, open_transport: OpenTransport, app: Application) -> None:
        """An upload and a download that are under way at the stop end whole within the drain time."""
        async with serving(open_transport, app, drain=PATIENCE) as served:
            down, down_writer = await served.connect()
            down_writer.write(REQUEST % (b"GET", b"/stream") + b"\r\n")
            await asyncio.wait_for(down.readuntil(b"\r\n\r\n"), PATIENCE)
            up, up_writer = await served.connect()
            up_writer.write(REQUEST % (b"PUT", b"/count") + b"content-length: 10\r\n\r\nhello")
            await until(lambda: app.received == 5)
            served.task.cancel()
            # The drain has begun when others had their turns.
            for _ in range(100):
                await asyncio.sleep(0)
            up_writer.write(b"hello")
            assert (await read_answer(up)).body.startswith(b"10 ")
            whole = await asyncio.wait_for(down.readexactly(app.file.stat().st_size), PATIENCE)
            assert whole == app.file.read_bytes()
            await close(up_writer)
            await close(down_writer)

    async def test_drain_with_idle_connections(self, open_transport: OpenTransport, app: Application) -> None:
        """Idle connections, fresh or used before, do not hold a drain up."""
        async with serving(open_transport, app, drain=2 * PATIENCE) as served:
            fresh = [await served.connect() for _ in range(20)]
            used = [await served.connect() for _ in range(20)]
            for reader, writer in used:
                writer.write(REQUEST % (b"GET", b"/") + b"\r\n")
                await read_answer(reader)
            served.task.cancel()
            await asyncio.wait([served.task], timeout=PATIENCE)
            assert served.task.done()
            for _, writer in fresh + used:
                await close(writer)

    async def test_drain_time(self, open_transport: OpenTransport, app: Application) -> None:
        """A drain ends in time, whatever still runs."""
        async with serving(open_transport, app, drain=0.5) as served:
            _, writer = await served.connect()
            writer.write(REQUEST % (b"GET", b"/wait") + b"\r\n")
            await asyncio.wait_for(app.entered.wait(), PATIENCE)
            served.task.cancel()
            await asyncio.wait([served.task], timeout=PATIENCE / 2)
            assert served.task.done()
            await close(writer)

    async def test_serves_again(self, open_transport: OpenTransport, app: Application) -> None:
        """After a stop the port is free, and another may serve on it."""
        address = free_address()
        for _ in range(2):
            async with serving(open_transport, app, address=address) as served:
                assert (await served.ask("/")).status == 200

    async def test_port_in_use(self, open_transport: OpenTransport, app: Application) -> None:
        """A port that another server does not share is a `StartError` that names the address."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(StartError, match=address):
                async with serving(open_transport, app, address=address):
                    pass

    @pytest.mark.parametrize("address", ["192.0.2.1:5000", "nowhere.invalid:5000", "127.0.0.1:http"])
    async def test_bad_address(self, open_transport: OpenTransport, app: Application, address: str) -> None:
        """An address that is malformed, or not of this machine, is a `StartError` that names it."""
        with pytest.raises(StartError, match=address):
            async with serving(open_transport, app, address=address):
                pass

    async def test_tls(
        self, open_transport: OpenTransport, app: Application, certificate: tuple[str, str] | None
    ) -> None:
        """With a certificate the same is served over TLS 1.2 or newer, and the application sees https."""
        files = given(certificate)
        trust = ssl.create_default_context(cafile=files[0])
        async with serving(open_transport, app, files=files) as served:
            assert (await served.ask("/stream", trust=trust)).body == app.file.read_bytes()
            assert app.scopes[0]["scheme"] == "https"

    @pytest.mark.parametrize("offered", [["http/1.1"], ["h2", "http/1.1"]])
    async def test_alpn(
        self,
        open_transport: OpenTransport,
        app: Application,
        certificate: tuple[str, str] | None,
        offered: list[str],
    ) -> None:
        """ALPN chooses a protocol that the client offered (RFC 7301), and with HTTP/1.1 the connection works."""
        files = given(certificate)
        trust = ssl.create_default_context(cafile=files[0])
        trust.set_alpn_protocols(offered)
        async with serving(open_transport, app, files=files) as served:
            reader, writer = await served.connect(trust)
            chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
            assert chosen in offered
            if chosen == "http/1.1":
                writer.write(REQUEST % (b"GET", b"/") + b"\r\n")
                assert (await read_answer(reader)).body == b"x"
            await close(writer)

    async def test_bad_certificate(
        self, open_transport: OpenTransport, app: Application, certificate: tuple[str, str] | None
    ) -> None:
        """Files for TLS that are missing, or do not belong together, are a `StartError` that names ``tls``."""
        files = given(certificate)
        for wrong in (("/missing.pem", files[1]), (files[1], files[0]), (files[0], None)):
            with pytest.raises(StartError, match="tls"):
                async with serving(open_transport, app, files=wrong):
                    pass


def given(certificate: tuple[str, str] | None) -> tuple[str, str]:
    """Skips a rule of TLS where there is no certificate."""
    if certificate is None:
        pytest.skip("the fixture `certificate` gives none")
    return certificate
