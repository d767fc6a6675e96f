"""Who may begin a connection, what that costs, and what happens to datagrams that make no sense."""

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from cryptography.hazmat.primitives.asymmetric import ec
from drift_quic_aioquic import transport as transport_module
from drift_quic_aioquic.client import QuicError
from drift_quic_aioquic.config import BACKENDS
from drift_quic_aioquic.endpoint import RETRY_FROM, cid_of
from drift_quic_aioquic.engine import MOST_JOINED, MOST_SEGMENTS, Address, Datagrams, apart, joined
from drift_quic_aioquic.site import HANDSHAKE_SECONDS
from drift_quic_aioquic.udp import bind_udp

from drift_core.api import Records, StartError
from drift_core.conformance.suites.transport import MIB, Application, until

from .conftest import HOST, Files, Serve, Served, ask, serving, write_certificate
from .real_server import resident

pytestmark = pytest.mark.anyio

CLIENT = ("192.0.2.7", 40_000)
REBINDS = 4


def alone(data: bytes, address: Address = CLIENT) -> Datagrams:
    """A datagram that the kernel has joined with no other."""
    return data, address, len(data)


class Sink:
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        self.full = False
        self.sent: list[Datagrams] = []

    def send(self, datagrams: Iterable[Datagrams]) -> None:
        self.sent += datagrams

    def take(self) -> list[bytes]:
        sent, self.sent = self.sent, []
        return [data for data, _ in apart(sent)]


def new_client(**keys: Any) -> QuicConnection:
    configuration = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost", **keys)
    client = QuicConnection(configuration=configuration)
    client.connect((HOST, 1), 0.0)
    return client


def first_flight(client: QuicConnection | None = None) -> bytes:
    return (client or new_client()).datagrams_to_send(0.0)[0][0]


def kind_of(datagram: bytes) -> QuicPacketType:
    return pull_quic_header(Buffer(data=datagram), host_cid_length=8).packet_type


@pytest.fixture
def sink() -> Sink:
    """What the endpoint sends in place of the network."""
    return Sink()


async def silent(served: Served, sink: Sink) -> Any:
    """Returns the endpoint of what is served, which now sends into ``sink``."""
    endpoint = served.transport.endpoint
    sink.traffic = endpoint.udp.traffic  # type: ignore[attr-defined]
    endpoint.udp.close()
    sink.close = lambda: None  # type: ignore[attr-defined]
    endpoint.udp = sink
    return endpoint


async def test_an_unknown_version_is_told_those_that_are_spoken(serve: Serve, sink: Sink) -> None:
    """RFC 9000 section 6: only in answer to a large datagram, and with the ids exchanged."""
    async with serve() as served:
        endpoint = await silent(served, sink)
        datagram = bytearray(first_flight())
        header = pull_quic_header(Buffer(data=bytes(datagram)), host_cid_length=8)
        datagram[1:5] = b"\x0a\x0a\x0a\x0a"
        endpoint.arrived([alone(bytes(datagram)), alone(bytes(datagram[:1100]))])
        (answer,) = sink.take()
        found = pull_quic_header(Buffer(data=answer), host_cid_length=8)
        assert (found.packet_type, found.supported_versions) == (QuicPacketType.VERSION_NEGOTIATION, [1, 0x6B3343CF])
        assert (found.destination_cid, found.source_cid) == (header.source_cid, header.destination_cid)
        # Its own kind it leaves alone, else two servers would talk for ever.
        endpoint.arrived([alone(answer + bytes(1200))])
        assert sink.take() == []


@pytest.mark.parametrize("backend", BACKENDS)
async def test_abandoned_handshakes_cost_little(serve: Serve, sink: Sink) -> None:
    """Beyond some of them each client has to prove its address first, and those few are soon forgotten."""
    async with serve() as served:
        endpoint = await silent(served, sink)
        received = 0
        datagram = b""
        for number in range(1000):
            # Those that are not let in are not looked at, and need only an id of their own.
            datagram = first_flight() if number <= RETRY_FROM else datagram[:6] + os.urandom(8) + datagram[14:]
            received += len(datagram)
            endpoint.arrived([alone(datagram, ("192.0.2.7", 1024 + number))])
        site = served.site
        assert len(site.half_open) == len(site.connections) == RETRY_FROM
        kinds = [kind_of(datagram) for datagram, _ in apart(sink.sent)]
        assert kinds.count(QuicPacketType.RETRY) == 1000 - RETRY_FROM
        # RFC 9000 section 8.1: less than three times of what came.
        assert sum(len(datagram) for datagram in sink.take()) < received
        site.now = lambda: asyncio.get_running_loop().time() + HANDSHAKE_SECONDS + 1
        endpoint.sweep()
        assert (len(site.half_open), len(site.connections), endpoint.table) == (0, 0, {})


