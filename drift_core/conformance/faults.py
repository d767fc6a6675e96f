"""A TCP proxy between a driver and the service that it needs, which fails on demand."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from msgspec import Struct

CHUNK = 16 * 1024
TICK = 0.01
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""The value of SO_LINGER by which a close sends RST."""

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 0\r\nconnection: close\r\n\r\n"

Direction = Literal["up", "down"]
"""Of bytes: up to the service, or down to the driver."""


class Fault(Struct, frozen=True):
    """What goes wrong once ``after`` bytes went in ``direction``, counted on each connection since `FaultProxy.inject`.

    ``reset`` sends RST to both sides, ``cut`` ends both streams cleanly, ``stall`` sends nothing more in that
    direction, ``slow`` sends ``rate`` bytes a second, and ``503`` answers as HTTP and ends the connection.
    """

    kind: Literal["reset", "cut", "stall", "slow", "503"]
    after: int = 0
    direction: Direction = "down"
    rate: int = 1000


class FaultProxy:
    """Listens on ``address`` while it is entered, and carries bytes to the service at ``host`` and ``port``.

    A fault holds for open connections too, from their next byte on, because clients keep connections for later.
    ``struck`` is set when the fault happened at least once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._service = host, port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self.port = 0
        self.fault: Fault | None = None
        self.struck = asyncio.Event()

    @property
    def address(self) -> str:
        """As ``host:port``; it stays the same while the proxy is entered."""
        return f"127.0.0.1:{self.port}"

    def inject(self, fault: Fault) -> None:
        """Makes the fault happen from now on, in place of another."""
        self.fault = fault
        self.struck.clear()
        for link in self._links:
            link.counted = {"up": 0, "down": 0}

    async def refuse(self) -> None:
        """Ends what is open by RST, and lets nobody connect until `heal`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.reset()

    async def heal(self) -> None:
        """Carries every byte again; connections that stalled stay so."""
        self.fault = None
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.carry(*self._service)
        finally:
            self._links.discard(link)


class _Link:
    """One connection through the proxy; runs in the task that accepted it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server made one for this connection
        self.task = task
        self.proxy = proxy
        self.reader = reader
        self.writers = [writer]
        self.counted: dict[Direction, int] = {"up": 0, "down": 0}

    async def carry(self, host: str, port: int) -> None:
        """Carries until both sides have ended, or one broke."""
        try:
            with suppress(OSError, asyncio.CancelledError):
                reader, writer = await asyncio.open_connection(host, port)
                self.writers.append(writer)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump("up", self.reader, writer))
                    both.create_task(self._pump("down", reader, self.writers[0]))
        except* OSError:
            pass  # one side went away, and the other is told by the close
        finally:
            for writer in self.writers:
                writer.close()

    def reset(self) -> None:
        """Sends RST to both sides."""
        for writer in self.writers:
            sock: socket.socket = writer.get_extra_info("socket")
            with suppress(OSError):  # the peer may have closed it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
            writer.transport.abort()
        self.task.cancel()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            fault = self.proxy.fault
            if fault is None or fault.direction != direction:
                await self._send(writer, data)
                continue
            before = max(0, fault.after - self.counted[direction])
            self.counted[direction] += len(data)
            await self._send(writer, data[:before])
            if self.counted[direction] > fault.after:
                await self._strike(fault, writer, data[before:])
        with suppress(OSError):
            writer.write_eof()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def _strike(self, fault: Fault, writer: asyncio.StreamWriter, rest: bytes) -> None:
        self.proxy.struck.set()
        if fault.kind == "slow":
            step = max(1, int(fault.rate * TICK))
            for start in range(0, len(rest), step):
                await asyncio.sleep(min(step, len(rest) - start) / fault.rate)
                await self._send(writer, rest[start : start + step])
        elif fault.kind == "stall":
            await asyncio.Event().wait()
        elif fault.kind == "reset":
            self.reset()
            await asyncio.Event().wait()
        else:
            if fault.kind == "503":
                await self._send(self.writers[0], UNAVAILABLE)
            self.task.cancel()
            await asyncio.Event().wait()
