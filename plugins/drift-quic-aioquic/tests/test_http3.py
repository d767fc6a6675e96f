"""HTTP/3: what a client sends is what the application gets, and the other way round."""

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from drift_quic_aioquic.client import QuicError, _Stream
from drift_quic_aioquic.config import BACKENDS
from drift_quic_aioquic.connection import UNSENT_BYTES, UNSENT_LEAST, UNSENT_OF_ALL, Connection
from drift_quic_aioquic.engine import STREAM_WINDOW, Headers
from drift_quic_aioquic.qh3_session import HELD_BYTES

from drift_core.conformance.suites.transport import MIB, settled, until

from .conftest import Serve, ask

pytestmark = pytest.mark.anyio

HELD = {"aioquic": STREAM_WINDOW, "qh3": HELD_BYTES + STREAM_WINDOW, "quinn": STREAM_WINDOW // 2}
"""The most bytes of one upload that an engine has given to the bridge and the application has not taken."""

AT_ONCE = {"aioquic": 200, "qh3": 100, "quinn": 200}
"""Requests that a client of each engine may have under way, no fewer."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop of workers; the other modules of tests run on asyncio's own."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_get_head_and_put(serve: Serve) -> None:
    async with serve() as served, served.connect() as client:
        assert (await ask(client, "/"))[::2] == (200, b"x")
        status, headers, body = await ask(client, "/part", "HEAD")
        assert (status, headers["content-length"], body) == (206, "3", b"")
        content = bytes(range(256)) * 20_000
        counted = f"{len(content)} {hashlib.sha256(content).hexdigest()}".encode()
        assert (await ask(client, "/count", "PUT", content))[::2] == (200, counted)
        assert (await ask(client, "/empty"))[::2] == (204, b"")
        assert (await ask(client, "/blob"))[2] == served.app.file.read_bytes()
        assert (await ask(client, "/stream"))[2] == served.app.file.read_bytes()
        scope = served.app.scopes[0]
        assert (scope["http_version"], scope["scheme"], scope["client"][0]) == ("3", "https", "127.0.0.1")
        assert dict(scope["headers"])[b"host"] == f"127.0.0.1:{served.port}".encode()


async def test_paths_and_cookies(serve: Serve) -> None:
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x", b"y")]
    async with serve() as served:
        await served.ask("/count/a%2fb%20c?n=1", "GET", headers=headers)
        scope = served.app.scopes[0]
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/count/a/b c",
            b"/count/a%2fb%20c",
            b"n=1",
        )
        assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1; b=2"]


async def test_a_failing_application(serve: Serve) -> None:
    """Before its answer that is a 500 without the reason; within, the answer does not look whole."""
    async with serve() as served, served.connect() as client:
        status, _, body = await ask(client, "/fail")
        assert status == 500
        assert b"secret" not in body
        with pytest.raises(QuicError, match="broke the answer off"):
            await ask(client, "/half")
        assert (await ask(client, "/"))[0] == 200


async def test_a_refused_upload_is_heard(serve: Serve) -> None:
    async with serve() as served, served.connect() as client:
        assert (await ask(client, "/refuse", "PUT", bytes(20 << 20)))[::2] == (413, b"too large")
        assert (await ask(client, "/"))[0] == 200


async def test_a_reader_that_leaves(serve: Serve) -> None:
    """`send` raises an `OSError`, and the stream can end."""
    async with serve() as served, served.connect() as client:
        async with client.request("GET", "/endless") as (answer, body):
            assert answer.status == 200
            await anext(body)
        await until(lambda: "gone" in served.app.events)
        assert (await ask(client, "/"))[0] == 200


async def test_a_sender_that_leaves(serve: Serve) -> None:
    """A body that breaks off is `http.disconnect`."""
    async with serve() as served, served.connect() as client:
        session = client._session
        number = session.next_stream()
        head = [(b":method", b"PUT"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", b"/count")]
        session.head(number, head, ended=False)
        session.body(number, b"hello", ended=False)
        client.transmit()
        await until(lambda: served.app.received == 5)
        session.reset(number, 0x10C)
        client.transmit()
        await until(lambda: "http.disconnect" in served.app.events)


async def test_a_connection_that_ends_is_told_to_all(serve: Serve) -> None:
    async with serve() as served:
        async with served.connect() as client, client.request("GET", "/endless") as (_, body):
            await anext(body)
        await until(lambda: "gone" in served.app.events)
        await until(lambda: not served.site.connections)


async def test_a_slow_reader_holds_the_application_back(serve: Serve) -> None:
    """What is in flight is the client's window and what waits here, whatever the size."""
    async with serve() as served, served.connect() as client, client.request("GET", "/download") as (_, body):
        await anext(body)
        sent = await settled(lambda: served.app.sent)
        assert sent <= STREAM_WINDOW + UNSENT_BYTES + 2 * MIB
        total = 0
        async for part in body:
            total += len(part)
            if total > 8 * MIB:
                break
        assert served.app.sent > sent


async def test_many_slow_readers_cost_little(serve: Serve, backend: str) -> None:
    """What waits here of many answers of 10 MiB is what each has at least, and more for those that came first."""
    async with serve() as served, served.connect() as client:
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", b"/blob")]
        for _ in range(AT_ONCE[backend]):
            number = client._session.next_stream()
            client._streams[number] = _Stream()
            client._session.head(number, head, ended=True)
        client.transmit()
        (connection,) = served.site.connections
        await until(lambda: len(connection.exchanges) == AT_ONCE[backend])
        unsent = await settled(lambda: sum(map(connection.session.unsent, connection.exchanges)))
        assert 0 < unsent <= AT_ONCE[backend] * UNSENT_LEAST + UNSENT_BYTES


def test_answers_that_fill_what_all_may_hold_leave_room_for_the_next() -> None:
    """Eight have all that is kept for everybody together; the ninth has sent nothing yet."""
    unsent = dict.fromkeys(range(0, 32, 4), UNSENT_BYTES) | {32: 0}
    connection: Any = Connection.__new__(Connection)
    connection.exchanges, connection.session = unsent, SimpleNamespace(unsent=unsent.__getitem__)
    of_all = connection._unsent()
    assert of_all == UNSENT_OF_ALL
    assert connection._has_room(32, of_all)
    assert not connection._has_room(0, of_all)
    unsent[32] += connection.piece()
    assert connection._has_room(32, of_all)
    unsent[32] += connection.piece()
    assert 0 < unsent[32] <= UNSENT_LEAST
    assert not connection._has_room(32, of_all)


async def test_a_slow_application_holds_the_client_back(serve: Serve, backend: str) -> None:
    async with serve() as served, served.connect() as client:
        size = 12 * MIB
        asking = asyncio.create_task(ask(client, "/held", "PUT", bytes(size)))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        (connection,) = served.site.connections
        held = await settled(lambda: sum(connection.session._quic.waiting.values()))
        assert STREAM_WINDOW // 4 <= held <= HELD[backend]
        served.app.release.set()
        status, _, body = await asyncio.wait_for(asking, 60)
        assert (status, body.split()[0]) == (200, str(size).encode())


async def test_uploads_that_nobody_reads_make_room_when_they_end(serve: Serve) -> None:
    """Together they fill what a connection may hold, and one that is read waits behind them."""
    release, waiting = asyncio.Event(), set[str]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size = 0
        if scope["path"] == "/read":
            while (event := await receive())["type"] == "http.request":
                size += len(event["body"])
                if not event["more_body"]:
                    break
        else:
            waiting.add(scope["path"])
            await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    async with serve(app=app) as served, served.connect() as client:
        unread = [asyncio.create_task(ask(client, f"/{n}", "PUT", bytes(MIB))) for n in range(12)]
        await until(lambda: len(waiting) == len(unread))
        (connection,) = served.site.connections
        await settled(lambda: sum(connection.session._quic.waiting.values()))
        read = asyncio.create_task(ask(client, "/read", "PUT", bytes(MIB)))
        await asyncio.sleep(0.2)
        release.set()
        assert (await asyncio.wait_for(read, 30))[2] == str(MIB).encode()
        assert {answer[0] for answer in await asyncio.wait_for(asyncio.gather(*unread), 30)} == {200}


async def test_answers_take_turns(serve: Serve) -> None:
    """Of several that are large, none waits until another is over."""
    sent = dict.fromkeys(range(6), 0)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        number = int(scope["path"][1:])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": bytes(128 << 10), "more_body": True})
            sent[number] += 1
            if max(sent.values()) == 64:
                least.append(min(sent.values()))
        await send({"type": "http.response.body", "body": b""})

    least: list[int] = []
    async with serve(app=app) as served, served.connect() as client:
        answers = await asyncio.gather(*(ask(client, f"/{number}") for number in sent))
        assert {len(body) for _, _, body in answers} == {8 * MIB}
        assert least[0] > 16


async def test_many_at_once(serve: Serve, backend: str) -> None:
    async with serve() as served, served.connect() as client:
        asking = [asyncio.create_task(ask(client, "/wait")) for _ in range(AT_ONCE[backend])]
        await until(lambda: len(served.app.scopes) == AT_ONCE[backend])
        served.app.release.set()
        assert {answer[2] for answer in await asyncio.gather(*asking)} == {b"done"}


async def test_heads(serve: Serve) -> None:
    """One of some size is taken; one that is too large is refused, and never reaches the application."""
    async with serve() as served, served.connect() as client:
        for size, status in ((8000, 200), (40_000, 200), (70_000, 431), (1 << 20, 431)):
            served.app.scopes.clear()
            assert (await ask(client, "/", headers=[(b"x", b"\x01" * 4000)] * (size // 4000)))[0] == status
            assert bool(served.app.scopes) == (status == 200)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({b":path": b"a"}, 400),
        ({b":path": b"/a b"}, 400),
        ({b":path": b"/\xff"}, 400),
        ({b":scheme": b"ftp"}, 400),
        ({b":method": b"CONNECT", b":path": b"x"}, 501),
    ],
)
async def test_what_is_refused(serve: Serve, changed: dict[bytes, bytes], status: int) -> None:
    async with serve() as served, served.connect() as client:
        head = {b":method": b"GET", b":scheme": b"https", b":authority": b"x", b":path": b"/"} | changed
        session, number = client._session, client._session.next_stream()
        client._streams[number] = _Stream()
        session.head(number, list(head.items()), ended=True)
        client.transmit()
        answer, _ = await client._answer(number)
        assert answer.status == status
        assert served.app.scopes == []


async def test_a_drain_lets_requests_end(serve: Serve) -> None:
    async with serve(drain=20.0) as served, served.connect() as client, served.connect():
        asking = asyncio.create_task(ask(client, "/wait"))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        served.task.cancel()
        await until(lambda: served.site.draining)
        with pytest.raises(QuicError):
            async with served.connect(seconds=2.0):
                pass
        assert not served.task.done()
        served.app.release.set()
        assert (await asking)[2] == b"done"
        await asyncio.wait([served.task], timeout=10)
        assert served.task.done()


async def test_a_drain_ends_in_time(serve: Serve) -> None:
    async with serve(drain=0.5) as served, served.connect() as client:
        asking = asyncio.create_task(ask(client, "/wait"))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        served.task.cancel()
        await asyncio.wait([served.task], timeout=10)
        assert served.task.done()
        with pytest.raises(QuicError):
            await asking


async def test_a_request_after_the_last_word_is_rejected(serve: Serve) -> None:
    """So that a client knows that it may ask elsewhere (RFC 9114 section 5.2)."""
    async with serve(drain=20.0) as served, served.connect() as client:
        asking = asyncio.create_task(ask(client, "/wait"))
        await asyncio.wait_for(served.app.entered.wait(), 20)
        served.task.cancel()
        (connection,) = served.site.connections
        await until(lambda: connection._refused_from is not None)
        with pytest.raises(QuicError, match="broke the answer off"):
            await ask(client, "/")
        served.app.release.set()
        assert (await asking)[2] == b"done"
        assert len(served.app.scopes) == 1


async def test_a_client_that_waits_to_be_asked_for_the_body(serve: Serve) -> None:
    """RFC 9110 section 10.1.1: it is asked when the application reads, and not where that refuses."""
    async with serve() as served, served.connect() as client:
        for path, heads in (("/count", [b"100", b"200"]), ("/refuse", [b"413"])):
            session, number = client._session, client._session.next_stream()
            stream = client._streams[number] = _Stream()
            head = [(b":method", b"PUT"), (b":scheme", b"https"), (b":authority", b"x"), (b":path", path.encode())]
            session.head(number, [*head, (b"expect", b"100-continue"), (b"content-length", b"5")], ended=False)
            client.transmit()
            await until(lambda stream=stream: bool(stream.events))  # type: ignore[misc]
            if len(heads) > 1:
                session.body(number, b"hello", ended=True)
                client.transmit()
            await until(lambda stream=stream: any(getattr(one, "ended", False) for one in stream.events))  # type: ignore[misc]
            assert [dict(one.headers)[b":status"] for one in stream.events if isinstance(one, Headers)] == heads


async def test_pings(serve: Serve) -> None:
    async with serve() as served, served.connect() as client:
        assert await client.ping() < 20