@pytest.mark.parametrize("backend", BACKENDS)
async def test_who_proves_its_address_gets_in(serve: Serve) -> None:
    async with serve() as served:
        served.site.half_open |= {object() for _ in range(RETRY_FROM)}
        assert (await served.ask("/"))[0] == 200
        assert served.site.measures.retries._value.get() == 1
        served.site.half_open.clear()


async def test_a_token_of_another_address_is_refused(serve: Serve, sink: Sink) -> None:
    async with serve() as served:
        endpoint = await silent(served, sink)
        served.site.half_open |= {object() for _ in range(RETRY_FROM)}
        client = new_client()
        endpoint.arrived([alone(first_flight(client))])
        client.receive_datagram(sink.take()[0], (HOST, 1), 0.1)
        endpoint.arrived([alone(client.datagrams_to_send(0.1)[0][0], ("198.51.100.1", 1))])
        client.receive_datagram(sink.take()[0], (HOST, 1), 0.2)
        assert client._close_event is not None
        assert client._close_event.error_code == 0xB
        served.site.half_open.clear()


@pytest.mark.parametrize("backend", ["aioquic", "quinn"])  # with qh3 a handshake takes more than is sent here
async def test_what_the_kernel_has_joined_is_told_apart(serve: Serve, sink: Sink) -> None:
    """Two clients behind one address, and one that sends what is for nobody."""
    async with serve() as served:
        endpoint = await silent(served, sink)
        clients = new_client(), new_client()
        flights = [[data for data, _ in client.datagrams_to_send(0.0)] for client in clients]
        endpoint.arrived([(b"".join(flights[0] + flights[1]), CLIENT, 1200)])
        assert len(served.site.connections) == 2
        for answer in sink.take():
            for client in clients:
                client.receive_datagram(answer, (HOST, 1), 0.1)
        answers = [[data for data, _ in client.datagrams_to_send(0.1)] for client in clients]
        for own in answers:
            endpoint.arrived([alone(data) for data in own])
        await until(lambda: not served.site.half_open)
        for number, client in enumerate(clients):
            client.send_stream_data(0, bytes(6000))
            answers[number] = [data for data, _ in client.datagrams_to_send(0.2)]
        size = max(map(len, answers[0]))
        whole = [data for own in answers for data in own if len(data) == size]
        assert len(whole) >= 4
        before = [connection.heard_at for connection in served.site.connections]
        served.site.now = lambda: asyncio.get_running_loop().time() + 1
        endpoint.arrived([(b"".join([*whole, b"\x40" * size]), CLIENT, size)])
        assert all(one.heard_at > was for one, was in zip(served.site.connections, before, strict=True))


