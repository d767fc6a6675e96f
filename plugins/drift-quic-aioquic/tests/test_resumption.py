"""Sessions that are resumed, and requests in the first flight: once, and only those that change nothing."""

import asyncio
import socket
import ssl
from typing import Any

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted
from drift_quic_aioquic.engine import Ticket
from drift_quic_aioquic.tickets import Tickets

from drift_core.api import Records
from drift_core.conformance.suites.transport import until

from .conftest import HOST, Serve, Served

pytestmark = pytest.mark.anyio

EARLY = {"enable_0rtt": True, "enable_early_data": True}


@pytest.fixture(params=["aioquic", "quinn"])
def backend(request: pytest.FixtureRequest) -> str:
    """The engines that resume sessions."""
    name: str = request.param
    return name


class Peer:
    """aioquic's own client over a socket, with its tickets, and with all that it has sent."""

    def __init__(self, served: Served, ticket: Any = None) -> None:
        self.tickets: list[Any] = []
        self.sent: list[bytes] = []
        self.status: dict[int, int] = {}
        self.answered_early = False
        self.completed: HandshakeCompleted | None = None
        self.over = False
        configuration = QuicConfiguration(
            alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost", session_ticket=ticket
        )
        self.quic = QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append)
        self.server = (HOST, served.port)
        self.loop = asyncio.get_running_loop()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((HOST, 0))
        self.loop.add_reader(self.socket, self._read)
        self.quic.connect(self.server, self.loop.time())
        self.http: Any = None
        if ticket is not None:
            self.http = H3Connection(self.quic)

    def _read(self) -> None:
        data, address = self.socket.recvfrom(65535)
        self.quic.receive_datagram(data, address, self.loop.time())
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.completed = event
                if self.http is None:
                    self.http = H3Connection(self.quic)
            elif isinstance(event, ConnectionTerminated):
                self.over = True
            elif self.http is not None:
                self._http(event)
        self.flush()

    def _http(self, event: Any) -> None:
        for found in self.http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self.status[found.stream_id] = int(dict(found.headers)[b":status"])
                self.answered_early = self.answered_early or self.completed is None
            assert isinstance(found, HeadersReceived | DataReceived)

    def ask(self, path: str, method: str = "GET") -> int:
        stream = int(self.quic.get_next_available_stream_id())
        head = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", b"x"), (b":path", path.encode())]
        self.http.send_headers(stream, head, end_stream=True)
        return stream

    def flush(self, *, keep: bool = False) -> None:
        for data, address in self.quic.datagrams_to_send(self.loop.time()):
            self.sent.append(data)
            if not keep:
                self.socket.sendto(data, address)

    def close(self) -> None:
        self.loop.remove_reader(self.socket)
        self.socket.close()


async def first(served: Served) -> Any:
    """Returns the ticket of a first connection."""
    peer = Peer(served)
    peer.flush()
    await until(lambda: bool(peer.tickets))
    await asyncio.sleep(0.1)
    peer.close()
    return peer.tickets[0]


async def test_a_session_is_resumed_with_a_request_in_the_first_flight(serve: Serve) -> None:
    async with serve(**EARLY) as served:
        peer = Peer(served, await first(served))
        stream = peer.ask("/")
        peer.flush()
        await until(lambda: peer.completed is not None and stream in peer.status)
        assert peer.completed is not None
        assert (peer.completed.session_resumed, peer.completed.early_data_accepted) == (True, True)
        assert peer.status[stream] == 200
        peer.close()


async def test_a_replay_of_the_first_flight_runs_the_application_once(serve: Serve) -> None:
    """From another address, while the connection lives and after it has ended."""
    async with serve(**EARLY) as served:
        peer = Peer(served, await first(served))
        stream = peer.ask("/")
        peer.flush()
        flight = peer.sent[:]
        await until(lambda: stream in peer.status)
        replay(served, flight)
        peer.quic.close()
        peer.flush()
        peer.close()
        for connection in tuple(served.site.connections):
            connection.drop()
        replay(served, flight)
        await until(lambda: served.site.measures.connections._value.get() >= 3)
        await asyncio.sleep(0.3)
        assert len(served.app.scopes) == 1


def replay(served: Served, flight: list[bytes]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in flight:
            sender.sendto(data, (HOST, served.port))


async def test_a_ticket_counts_once(serve: Serve) -> None:
    """The second time the client gets a full handshake, and its request an answer."""
    async with serve(**EARLY) as served:
        ticket = await first(served)
        for resumed in (True, False):
            peer = Peer(served, ticket)
            peer.flush()
            await until(lambda peer=peer: peer.completed is not None)  # type: ignore[misc]
            assert peer.completed is not None
            assert peer.completed.session_resumed == resumed
            peer.close()


@pytest.mark.parametrize(("method", "runs"), [("GET", True), ("HEAD", True), ("PUT", False), ("DELETE", False)])
async def test_what_runs_before_the_client_is_known_to_be_there(serve: Serve, method: str, runs: bool) -> None:
    """Whoever only replays a first flight never completes a handshake."""
    async with serve(**EARLY) as served:
        peer = Peer(served, await first(served))
        peer.ask("/count", method)
        peer.flush(keep=True)
        replay(served, peer.sent)
        await until(lambda: served.site.measures.connections._value.get() == 2)
        if runs:
            await until(lambda: len(served.app.scopes) == 1)
        else:
            await asyncio.sleep(0.3)
            assert served.app.scopes == []
            assert any(connection._held for connection in served.site.connections)
        peer.close()


async def test_what_is_held_runs_when_the_handshake_is_complete(serve: Serve) -> None:
    async with serve(**EARLY) as served:
        peer = Peer(served, await first(served))
        stream = peer.ask("/count", "PUT")
        peer.flush()
        await until(lambda: stream in peer.status)
        assert peer.status[stream] == 200
        peer.close()


async def test_without_early_data_sessions_are_only_resumed(serve: Serve) -> None:
    async with serve(enable_0rtt=True) as served:
        ticket = await first(served)
        assert ticket.max_early_data_size is None
        peer = Peer(served, ticket)
        peer.flush()
        await until(lambda: peer.completed is not None)
        assert peer.completed is not None
        assert (peer.completed.session_resumed, peer.completed.early_data_accepted) == (True, False)
        peer.close()


async def test_by_default_nobody_gets_a_ticket(serve: Serve) -> None:
    async with serve() as served:
        peer = Peer(served)
        peer.flush()
        await until(lambda: peer.completed is not None)
        await asyncio.sleep(0.2)
        assert peer.tickets == []
        peer.close()


async def test_tickets_are_taken_once_by_whoever_asks_first(records: Records) -> None:
    tickets = Tickets(records, None)
    now = 2_000_000_000.0
    good, late = (Ticket(bytes([n]) * 64, 0x1301, b"s" * 32, 7, 0.0, end) for n, end in ((1, now), (2, 1.0)))
    for one in (good, late):
        await tickets.keep(one)
    taken = await asyncio.gather(*(tickets.take(good.identity) for _ in range(8)))
    assert [one for one in taken if one is not None] == [good]
    assert await tickets.take(late.identity) is None
    assert await tickets.take(b"unknown") is None
