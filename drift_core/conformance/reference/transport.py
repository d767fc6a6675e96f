"""HTTP/1.1 by asyncio alone, to test other things with and to compare with; not for production."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from drift_core.api import AsgiApp, ServerSettings, StartError, Transport

LOG = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 30.0
BLOCK = 64 << 10
LINGER_SECONDS = 5.0
"""How long a body that nobody wanted is read on, so that its sender can hear the answer."""

CUT_SECONDS = 1.0
"""How long a request that is cut gets to clean up."""

TOKEN = re.compile(rb"[!#-'*+.^_`|~0-9A-Za-z-]+")
REQUEST_LINE = re.compile(rb"([A-Za-z-]+) (/[!-~]*) HTTP/(1\.[01])")
WITHOUT_BODY = frozenset({*range(100, 200), 204, 304})
Message = dict[str, Any]


class Malformed(Exception):
    """The request is refused with this status and never reaches the application."""

    def __init__(self, status: int = 400) -> None:
        self.status = status
        super().__init__(status)


class Request:
    """The head of a request, checked: what is ambiguous is refused (RFC 9112 sections 3, 5 and 6)."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head[:-4].split(b"\r\n")
        line = REQUEST_LINE.fullmatch(first)
        if line is None:
            raise Malformed
        self.method = line[1]
        self.version = line[3].decode()
        target: bytes = line[2]
        self.path, _, self.query = target.partition(b"?")
        self.headers = [self._header(line) for line in lines]
        lengths = [value for name, value in self.headers if name == b"content-length"]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        self.chunked, self.length = self.framing(lengths, codings)
        options = {value.lower() for name, value in self.headers if name == b"connection"}
        self.last = self.version == "1.0" or b"close" in options
        self.expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self.headers)

    def framing(self, lengths: list[bytes], codings: list[bytes]) -> tuple[bool, int]:
        """Returns whether the body comes in chunks, and its length where it does not. Raises `Malformed`."""
        if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
            raise Malformed
        if not all(length.isdigit() for length in lengths):
            raise Malformed
        return bool(codings), int(lengths[0]) if lengths else 0

    def _header(self, line: bytes) -> tuple[bytes, bytes]:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or b"\r" in value or b"\n" in value or b"\0" in value:
            raise Malformed
        return name.lower(), value.strip(b" \t")


