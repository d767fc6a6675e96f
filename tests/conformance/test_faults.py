"""The fault proxy, between a client and a service that echoes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from drift_core.conformance.faults import Fault, FaultProxy

pytestmark = pytest.mark.anyio
CONTENT = bytes(range(256)) * 400


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy(*server.sockets[0].getsockname()) as proxy:
        yield proxy


class Client:
    """A connection that has sent everything it will send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    yield Client(reader, writer)
    writer.close()


async def test_carries(proxy: FaultProxy, client: Client) -> None:
    """Without a fault every byte and the end of each stream go through."""
    await client.send(CONTENT)
    client.writer.write_eof()
    assert await client.reader.read() == CONTENT
    assert not proxy.struck.is_set()


@pytest.mark.parametrize("after", [0, 1, 5000])
async def test_cut(proxy: FaultProxy, client: Client, after: int) -> None:
    """A cut lets exactly so many bytes through, and then the stream ends as if it were whole."""
    proxy.inject(Fault("cut", after))
    await client.send(CONTENT[: after + 1])
    assert await client.reader.read() == CONTENT[:after]


@pytest.mark.parametrize("after", [0, 1, 5000])
async def test_reset(proxy: FaultProxy, client: Client, after: int) -> None:
    """A reset is an error for the client, not an end."""
    proxy.inject(Fault("reset", after, "up"))
    await client.send(CONTENT[: after + 1])
    with pytest.raises(ConnectionResetError):
        await client.reader.read()


async def test_stall(proxy: FaultProxy, client: Client) -> None:
    """A stall keeps the connection open, and sends nothing more on it; a new one after `heal` works."""
    proxy.inject(Fault("stall", 10))
    await client.send(b"x" * 20)
    await proxy.struck.wait()
    assert await client.reader.readexactly(10) == b"x" * 10
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)
    await proxy.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await Client(reader, writer).send(b"y")
    assert await reader.readexactly(1) == b"y"
    writer.close()


async def test_slow(proxy: FaultProxy, client: Client) -> None:
    """A slow peer loses nothing, and takes the time that its rate means."""
    proxy.inject(Fault("slow", rate=2000))
    begun = asyncio.get_running_loop().time()
    await client.send(b"x" * 600)
    assert await client.reader.readexactly(600) == b"x" * 600
    assert asyncio.get_running_loop().time() - begun >= 0.25


async def test_503(proxy: FaultProxy, client: Client) -> None:
    """The request never reaches the service, and the client reads an answer of HTTP."""
    proxy.inject(Fault("503", direction="up"))
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"GET" not in answer


async def test_counts_since_injection(proxy: FaultProxy, client: Client) -> None:
    """A connection that was open before is struck as well, after so many more bytes."""
    await client.send(b"x" * 100)
    assert await client.reader.readexactly(100) == b"x" * 100
    proxy.inject(Fault("cut", 10))
    await client.send(b"y" * 20)
    assert await client.reader.read() == b"y" * 10


async def test_refuse(proxy: FaultProxy, client: Client) -> None:
    """While it refuses, open connections are reset and none can be made; then they can, at the same address."""
    await client.send(b"x")
    await client.reader.readexactly(1)
    address = proxy.address
    await proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)
    await proxy.heal()
    assert proxy.address == address
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await Client(reader, writer).send(b"z")
    assert await reader.readexactly(1) == b"z"
    writer.close()
