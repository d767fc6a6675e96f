"""What a client may send to do harm: it costs little, hurts nobody else, and says nothing false to the application."""

import asyncio
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicFrameType
from aioquic.tls import Epoch
from drift_quic_aioquic import aioquic_session, qh3_session
from drift_quic_aioquic.client import Client, QuicError
from drift_quic_aioquic.config import BACKENDS, MESSAGES
from drift_quic_aioquic.connection import FIRST_BYTES, MOST_EXCHANGES
from drift_quic_aioquic.engine import CONNECTION_WINDOW
from drift_quic_aioquic.http3 import MAX_HEAD_BYTES
from drift_quic_aioquic.messages import Ping, encode

from drift_core.api import Records
from drift_core.conformance.suites.transport import MIB, Application, settled, until

from .conftest import HOST, Files, Serve, ask, serving
from .test_endpoint import CLIENT, Sink, alone, new_client, silent

pytestmark = pytest.mark.anyio

SETTINGS, HEADERS = 4, 1


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def head(path: bytes, method: bytes = b"GET") -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"x"), (b":path", path)]


def begin(client: Client, path: bytes, method: bytes = b"GET", *, ended: bool = True) -> int:
    number = client._session.next_stream()
    client._session.head(number, head(path, method), ended=ended)
    return number


async def test_settings_of_any_size_are_not_kept(serve: Serve) -> None:
    """RFC 9114 section 10.5: the connection ends as soon as the size is known."""
    async with serve() as served, served.connect() as client:
        quic = client._session._quic  # type: ignore[attr-defined]
        http = client._session._http  # type: ignore[attr-defined]
        (serving_,) = served.site.connections
        # A frame for the control stream of a client that has not sent its settings yet.
        await until(lambda: serving_.session._http._settings_received)
        serving_.session._http._settings_received = False
        quic.send_stream_data(http._local_control_stream_id, encode_uint_var(SETTINGS) + encode_uint_var(1 << 30))
        client.transmit()
        await until(lambda: client.over is not None)
        assert client.over is not None
        assert "too large" in client.over


async def test_heads_that_never_end_are_bounded(serve: Serve, backend: str) -> None:
    """By the window, or by how many there may be."""
    most = 100 * MAX_HEAD_BYTES if backend == "qh3" else CONNECTION_WINDOW
    async with serve() as served, served.connect() as client:
        quic, part = client._session._quic, MAX_HEAD_BYTES - 100  # type: ignore[attr-defined]
        frame = encode_uint_var(HEADERS) + encode_uint_var(MAX_HEAD_BYTES) + bytes(part)
        for _ in range(200):
            quic.send_stream_data(client._session.next_stream(), frame)
        client.transmit()
        (serving_,) = served.site.connections
        kept = await settled(serving_.session._quic.kept)
        assert most // 2 < kept <= most


@pytest.mark.parametrize("backend", ["qh3"])
async def test_who_vanishes_while_the_application_is_behind_is_forgotten(serve: Serve) -> None:
    """What is held in the core of its connection is that this has ended, too."""
    async with serve(max_idle_timeout_ms=1000) as served, served.connect() as client:
        asking = asyncio.create_task(ask(client, "/held", "PUT", bytes(12 * MIB)))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        (serving_,) = served.site.connections
        await until(lambda: serving_.session._quic.behind)
        client._udp.send = lambda _: None
        client._udp._arrived = lambda _: None
        await until(lambda: not served.site.connections)
        asking.cancel()