def test_joined_and_apart() -> None:
    """One after the other they change nothing, and no part is more than one call may send."""
    sizes = [1452] * 100 + [700, 700, 1200, 40] + [20] * 70
    datagrams: list[tuple[bytes, Address]] = [(bytes([n % 251]) * size, CLIENT) for n, size in enumerate(sizes)]
    datagrams[150:150] = [(b"other", ("192.0.2.8", 1))]
    made = joined(datagrams)
    assert list(apart(made)) == datagrams
    assert len(made) < 10
    assert all(len(data) <= MOST_JOINED and -(-len(data) // size) <= MOST_SEGMENTS for data, _, size in made)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_one_client_too_many_is_refused(serve: Serve) -> None:
    async with serve(max_connections=2) as served, served.connect() as client, served.connect():
        with pytest.raises(QuicError, match="0x2"):
            async with served.connect(seconds=5.0):
                pass
        assert (await ask(client, "/"))[0] == 200


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_lost_connection_is_reset(serve: Serve, sink: Sink) -> None:
    """So that a client need not wait after a crash; with the token that it was given for its id (section 10.3)."""
    async with serve() as served:
        async with served.connect() as client:
            known = client._session._quic._peer_cid  # type: ignore[attr-defined]
            cid = known.cid
        endpoint = await silent(served, sink)
        endpoint.table.clear()
        endpoint.arrived([alone(b"\x40" + cid + os.urandom(100)), alone(b"\x40" + cid + os.urandom(20))])
        (reset,) = sink.take()
        assert (reset[-16:], reset[0] & 0xC0, len(reset) <= 43) == (known.stateless_reset_token, 0x40, True)


async def test_a_second_server_on_the_address_is_a_clear_error(serve: Serve) -> None:
    async with serve() as served:
        with pytest.raises(StartError, match=f"127.0.0.1:{served.port}"):
            async with serve(port=served.port):
                pass


@pytest.mark.parametrize("address", ["192.0.2.1:5443", "nowhere.invalid:5443", "127.0.0.1:http"])
def test_an_address_that_cannot_be_used_is_a_clear_error(address: str) -> None:
    with pytest.raises(StartError, match=address):
        bind_udp(address)


def mutants(count: int, seed: int, recorded: list[bytes]) -> Iterator[bytes]:
    """Yields datagrams that are random, cut, replayed, too large, of a wrong version, or one bit off."""
    choose = random.Random(seed)
    for _ in range(count):
        data = bytearray(choose.choice(recorded))
        match choose.randrange(7):
            case 0:
                data = bytearray(choose.randbytes(choose.randrange(1, 1500)))
            case 1:
                del data[choose.randrange(len(data)) :]
            case 2:
                data[1:5] = choose.randbytes(4)
            case 3:
                data += choose.randbytes(choose.randrange(60_000))
            case 4:
                data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
            case 5:
                data[0] = choose.randrange(256)
        yield bytes(data)


async def fuzz(serve: Serve, count: int, seed: int) -> None:
    recorded: list[bytes] = []
    highest: list[int] = []
    async with serve() as served:
        endpoint = served.transport.endpoint
        take = endpoint.arrived

        def record(datagrams: list[Datagrams]) -> None:
            recorded.extend(data for data, _ in apart(datagrams))
            take(datagrams)

        endpoint.udp._arrived = record
        async with served.connect() as client:
            await ask(client, "/count", "PUT", bytes(20_000))
            recorded[:] = [one for one in recorded if cid_of(one) is not None][:40]
            endpoint.udp._arrived = take
            sender = endpoint.udp.send
            endpoint.udp.send = lambda datagrams: [sender([one]) for one in datagrams if one[1][0] == HOST]
            addresses = [CLIENT, *[(HOST, client._udp._socket.getsockname()[1])]]
            for number, data in enumerate(mutants(count, seed, recorded)):
                endpoint.arrived([alone(data, addresses[number % 2])])
                if number % 256 == 0:
                    await asyncio.sleep(0)
                    endpoint._resets = 0
                if number % 8192 == 0:
                    # Between them, whoever is connected is served on.
                    assert (await ask(client, "/"))[0] == 200
                    highest.append(resident(os.getpid()))
            # What is dropped is given back; the first figures are of a process that still grows into its work.
            assert highest[-1] - highest[min(2, len(highest) - 1)] < 24 * MIB
            assert len(served.site.half_open) <= RETRY_FROM + 1
            assert len(endpoint.table) < 20 * (RETRY_FROM + 4)
            # The connection whose datagrams were replayed goes on.
            assert (await ask(client, "/"))[0] == 200
        assert (await served.ask("/"))[0] == 200


@pytest.mark.parametrize("backend", BACKENDS)
async def test_datagrams_of_any_kind(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    await fuzz(serve, 20_000, 1)
    assert "a connection failed" not in caplog.text


@pytest.mark.soak
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_million_datagrams(serve: Serve) -> None:
    await fuzz(serve, 1_000_000, 3)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_renewed_certificate_serves_without_a_restart(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that cannot be used changes nothing."""
    monkeypatch.setattr(transport_module, "RENEWAL_SECONDS", 0.05)
    files = write_certificate(tmp_path)
    async with serve(cert_path=str(files[0]), key_path=str(files[1])) as served:
        served.ca_file = str(files[0])
        before = served.transport.endpoint.engine
        assert (await served.ask("/"))[0] == 200
        files[0].write_text("no certificate")
        await asyncio.sleep(0.3)
        assert served.transport.endpoint.engine is before
        write_certificate(tmp_path)
        await until(lambda: served.transport.endpoint.engine is not before)
        assert (await served.ask("/"))[0] == 200


@pytest.mark.parametrize("backend", ["quinn"])
async def test_a_certificate_that_an_engine_cannot_serve(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops the start; where it comes later, the old one serves on."""
    monkeypatch.setattr(transport_module, "RENEWAL_SECONDS", 0.05)
    files = write_certificate(tmp_path)
    given = {"cert_path": str(files[0]), "key_path": str(files[1])}
    async with serve(**given) as served:
        served.ca_file = str(files[0])
        trusted = files[0].read_text()
        write_certificate(tmp_path, curve=ec.SECP521R1())
        await asyncio.sleep(0.5)
        files[0].write_text(trusted)
        assert (await served.ask("/"))[0] == 200
    write_certificate(tmp_path, curve=ec.SECP521R1())
    with pytest.raises(StartError, match=r"quic\.cert_path: the backend quinn cannot serve with this"):
        async with serve(**given):
            pass


@pytest.mark.parametrize("backend", ["quinn"])
async def test_a_client_that_allows_no_streams_of_the_server(
    serve: Serve, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP/3 needs three (RFC 9114 section 6.2). It is told so, and nobody's log grows by it."""
    async with serve() as served:
        endpoint = await silent(served, sink)
        configuration = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost")
        client = QuicConnection(configuration=configuration)
        client._local_max_streams_uni.value = client._local_max_streams_uni.sent = 1
        client.connect((HOST, 1), 0.0)
        for turn in range(6):
            for data, _ in client.datagrams_to_send(turn / 10):
                endpoint.arrived([alone(data)])
            await asyncio.sleep(0.05)
            for answer in sink.take():
                client.receive_datagram(answer, (HOST, 1), turn / 10)
        assert client._close_event is not None
        assert client._close_event.error_code in {0x101, 0xC}
        assert "a connection failed" not in caplog.text


class Rebinding:
    """A network that gives a client a new address again and again, as a NAT that forgets does."""

    def __init__(self, port: int) -> None:
        self.server = (HOST, port)
        self.rebinds = 0
        self.inner = self._socket()
        self.outer = self._socket()
        self.client: Any = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.inner, self._out)
        self._loop.add_reader(self.outer, self._back)

    @property
    def port(self) -> int:
        return int(self.inner.getsockname()[1])

    def _socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((HOST, 0))
        return made

    def _out(self) -> None:
        data, self.client = self.inner.recvfrom(65535)
        self.outer.sendto(data, self.server)

    def _back(self) -> None:
        data, _ = self.outer.recvfrom(65535)
        self.inner.sendto(data, self.client)

    def rebind(self) -> None:
        self._loop.remove_reader(self.outer)
        self.outer.close()
        self.outer = self._socket()
        self._loop.add_reader(self.outer, self._back)
        self.rebinds += 1

    def close(self) -> None:
        for one in (self.inner, self.outer):
            self._loop.remove_reader(one)
            one.close()


async def download(served: Served, network: Rebinding, most: int = REBINDS) -> bytes:
    parts, total = list[bytes](), 0
    served.port = network.port
    async with asyncio.timeout(60), served.connect() as client, client.request("GET", "/stream") as (_, body):
        async for part in body:
            parts.append(part)
            total += len(part)
            if total // (200 << 10) > network.rebinds and network.rebinds < most:
                network.rebind()
    return b"".join(parts)


async def test_a_download_goes_on_from_other_addresses(app: Application, certificate: Files, records: Records) -> None:
    """With two processes, either of which the kernel may choose: the id of the connection says whose it is."""
    app.file.write_bytes(os.urandom(1_300_000))
    async with (
        serving(app, certificate, records, workers=2) as served,
        serving(app, certificate, records, port=served.port, worker=1, workers=2) as other,
    ):
        port = served.port
        networks = [Rebinding(port) for _ in range(4)]
        for network in networks:
            assert await download(served, network) == app.file.read_bytes()
            assert network.rebinds == REBINDS
            network.close()
        workers = (served.transport._measures, other.transport._measures)
        assert sum(one.connections._value.get() for one in workers) == 4


async def test_a_download_by_qh3_goes_on_from_other_addresses(
    app: Application, certificate: Files, records: Records
) -> None:
    """From three, which with the first one are all that it knows on a connection."""
    app.file.write_bytes(os.urandom(1_300_000))
    async with serving(app, certificate, records, backend="qh3") as served:
        network = Rebinding(served.port)
        assert await download(served, network, 3) == app.file.read_bytes()
        assert network.rebinds == 3
        network.close()


async def test_a_process_that_was_replaced_gets_its_datagrams_from_the_others(
    app: Application, certificate: Files, records: Records
) -> None:
    """The kernel counts the new socket as the last, so that it gives away what is for the first."""
    app.file.write_bytes(os.urandom(1_300_000))
    async with serving(app, certificate, records, workers=2) as first:
        port = first.port
        async with serving(app, certificate, records, port=port, worker=1, workers=2) as second:
            first.task.cancel()
            await asyncio.wait([first.task])
            async with serving(app, certificate, records, port=port, worker=0, workers=2) as new:
                for _ in range(4):
                    network = Rebinding(port)
                    assert await download(new, network) == app.file.read_bytes()
                    network.close()
                forwarded = [one.transport._measures.forwarded._value.get() for one in (second, new)]
                assert sum(forwarded) > 0
