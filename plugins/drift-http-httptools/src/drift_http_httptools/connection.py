"""One connection: cuts what arrives into requests, and gives each its turn."""

import asyncio
import os
import re
import socket
import ssl
from collections import deque
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import httptools

from drift_http_httptools.exchange import Exchange
from drift_http_httptools.receiving import DIRECT_BYTES, LongBody
from drift_http_httptools.site import Site

REQUEST_LINE: Final = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]\r\n")

LONGEST_LENGTH: Final = 19
"""Digits of a length that is taken seriously."""

BODY_BYTES: Final = 512 << 10
"""How much of a body waits for the application before the client is held back."""

WRITE_BYTES: Final = 256 << 10
"""How much of an answer waits for the client before the application is held back."""

LINGER_SECONDS: Final = 10.0
"""How long the rest of a body that the application did not want is read, so that its sender can hear the answer.

Closing with unread bytes resets the connection, and the reset overtakes the answer: Go's client, and with it most
registry clients, then reports a broken pipe instead of the 401 or 413.
"""

FAREWELL_SECONDS: Final = 2.0
"""How long a client is kept after the last answer, for the same reason, and idle while the server ends."""

TLS_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2.value, "TLSv1.3": ssl.TLSVersion.TLSv1_3.value}

SERVES: Final = float("inf")
"""The deadline while the application works."""