@pytest.mark.parametrize("backend", ["qh3"])
async def test_what_is_held_is_bounded_also_where_windows_do_not(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qh3_session, "MOST_EVENTS", 1500)
    async with serve() as served, served.connect() as client:
        asking = asyncio.create_task(ask(client, "/held", "PUT", bytes(5 * MIB // 2)))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        (serving_,) = served.site.connections
        await until(lambda: serving_.session._quic.behind)
        await settled(lambda: serving_.session._quic._held_events)

        def complain(builder: Any, *_: Any, **__: Any) -> None:
            # That it could send more is of no stream, and costs the client two bytes.
            for _ in range(100):
                builder.start_frame(QuicFrameType.DATA_BLOCKED, capacity=9).push_uint_var(1)

        client._session._quic._write_ping_frame = complain  # type: ignore[attr-defined]
        for number in range(100):
            client._session.ping(number)
            client.transmit()
            await asyncio.sleep(0)
        await until(lambda: client.over is not None)
        assert "too much was sent" in str(client.over)
        with pytest.raises(QuicError):
            await asking
        await until(lambda: not served.site.connections)


async def test_answers_that_nobody_reads_leave_nothing_behind(serve: Serve) -> None:
    """Neither those that the client gives up nor those that the application breaks off."""
    async with serve() as served, served.connect() as client:
        for _ in range(20):
            async with client.request("GET", "/endless") as (_, body):
                await anext(body)
            with pytest.raises(QuicError):
                await ask(client, "/half")
        (serving_,) = served.site.connections
        await until(lambda: not serving_.exchanges)
        assert (await ask(client, "/"))[0] == 200
        # Those of control and of QPACK stay.
        await until(lambda: len(serving_.session._http._stream) <= 8)
        assert not serving_.session._quic.waiting


async def test_a_refused_request_that_is_taken_back_at_once(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as served, served.connect() as client:
        for path in (b"nowhere", b"/"):
            number = begin(client, path)
            client._session.stop(number, 0x10C)
            client.transmit()
        assert (await ask(client, "/"))[0] == 200
    assert "a connection failed" not in caplog.text
    assert "the application failed" not in caplog.text


async def test_requests_that_are_taken_back_count_while_they_run(serve: Serve) -> None:
    """Each makes room for a new stream at once, so that one connection could begin any number of them."""
    async with serve() as served, served.connect() as client:
        (serving_,) = served.site.connections
        for _ in range(4):
            numbers = [begin(client, b"/wait", ended=False) for _ in range(100)]
            client.transmit()
            await client.ping()
            for number in numbers:
                client._session.stop(number, 0x10C)
                client._session.reset(number, 0x10C)
            client.transmit()
            await client.ping()
        assert len(served.app.scopes) == len(serving_.exchanges) == MOST_EXCHANGES
        served.app.release.set()
        await until(lambda: not serving_.exchanges)
        assert (await ask(client, "/"))[0] == 200


async def test_a_datagram_from_elsewhere_does_not_change_who_asks(serve: Serve) -> None:
    """Whoever may send from a false address could otherwise ask in the name of it."""
    async with serve() as served, served.connect() as client:
        assert (await ask(client, "/"))[0] == 200
        own = client._udp._socket.getsockname()[1]
        (serving_,) = served.site.connections
        cid = client._session._quic._peer_cid.cid  # type: ignore[attr-defined]
        sender = served.transport.endpoint.udp.send
        served.transport.endpoint.udp.send = lambda sent: sender([one for one in sent if one[1][0] == HOST])
        # What cannot be decrypted, and what can: the client's own packet, sent from elsewhere.
        serving_.receive([alone(b"\x40" + cid + bytes(100))])
        assert serving_.client == (HOST, own)
        begin(client, b"/")
        datagrams = client._session.transmit(asyncio.get_running_loop().time())
        serving_.receive([(data, CLIENT, size) for data, _, size in datagrams])
        await until(lambda: len(served.app.scopes) == 2)
        assert served.app.scopes[1]["client"] == (HOST, own)


async def test_a_key_does_not_encrypt_without_end(serve: Serve, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client follows each change; quinn does it by itself, once early and then by what a key may."""
    for module in (aioquic_session, qh3_session):
        monkeypatch.setattr(module, "KEY_PACKETS", 1000)
    async with serve() as served, served.connect() as client:
        keys = client._session._quic._cryptos[Epoch.ONE_RTT]  # type: ignore[attr-defined]
        changes: list[str] = []
        update = keys._update_key
        keys._update_key = lambda trigger: (changes.append(trigger), update(trigger))
        assert (await ask(client, "/blob"))[2] == served.app.file.read_bytes()
        assert len(changes) > (0 if backend == "quinn" else 3)


async def test_messages_that_are_taken_back(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The application is told, and not cancelled in the middle of what it does."""
    ended: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
            ended.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with serve(app=app) as served, served.connect(alpn=MESSAGES) as client:
        session = client._session
        for message in (encode(Ping()), b"\x82\xa4type\xabBlobRequest\xa6digest\xa5a/b@c"):
            number = session.next_stream()
            session.write(number, message, ended=True)
            client.transmit()
            await client.ping()
            session.stop(number, 0x10C)
            client.transmit()
        await until(lambda: ended == ["http.disconnect"])
        await client.ping()
        # A reply to what was taken back in the same datagram.
        number = session.next_stream()
        session.write(number, encode(Ping()), ended=True)
        session.stop(number, 0x10C)
        client.transmit()
        await client.ping()
    assert "failed" not in caplog.text


async def test_a_handshake_goes_on_when_a_process_has_started(
    app: Application, certificate: Files, records: Records
) -> None:
    """What the kernel now gives to another process is passed on, and a made-up id that names one is served there."""
    async with (
        serving(app, certificate, records, workers=2) as one,
        serving(app, certificate, records, port=one.port, worker=1, workers=2) as two,
    ):
        sinks = Sink(), Sink()
        first, second = await silent(one, sinks[0]), await silent(two, sinks[1])
        for named in (0, 1):
            client = new_client()
            (datagram, _), *_ = client.datagrams_to_send(0.0)
            # It begins with the first process, or by the id of another with that.
            while datagram[6] != named:
                client = new_client()
                (datagram, _), *_ = client.datagrams_to_send(0.0)
            first.arrived([alone(datagram)])
            sink = sinks[named]
            await until(lambda sink=sink: bool(sink.sent))  # type: ignore[misc]
            for answer in sink.take():
                client.receive_datagram(answer, (HOST, 1), 0.1)
            assert client._peer_cid.cid[0] == named
            other = (second, first)[named]
            other.arrived([alone(data) for data, _ in client.datagrams_to_send(0.1)])
            site = (one, two)[named].site
            await until(lambda site=site: bool(site.connections) and not site.half_open)  # type: ignore[misc]
        assert len(one.site.connections) == len(two.site.connections) == 1


@pytest.mark.parametrize("backend", ["aioquic"])
async def test_a_ticket_that_cannot_be_looked_for_ends_only_its_connection(serve: Serve) -> None:
    from .test_resumption import EARLY, Peer, first  # noqa: PLC0415 - of this test alone

    async with serve(**EARLY) as served:
        peer = Peer(served, await first(served))

        async def broken(_identity: bytes) -> None:
            message = "the table is damaged"
            raise ValueError(message)

        served.site.tickets.take = broken
        peer.flush()
        await until(lambda: served.site.measures.connection_errors._value.get() == 1)
        assert not served.site.half_open
        peer.close()
        assert (await served.ask("/"))[0] == 200


@pytest.mark.parametrize("backend", ["aioquic"])
async def test_what_waits_for_a_ticket_is_bounded(serve: Serve) -> None:
    from .test_resumption import EARLY  # noqa: PLC0415 - of this test alone

    async with serve(**EARLY) as served:
        sink = Sink()
        endpoint = await silent(served, sink)
        (datagram, _), *_ = new_client().datagrams_to_send(0.0)
        endpoint.arrived([alone(datagram)])
        (serving_,) = served.site.connections
        for _ in range(20):
            serving_.receive([alone(datagram + bytes(60_000))])
        assert sum(len(data) for data, *_ in serving_._first) <= FIRST_BYTES
