"""Transports that each break one rule of `TransportSuite`."""

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from drift_core.api import StartError
from drift_core.conformance.reference.transport import AsyncioTransport, Connection, Exchange, Message, Request

MIB = 1 << 20
MUCH = 128 * MIB


class DropsRepeatedHeaders(Exchange):
    """Keeps one of several headers of the same name."""

    def start(self, status: int, headers: Any) -> None:
        super().start(status, dict(headers).items())


class DecodesRawPath(Exchange):
    """Gives the decoded path as the raw one."""

    def scope(self) -> Message:
        scope = super().scope()
        return scope | {"raw_path": scope["path"].encode()}


class AnswersHeadWithBody(Exchange):
    """Sends the body after HEAD, too."""

    def body(self, body: bytes, *, more: bool) -> None:
        if self.request.method == b"HEAD":
            self.writer.write(body)
        super().body(body, more=more)


class ForgetsRange(Exchange):
    """Leaves Content-Range out."""

    def start(self, status: int, headers: Any) -> None:
        super().start(status, [header for header in headers if header[0] != b"content-range"])


class CutsFiles(Exchange):
    """Sends only the first MiB of a file."""

    def scope(self) -> Message:
        return super().scope() | {"extensions": {"http.response.pathsend": {}}}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.pathsend":
            with open(message["path"], "rb") as file:  # noqa: ASYNC230, PTH123
                message = {"type": "http.response.body", "body": file.read(MIB)}
        await super().send(message)


class OneRequestEach(Connection):
    """Closes after each answer without having said so."""

    async def answer(self, exchange: Exchange) -> bool:
        await super().answer(exchange)
        return False


class CountsInDecimal(Exchange):
    """Takes the size of a chunk for a decimal number."""

    def chunk_size(self, line: bytes) -> int:
        return int(line.partition(b";")[0])


class TakesCutBodyForWhole(Exchange):
    """Ends the body where the client stopped."""

    async def read(self) -> bytes:
        try:
            return await super().read()
        except EOFError:
            self.unread = False
            return b""


class TakesResetBodyForWhole(Exchange):
    """Ends the body where the connection was reset."""

    async def read(self) -> bytes:
        try:
            return await super().read()
        except ConnectionError:
            self.unread = False
            return b""


class NeverContinues(Exchange):
    """Waits for a body whose client waits for 100 Continue."""

    async def ask_for_body(self) -> None:
        self.expects = False


class AlwaysContinues(Connection):
    """Sends 100 Continue before the application has said whether it wants the body."""

    async def answer(self, exchange: Exchange) -> bool:
        await exchange.ask_for_body()
        return await super().answer(exchange)


class AnswersAfterBody(Exchange):
    """Sends no answer before the whole body came."""

    async def send(self, message: Message) -> None:
        while self.unread and not self.expects:
            await self.read()
        await super().send(message)


class ClosesOverBody(Exchange):
    """Closes while the client still sends, which resets the connection."""

    async def linger(self) -> None:
        return


class WaitsForHalfClosed(Connection):
    """Never answers a client that has closed its side."""

    async def answer(self, exchange: Exchange) -> bool:
        if not exchange.unread:
            await asyncio.sleep(0.02)
            if self.reader.at_eof():
                await asyncio.Event().wait()
        return await super().answer(exchange)


class SendsIntoVoid(Exchange):
    """Does not say that the client has left."""

    async def send(self, message: Message) -> None:
        try:
            await super().send(message)
        except OSError:
            await asyncio.sleep(0.01)


class EndsBrokenAnswer(Connection):
    """Ends an answer that broke off like one that did not."""

    def broken(self, exchange: Exchange) -> None:
        if exchange.started:
            self.writer.write(b"0\r\n\r\n")
            self.writer.close()
        else:
            super().broken(exchange)


class TellsSecrets(Connection):
    """Sends the client what the application stumbled over."""

    def explanation(self, error: Exception) -> bytes:
        return str(error).encode()


class BuffersAnswers(Exchange):
    """Keeps what a slow client does not take."""

    async def send(self, message: Message) -> None:
        self.writer.transport.set_write_buffer_limits(MUCH)
        await super().send(message)


class BuffersBodies(AsyncioTransport):
    """Keeps what a slow application does not take."""

    buffer = MUCH


HEADS: WeakKeyDictionary[Any, asyncio.Lock] = WeakKeyDictionary()
"""For each application the lock of `OneHeadAtATime`."""


class OneHeadAtATime(Connection):
    """Reads the head of one request to its end before that of another."""

    async def head(self) -> bytes:
        first = await self.reader.readexactly(1)
        async with HEADS.setdefault(self.app, asyncio.Lock()):
            return first + await super().head()


class EndlessHeadConnection(Connection):
    """Accepts a head of any length."""

    head_bytes = MUCH


class EndlessHead(AsyncioTransport):
    """Accepts a head of 8 MiB."""

    connection = EndlessHeadConnection
    buffer = 8 * MIB


class BelievesFirstLengthRequest(Request):
    """Believes the first of two lengths."""

    def framing(self, lengths: list[bytes], codings: list[bytes]) -> tuple[bool, int]:
        return super().framing(lengths[:1], codings)


class BelievesFirstLength(Connection):
    """Believes the first of two lengths."""

    request = BelievesFirstLengthRequest


FEW: WeakKeyDictionary[Any, asyncio.Semaphore] = WeakKeyDictionary()
"""For each application the slots of `FewAtOnce`."""