class Connection(asyncio.Protocol):
    """Requests and answers of one client, one after the other (RFC 9112); what it sends early waits."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.deadline = SERVES
        self.transport: Any = None
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._extensions: dict[str, Any] = {"http.response.pathsend": {}}
        self.current: Exchange | None = None
        self.gone = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        """The request whose body arrives; it may be one that waits."""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = False
        self._length: int | None = None
        """Bytes of a body that are still to come, where they are many and it is known how many."""
        self._skipping = 0
        """Bytes of a body that nobody wants."""
        self._refused = HTTPStatus.BAD_REQUEST
        self._deaf = False
        self._ended = False
        self._held = False
        self._discarding = False
        self._drained: asyncio.Future[None] | None = None

    # What the event loop says.

    def connection_made(self, transport: Any) -> None:
        """Begins to wait for the first request."""
        self.transport = transport
        self.limit_writing()
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self._client, self._server = client and tuple(client[:2]), server and tuple(server[:2])
        if self.site.tls:
            self._extensions["tls"] = tls_extension(transport.get_extra_info("ssl_object"))
        self.site.connections.add(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Parses what arrived; the application gets its turn afterwards."""
        if self._deaf:
            return
        if self._skipping:
            data = self._skip(data)
        # A head may begin within this part, behind the end of a body: that part does not count.
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # What the client would rather speak is not spoken here: it gets its answer (RFC 9110 section 7.8), and as
            # the parser is no more of use, it is the last.
            self._deaf = True
            newest = self._waiting[-1] if self._waiting else self.current
            if newest is not None:
                newest.last = True
            return
        except httptools.HttpParserInvalidMethodError:
            # A method that nobody knows (RFC 9110 section 9.1), or no request at all.
            line = REQUEST_LINE.match(data)
            self._refuse(HTTPStatus.NOT_IMPLEMENTED if line else HTTPStatus.BAD_REQUEST)
            return
        except httptools.HttpParserError:
            self._refuse(self._refused)
            return
        if self._incoming is not None and self._length is not None:
            self._read_directly(self._incoming, self._length)
        elif was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.site.config.max_header_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def eof_received(self) -> bool:
        """Lets a client that closed its direction have the answer that it waits for."""
        self._ended = True
        if self._incoming is not None:
            self._incoming.disconnect()
        return self.current is not None and not self.site.tls

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever works for this client that it is gone."""
        del exc
        self.gone = True
        self.site.connections.discard(self)
        self.site.left()
        if self.current is not None:
            self.current.disconnect()
        for exchange in self._waiting:
            exchange.disconnect()
        self._waiting.clear()
        self._release()
        # The two know each other, and would wait for the collector of cycles.
        self._parser = None

    def pause_writing(self) -> None:
        """Holds the application back: the client reads slowly."""
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Lets the application go on."""
        self._release()

    # What the parser says.

    def on_message_begin(self) -> None:
        """Begins a head."""
        self._target = b""
        self._headers = []
        self._head_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Takes a part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Makes a request of the head, whose turn is now or when those before it are answered."""
        self._in_head = False
        self._length = None
        scope, withheld = self._read_head()
        exchange = Exchange(self, scope, last=not self._parser.should_keep_alive(), withheld=withheld)
        self._incoming = exchange
        if self.current is None:
            self._start(exchange)
        else:
            self._waiting.append(exchange)
            self._hold()

    def on_body(self, body: bytes) -> None:
        """Hands a part of a body over."""
        if self._length is not None:
            self._length -= len(body)
        if self._incoming is not None and not self._discarding:
            self._incoming.feed(body)
            if self._incoming.buffered >= BODY_BYTES:
                self._hold()

    def on_message_complete(self) -> None:
        """Ends a body."""
        incoming, self._incoming = self._incoming, None
        if self._discarding:
            self._discarding = False
            self._next(incoming)
        elif incoming is not None:
            incoming.complete()

    def _read_head(self) -> tuple[dict[str, Any], bool]:
        """Returns the scope, and whether the client waits to be asked for the body. Raises for what is refused."""
        parser, target, headers = self._parser, self._target, self._headers
        if target[:1] != b"/":
            # The absolute form, which a proxy would send (RFC 9112 section 3.2.2); the others make no sense here.
            url = httptools.parse_url(target)
            if not url.host:
                raise ValueError
            target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
        version = parser.get_http_version()
        size, hosts, withheld = len(target), 0, False
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"expect":
                withheld = value.lower() == b"100-continue" and version == "1.1"
            elif name == b"content-length" and not self.site.tls and len(value) < LONGEST_LENGTH:
                length = int(value)
                self._length = length if length >= DIRECT_BYTES else None
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                raise ValueError  # RFC 9112 section 6.1: no other coding is understood here
        if size > self.site.config.max_header_bytes:
            self._refused = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError
        if hosts > 1 or (hosts == 0 and version == "1.1") or not target.isascii():
            raise ValueError  # RFC 9112 section 3.2, RFC 3986
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.site.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "client": self._client,
            "server": self._server,
            "extensions": self._extensions,
        }, withheld

    # What an exchange asks for.

    def limit_writing(self) -> None:
        """Holds the application back at `WRITE_BYTES`; where the client left there is nothing to hold."""
        if not self.transport.is_closing():
            self.transport.set_write_buffer_limits(high=WRITE_BYTES)

    def second_socket(self) -> socket.socket:
        """Returns the same socket by a descriptor that the loop may watch: that of a transport is its own."""
        second = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        second.setblocking(False)
        return second

    async def writable(self) -> None:
        """Returns when the client has taken what it was sent, but for `WRITE_BYTES`; at once where it left."""
        if self._drained is not None:
            await self._drained

    def wants(self, exchange: Exchange) -> None:
        """Reads on, because the application has taken what had arrived."""
        if exchange is self._incoming and exchange.rest is None:
            self._resume()

    def ended(self) -> None:
        """Goes on behind a long body that the application has read."""
        self.on_message_complete()
        if not self._waiting:
            self._resume()

    def finished(self, exchange: Exchange) -> None:
        """Goes on to the next request, behind what is left of this one's body; if ``exchange.broken``, cuts."""
        self.site.running.discard(exchange)
        rest, exchange.rest = exchange.rest, None
        if rest is not None:
            rest.close()
        if exchange.broken:
            self.transport.abort()
        elif self._incoming is not exchange:
            self._next(exchange)
        elif exchange.withheld:
            # The client may send the body or not; nobody can know what its next bytes are.
            self.current = None
            self._listen_no_more()
            self._resume()
        else:
            self._skipping = 0 if rest is None else rest.left
            self._discarding = True
            self.deadline = self.site.now() + LINGER_SECONDS
            self._resume()

    # Turns.

    def _skip(self, data: bytes) -> bytes:
        unwanted = min(self._skipping, len(data))
        self._skipping -= unwanted
        if not self._skipping:
            self.on_message_complete()
        return data[unwanted:]

    def _read_directly(self, exchange: Exchange, left: int) -> None:
        self._hold()
        exchange.rest = LongBody(self.second_socket(), left, self.site.log)
        self._length = None
        # The old one would wait for the body.
        self._parser = httptools.HttpRequestParser(self)

    def _start(self, exchange: Exchange) -> None:
        self.current, self.deadline = exchange, SERVES
        self.site.begin(exchange)

    def _next(self, exchange: Exchange | None) -> None:
        self.current = None
        if self.gone:
            return
        if exchange is None or exchange.last or self._deaf or (self._ended and not self._waiting):
            self.transport.close()
        elif self._waiting:
            self._start(self._waiting.popleft())
            if not self._waiting:
                self._resume()
        else:
            self._rest()
            self._resume()

    def _rest(self) -> None:
        seconds = FAREWELL_SECONDS if self.site.draining else self.site.config.header_read_timeout
        self.deadline = self.site.now() + seconds

    def _refuse(self, status: HTTPStatus) -> None:
        """Answers a request that cannot be read, unless others wait for their answers; it is the last."""
        self._deaf = True
        if self._incoming is not None:
            self._incoming.disconnect()
        elif self.current is None:
            text = f"{status.value} {status.phrase}\n".encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\nconnection: close\r\n"
            self.transport.write(head.encode() + b"content-length: %d\r\n\r\n%s" % (len(text), text))
            self._listen_no_more()

    def _listen_no_more(self) -> None:
        """Says that this was all, and waits a little for the client to close."""
        self._deaf = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = self.site.now() + FAREWELL_SECONDS

    def _hold(self) -> None:
        if not self._held and not self.gone:
            self._held = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._held and not self.gone:
            self._held = False
            self.transport.resume_reading()

    def _release(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None


def tls_extension(tls: Any) -> dict[str, Any]:
    """Returns what ASGI's TLS extension says of a connection: the client's certificate, which was verified."""
    certificate = tls.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": TLS_VERSIONS.get(tls.version()),
        "cipher_suite": None,
    }
