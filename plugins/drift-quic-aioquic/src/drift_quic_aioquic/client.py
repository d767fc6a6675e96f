"""A small client for HTTP/3 and for the message set: for `drift quic`, and from node to node."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aioquic.quic.configuration import QuicConfiguration

from drift_core.api import Struct
from drift_quic_aioquic.aioquic_session import AioquicEngine, AioquicSession
from drift_quic_aioquic.config import HTTP3
from drift_quic_aioquic.engine import (
    CONNECTION_WINDOW,
    STREAM_WINDOW,
    Answered,
    Closed,
    Completed,
    Data,
    Datagrams,
    Event,
    HeaderList,
    Headers,
    Path,
    Reset,
    Session,
)
from drift_quic_aioquic.udp import Udp

DATAGRAM_BYTES: Final = 1452
IDLE_SECONDS: Final = 60.0
PIECE_BYTES: Final = 64 << 10
UNSENT_BYTES: Final = 512 << 10
CANCELLED: Final = 0x10C
NO_ERROR: Final = 0x100


class QuicError(OSError):
    """A server cannot be reached by QUIC, or has broken a connection or an answer off; its text says why."""


class Answer(Struct, frozen=True):
    """The head of an answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]


class _Stream:
    """What has arrived on one stream."""

    def __init__(self) -> None:
        self.events: deque[Headers | Data | Reset] = deque()
        self.ready = asyncio.Event()