class Exchange:
    """One request and its answer, as the application sees them."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.last = request.last
        self.started = self.ended = self.whole = False
        self.gone = False
        self.unread = request.chunked or request.length > 0
        self._chunked = False
        self.expects = request.expects
        self._left = 0 if request.chunked else request.length
        self.reader = reader
        self.writer = writer

    def scope(self) -> Message:
        """Returns the scope of ASGI."""
        request = self.request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.version,
            "method": request.method.decode(),
            "scheme": "https" if self.writer.get_extra_info("ssl_object") else "http",
            "path": unquote_to_bytes(request.path).decode(errors="replace"),
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": self.writer.get_extra_info("peername"),
            "server": self.writer.get_extra_info("sockname"),
            "extensions": {},
        }

    async def receive(self) -> Message:
        """Returns the next part of the body; after it, waits for the client to leave."""
        if self.unread and not self.gone:
            await self.ask_for_body()
            try:
                body = await self.read()
            except (EOFError, ValueError, OSError):
                self.gone = True
            else:
                return {"type": "http.request", "body": body, "more_body": self.unread}
        elif not self.gone and not self.started and not self.ended:
            self.ended = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self.gone:
            with suppress(OSError):
                await self.writer.wait_closed()
        return {"type": "http.disconnect"}

    async def ask_for_body(self) -> None:
        """Sends 100 Continue to a client that waits for it."""
        if self.expects and not self.started:
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False

    def chunk_size(self, line: bytes) -> int:
        """Returns the size that a chunk begins with. Raises `ValueError`."""
        return int(line.partition(b";")[0], 16)

    async def read(self) -> bytes:
        """Reads a part of the body. Raises `EOFError`, `ValueError` or `OSError` where it is cut short or malformed."""
        if self.request.chunked and not self._left:
            line = await self.reader.readuntil(b"\r\n")
            self._left = self.chunk_size(line)
            if not self._left:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass  # trailers
                self.unread = False
                return b""
        body = await self.reader.read(min(BLOCK, self._left))
        if not body:
            raise EOFError
        self._left -= len(body)
        if self.request.chunked:
            if not self._left and await self.reader.readexactly(2) != b"\r\n":
                raise EOFError
        elif not self._left:
            self.unread = False
        return body

    async def send(self, message: Message) -> None:
        """Sends a part of the answer, and waits while the client is slower. Raises `OSError` when it has left."""
        if message["type"] == "http.response.start":
            self.start(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.body(message.get("body", b""), more=message.get("more_body", False))
        await self.writer.drain()

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Sends the head of the answer."""
        self.started = True
        names = {name.lower() for name, _ in headers}
        lines = [b"HTTP/1.1 %d " % status, *(name + b": " + value for name, value in headers)]
        if b"content-length" not in names and status not in WITHOUT_BODY:
            if self.request.version == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked")
            else:
                self.last = True
        self.last = self.last or self.unread
        if self.last:
            lines.append(b"connection: close")
        self.writer.write(b"\r\n".join(lines) + b"\r\n\r\n")

    def body(self, body: bytes, *, more: bool) -> None:
        """Sends a part of the body."""
        if self.request.method != b"HEAD":
            if body:
                self.writer.writelines([b"%x\r\n" % len(body), body, b"\r\n"] if self._chunked else [body])
            if self._chunked and not more:
                self.writer.write(b"0\r\n\r\n")
        self.ended = self.whole = not more

    async def linger(self) -> None:
        """Reads what is left of a body: closing over it resets the connection, and the reset overtakes the answer."""
        if self.expects:
            return
        with suppress(EOFError, ValueError, OSError, TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self.unread:
                    await self.read()


class Connection:
    """One client, whose requests are answered one after the other."""

    request: type[Request] = Request
    exchange: type[Exchange] = Exchange
    head_bytes = HEAD_BYTES

    def __init__(self, app: AsgiApp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.busy = False
        self.draining = False
        self.app = app
        self.reader = reader
        self.writer = writer

    async def run(self) -> None:
        """Answers until one of both sides wants no more, then closes."""
        with suppress(EOFError, OSError, TimeoutError):
            while not self.draining:
                try:
                    async with asyncio.timeout(HEAD_SECONDS):
                        request = self.request(await self.head())
                except Malformed as error:
                    answer = b"HTTP/1.1 %d \r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % error.status
                    self.writer.write(answer)
                    await self.writer.drain()
                    break
                self.busy = True
                if not await self.answer(self.exchange(request, self.reader, self.writer)):
                    break
                self.busy = False
        self.writer.close()

    def leave(self) -> None:
        """Makes the answer that runs the last; without one, ends when what was answered is on its way."""
        self.draining = True
        if not self.busy:
            self.writer.transport.pause_reading()  # type: ignore[attr-defined]
            self.reader.feed_eof()

    async def head(self) -> bytes:
        """Reads the head of the next request. Raises `Malformed` where it is too long."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise Malformed(431) from error
        if len(head) > self.head_bytes:
            raise Malformed(431)
        return head

    async def answer(self, exchange: Exchange) -> bool:
        """Runs the application; returns whether the connection may be used again."""
        exchange.last = exchange.last or self.draining
        try:
            await self.app(exchange.scope(), exchange.receive, exchange.send)
        except Exception as error:
            if not isinstance(error, OSError):
                LOG.exception("the application failed")
            if not exchange.started and not exchange.gone:
                await exchange.send({"type": "http.response.start", "status": 500, "headers": []})
                await exchange.send({"type": "http.response.body", "body": self.explanation(error)})
        if not exchange.whole:
            self.broken(exchange)
            return False
        if exchange.unread:
            await exchange.linger()
        return not exchange.last

    def explanation(self, error: Exception) -> bytes:
        """Returns what a client is told of a failure: nothing."""
        del error
        return b""

    def broken(self, exchange: Exchange) -> None:
        """Ends an answer that broke off, so that it does not look whole."""
        del exchange
        self.writer.transport.abort()


class AsyncioTransport:
    """One listener for each worker; they share the port."""

    connection: type[Connection] = Connection
    buffer = HEAD_BYTES
    """Bytes of each connection that are read ahead, at most twice."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.connections: dict[asyncio.Task[None], Connection] = {}
        self.slots = asyncio.Semaphore(settings.max_connections)

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """See `Transport.serve`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = self.connection(app, reader, writer)
            task = cast("asyncio.Task[None]", asyncio.current_task())
            self.connections[task] = connection
            try:
                async with self.slots:
                    await connection.run()
                with suppress(OSError):
                    await writer.wait_closed()
            except asyncio.CancelledError:  # cut by the drain; nobody waits for what this task returns
                writer.transport.abort()
            finally:
                del self.connections[task]

        server = await self.listen(connected)
        ready()
        try:
            await asyncio.Event().wait()
        finally:
            await self.stop(server)

    async def stop(self, server: asyncio.Server) -> None:
        """Accepts nobody new, then drains."""
        server.close()
        await self.drain()

    async def listen(self, connected: Callable[..., Any]) -> asyncio.Server:
        """Opens the port. Raises `StartError`."""
        address = self.settings.bind_addr
        host, _, port = address.rpartition(":")
        try:
            return await asyncio.start_server(
                connected,
                host.strip("[]"),
                int(port),
                limit=self.buffer,
                backlog=1024,
                reuse_port=True,
                ssl=self.tls(),
            )
        except (OSError, ValueError) as error:
            message = f"cannot listen on {address}: {error}"
            raise StartError(message) from error

    async def drain(self) -> None:
        """Lets running requests end for ``drain_seconds``, and cuts the rest."""
        for connection in self.connections.values():
            connection.leave()
        if self.connections:
            await asyncio.wait(self.connections, timeout=self.settings.drain_seconds)
        for task in self.connections:
            task.cancel()
        if self.connections:
            await asyncio.wait(self.connections, timeout=CUT_SECONDS)

    def tls(self) -> ssl.SSLContext | None:
        """Returns what the files for TLS say, or None without them. Raises `StartError`."""
        certificate, key = self.settings.cert_file, self.settings.key_file
        if certificate is None and key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a callback OpenSSL asks the terminal for the password of an encrypted key.
            context.load_cert_chain(str(certificate), key, password=lambda: "")
        except OSError as error:  # that of ssl is one, too
            message = f"tls.cert_file {certificate} and tls.key_file {key} cannot be used: {error}"
            raise StartError(message) from error
        return context


@asynccontextmanager
async def open_asyncio_transport(settings: ServerSettings) -> AsyncGenerator[Transport, None]:
    """Yields the transport; it listens only while it serves."""
    yield AsyncioTransport(settings)