class FewAtOnce(Connection):
    """Runs at most fifty requests at once."""

    async def answer(self, exchange: Exchange) -> bool:
        async with FEW.setdefault(self.app, asyncio.Semaphore(50)):
            return await super().answer(exchange)


class FewConnections(AsyncioTransport):
    """Accepts 150 connections, whatever the operator allows."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.slots = asyncio.Semaphore(150)


class DrainsWithOpenDoor(AsyncioTransport):
    """Accepts connections until the drain is over."""

    async def stop(self, server: asyncio.Server) -> None:
        try:
            await self.drain()
        finally:
            server.close()


class CutsUploads(AsyncioTransport):
    """Cuts requests whose body is still on its way."""

    async def drain(self) -> None:
        for task, connection in self.connections.items():
            if isinstance(connection, Receiving) and connection.receiving.unread:
                task.cancel()
        await super().drain()


class Receiving(Connection):
    """Knows the exchange that runs."""

    receiving: Exchange

    async def answer(self, exchange: Exchange) -> bool:
        self.receiving = exchange
        return await super().answer(exchange)


CutsUploads.connection = Receiving


class WaitsForIdle(AsyncioTransport):
    """Waits for clients that only stay connected."""

    async def drain(self) -> None:
        for connection in self.connections.values():
            connection.busy = True
        await super().drain()


class DrainsForEver(AsyncioTransport):
    """Waits for the last request, however long it takes."""

    async def drain(self) -> None:
        while busy := [task for task, connection in self.connections.items() if connection.busy]:
            await asyncio.wait(busy)
        await super().drain()


KEPT: list[socket.socket] = []
"""What `KeepsPort` does not give back."""


class KeepsPort(AsyncioTransport):
    """Holds the port after the stop."""

    async def stop(self, server: asyncio.Server) -> None:
        await super().stop(server)
        host, _, port = self.settings.bind_addr.rpartition(":")
        KEPT.append(socket.socket())
        with suppress(OSError):
            KEPT[-1].bind((host, int(port)))


class RaisesOsErrorForTakenPort(AsyncioTransport):
    """Raises what the operating system says of a port in use."""

    async def listen(self, connected: Any) -> asyncio.Server:
        try:
            return await super().listen(connected)
        except StartError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
                raise error.__cause__ from None
            raise


class RaisesOsErrorForBadAddress(AsyncioTransport):
    """Raises what the operating system says of an address that is not this machine's."""

    async def listen(self, connected: Any) -> asyncio.Server:
        try:
            return await super().listen(connected)
        except StartError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRNOTAVAIL:
                raise error.__cause__ from None
            raise


class HidesTls(Exchange):
    """Says http where the client said https."""

    def scope(self) -> Message:
        return super().scope() | {"scheme": "http"}


class KnowsNoAlpn(AsyncioTransport):
    """Leaves the choice of a protocol open."""

    def tls(self) -> Any:
        context = super().tls()
        if context is not None:
            context.set_alpn_protocols([])
        return context


class ServesWithoutTls(AsyncioTransport):
    """Serves in the clear where the files for TLS cannot be used."""

    def tls(self) -> Any:
        try:
            return super().tls()
        except StartError:
            return None


MUTANTS: dict[str, type[Exchange | Connection | AsyncioTransport]] = {
    "transport.get": DropsRepeatedHeaders,
    "transport.scope": DecodesRawPath,
    "transport.head": AnswersHeadWithBody,
    "transport.partial-content": ForgetsRange,
    "transport.file": CutsFiles,
    "transport.keep-alive": OneRequestEach,
    "transport.upload": CountsInDecimal,
    "transport.body-cut-short": TakesCutBodyForWhole,
    "transport.reset": TakesResetBodyForWhole,
    "transport.continue": NeverContinues,
    "transport.refusal-without-continue": AlwaysContinues,
    "transport.early-answer": AnswersAfterBody,
    "transport.refusal-is-heard": ClosesOverBody,
    "transport.half-close": WaitsForHalfClosed,
    "transport.reader-leaves": SendsIntoVoid,
    "transport.broken-answer": EndsBrokenAnswer,
    "transport.failing-application": TellsSecrets,
    "transport.slow-reader": BuffersAnswers,
    "transport.slow-application": BuffersBodies,
    "transport.slow-clients": OneHeadAtATime,
    "transport.long-head": EndlessHead,
    "transport.malformed": BelievesFirstLength,
    "transport.many-at-once": FewAtOnce,
    "transport.idle-connections": FewConnections,
    "transport.drain": DrainsWithOpenDoor,
    "transport.drain-of-slow-transfers": CutsUploads,
    "transport.drain-with-idle-connections": WaitsForIdle,
    "transport.drain-time": DrainsForEver,
    "transport.serves-again": KeepsPort,
    "transport.port-in-use": RaisesOsErrorForTakenPort,
    "transport.bad-address": RaisesOsErrorForBadAddress,
    "transport.tls": HidesTls,
    "transport.alpn": KnowsNoAlpn,
    "transport.bad-certificate": ServesWithoutTls,
}
"""The mutant of each rule: a part of the reference, which `transport_of` completes."""


def transport_of(mutant: type[Exchange | Connection | AsyncioTransport]) -> type[AsyncioTransport]:
    """Returns the reference with one part exchanged."""
    if issubclass(mutant, AsyncioTransport):
        return mutant
    connection = mutant if issubclass(mutant, Connection) else type("Mutated", (Connection,), {"exchange": mutant})
    return type("MutatedTransport", (AsyncioTransport,), {"connection": connection})