class Client:
    """One connection; any number of requests may run on it at once."""

    def __init__(self, session: AioquicSession, bound: socket.socket, authority: str) -> None:
        self._session: Session = session
        self._authority = authority
        self._streams: dict[int, _Stream] = {}
        self._room = asyncio.Event()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._numbers = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._udp = Udp(bound, self._arrived, self.transmit)
        self.connected: asyncio.Future[None] = self._loop.create_future()
        self.over: str | None = None
        """Why the connection is over, None while it lasts."""

    @property
    def path(self) -> Path:
        """How the network to the server is."""
        return self._session.path()

    def _arrived(self, datagrams: list[Datagrams]) -> None:
        now = self._loop.time()
        try:
            self._session.receive(datagrams, now)
            self._handle()
            self.transmit()
        except Exception as error:  # noqa: BLE001 - whatever a server sends, who waits for it is told
            self._end(f"the connection failed: {error!r}")

    def _handle(self) -> None:
        for event in self._session.events():
            self._handle_one(event)

    def _handle_one(self, event: Event) -> None:
        if isinstance(event, Headers | Data | Reset):
            stream = self._streams.get(event.stream)
            if stream is not None:
                stream.events.append(event)
                stream.ready.set()
            elif isinstance(event, Data):
                self._session.consumed(event.stream, len(event.data))
        elif isinstance(event, Completed):
            if not self.connected.done():
                self.connected.set_result(None)
        elif isinstance(event, Answered):
            ping = self._pings.pop(event.number, None)
            if ping is not None and not ping.done():
                ping.set_result(None)
        elif isinstance(event, Closed):
            self._end(f"the connection is closed: {event.reason or hex(event.code)}")

    def _end(self, reason: str) -> None:
        self.over = reason
        if not self.connected.done():
            self.connected.set_exception(QuicError(reason))
        for ping in self._pings.values():
            if not ping.done():
                ping.set_exception(QuicError(reason))
        for stream in self._streams.values():
            stream.ready.set()
        self._room.set()

    def transmit(self) -> None:
        """Sends what there is, and sets the clock."""
        self._soon = None
        if self._udp.full:
            return
        self._udp.send(self._session.transmit(self._loop.time()))
        self._handle()
        self._room.set()
        if self._timer is not None:
            self._timer.cancel()
        due = self._session.timer()
        self._timer = None if due is None else self._loop.call_at(due, self._expire)

    def _transmit_soon(self) -> None:
        if self._soon is None:
            self._soon = self._loop.call_soon(self.transmit)

    def _expire(self) -> None:
        due = self._session.timer()
        if due is not None:
            self._session.expire(max(due, self._loop.time()))
            self._handle()
            self.transmit()

    async def _next(self, number: int) -> Headers | Data:
        """Returns the next event of a stream. Raises `QuicError` where there will be none."""
        stream = self._streams[number]
        while not stream.events:
            if self.over is not None:
                raise QuicError(self.over)
            stream.ready.clear()
            await stream.ready.wait()
        event = stream.events.popleft()
        if isinstance(event, Reset):
            message = "the server broke the answer off"
            raise QuicError(message)
        if isinstance(event, Data) and self._session.consumed(number, len(event.data)):
            self._transmit_soon()
        return event

    @asynccontextmanager
    async def request(
        self, method: str, path: str, headers: HeaderList | None = None, body: bytes = b""
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Yields the head of the answer and its body; what is not read of it is cancelled. Raises `QuicError`."""
        session = self._session
        number = session.next_stream()
        self._streams[number] = _Stream()
        authority = self._authority.encode()
        pseudo = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", authority)]
        length = [(b"content-length", b"%d" % len(body))] if body else []
        session.head(number, [*pseudo, (b":path", path.encode()), *(headers or []), *length], ended=not body)
        sending = self._loop.create_task(self._send(number, body))
        try:
            yield await self._answer(number)
        finally:
            sending.cancel()
            del self._streams[number]
            session.forget(number)
            session.stop(number, CANCELLED)
            self._transmit_soon()

    async def _send(self, number: int, body: bytes) -> None:
        session = self._session
        for place in range(0, len(body), PIECE_BYTES):
            while session.unsent(number) > UNSENT_BYTES and self.over is None:
                self._room.clear()
                await self._room.wait()
            if self.over is not None:
                return
            piece = body[place : place + PIECE_BYTES]
            session.body(number, piece, ended=place + PIECE_BYTES >= len(body))
            self._transmit_soon()
        self._transmit_soon()

    async def _answer(self, number: int) -> tuple[Answer, AsyncIterator[bytes]]:
        while True:
            event = await self._next(number)
            if isinstance(event, Data):
                message = "the server sent a body without a head"
                raise QuicError(message)
            found = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            # Those from 100 to 199 are followed by another one (RFC 9110 section 15.2).
            if not found.get(":status", "").startswith("1"):
                return Answer(int(found[":status"]), found), self._body(number, ended=event.ended)

    async def _body(self, number: int, *, ended: bool) -> AsyncIterator[bytes]:
        while not ended:
            event = await self._next(number)
            ended = event.ended
            if isinstance(event, Data) and event.data:
                yield event.data

    async def message(self, message: bytes) -> bytes:
        """Sends a message on a stream of its own, and returns the reply. Raises `QuicError`."""
        number = self._session.next_stream()
        self._streams[number] = _Stream()
        self._session.write(number, message, ended=True)
        self._transmit_soon()
        parts = list[bytes]()
        try:
            while True:
                event = await self._next(number)
                if isinstance(event, Data):
                    parts.append(event.data)
                if event.ended:
                    return b"".join(parts)
        finally:
            del self._streams[number]
            self._session.forget(number)

    async def ping(self) -> float:
        """Returns how long a sign of life has taken, in seconds. Raises `QuicError`."""
        self._numbers += 1
        number, began = self._numbers, self._loop.time()
        future = self._pings[number] = self._loop.create_future()
        self._session.ping(number)
        self._transmit_soon()
        await future
        return self._loop.time() - began

    def close(self) -> None:
        """Says goodbye, and closes the socket."""
        self._end("the client has closed the connection")
        self._session.close(NO_ERROR, "")
        if not self._udp.full:
            self._udp.send(self._session.transmit(self._loop.time()))
        for handle in (self._timer, self._soon):
            if handle is not None:
                handle.cancel()
        self._udp.close()
        if self.connected.done() and not self.connected.cancelled():
            # Nobody may have waited for it.
            self.connected.exception()


@asynccontextmanager
async def connect(
    host: str,
    port: int,
    *,
    alpn: str = HTTP3,
    authority: str | None = None,
    ca_file: str | None = None,
    verified: bool = True,
    seconds: float = 10.0,
) -> AsyncIterator[Client]:
    """Yields a connection to ``host``, whose certificate one of the system's authorities or ``ca_file`` vouches for.

    ``authority`` is the name in requests and in the certificate, where that is not the host. ``seconds`` bound the
    handshake. Raises `QuicError`.
    """
    loop = asyncio.get_running_loop()
    name = authority or host
    try:
        (family, _, _, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        message = f"{host} cannot be found: {error.strerror}"
        raise QuicError(message) from error
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[alpn],
        idle_timeout=IDLE_SECONDS,
        max_data=CONNECTION_WINDOW,
        max_stream_data=STREAM_WINDOW,
        max_datagram_size=DATAGRAM_BYTES,
        server_name=name,
        verify_mode=ssl.CERT_REQUIRED if verified else ssl.CERT_NONE,
        cafile=ca_file,
    )
    engine = AioquicEngine(configuration, worker=0, secret=b"", tickets=False, early=False, pacing="auto")
    session = AioquicSession(engine)
    bound = socket.socket(family, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))  # noqa: S104 - it only asks, from any address
    shown = f"[{name}]" if ":" in name else name
    client = Client(session, bound, f"{shown}:{port}")
    try:
        session.connect(address, loop.time())
        client.transmit()
        try:
            async with asyncio.timeout(seconds):
                await client.connected
        except TimeoutError as error:
            message = f"{name}:{port} has not answered in time"
            raise QuicError(message) from error
        yield client
    finally:
        client.close()
