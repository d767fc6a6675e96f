"""One request and its answer over HTTP/3, as ASGI sees them (ASGI 3.0, HTTP 2.4)."""

import asyncio
import errno
import os
import stat
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from drift_core.api import AsgiApp
from drift_quic_aioquic.engine import HeaderList

if TYPE_CHECKING:
    from drift_quic_aioquic.connection import Connection

Message = dict[str, Any]

WITHOUT_BODY: Final = frozenset({204, 304})
NOT_FORWARDED: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""Headers that speak of a TCP connection, and that HTTP/3 forbids (RFC 9114 section 4.2)."""

PIECE_BYTES: Final = 64 << 10
"""The most that is handed to the engine at once, less where many answers share a connection."""

READ_BYTES: Final = 256 << 10
"""How much of a file is read at once, less where many answers share a connection."""

NO_ERROR: Final = 0x100
INTERNAL_ERROR: Final = 0x102
REQUEST_REJECTED: Final = 0x10B
MESSAGE_ERROR: Final = 0x10E
"""Codes of RFC 9114 section 8.1."""


class ClientGone(OSError):
    """The client left before it had its answer; raised by ``send``, as ASGI 2.4 asks."""


class Exchange:
    """A request on its way to the application; ``receive`` and ``send`` are what the application gets.

    ``safe`` says that to run it twice does no harm: it may run before the client has proved that it is no replay.
    """

    __slots__ = (
        "_begun",
        "_connection",
        "_done",
        "_gone",
        "_left",
        "_parts",
        "_ready",
        "_silent",
        "_start",
        "_told",
        "_unwanted",
        "_whole",
        "_withheld",
        "safe",
        "scope",
        "stream",
    )

    def __init__(self, connection: "Connection", stream: int, scope: Message) -> None:
        self.scope = scope
        self.stream = stream
        self.safe = scope["method"] in {"GET", "HEAD"}
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self._whole = False
        self._told = False
        """Whether the application knows that the body is whole."""
        self._gone = False
        """Nothing more of the body comes."""
        self._unwanted = False
        """Nobody waits for the answer."""
        self._ready: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._begun = False
        self._done = False
        self._silent = scope["method"] == "HEAD"
        self._withheld = (b"expect", b"100-continue") in scope["headers"]
        """Whether the client waits to be asked for the body."""
        self._left: int | None = None
        """Bytes of the body that are still to be sent, where the answer says how long it is."""

    def feed(self, part: bytes, *, ended: bool) -> None:
        """Takes a part of the body from the connection."""
        self._withheld = False
        if part:
            self._parts.append(part)
        self._whole = self._whole or ended
        self._wake()

    def disconnect(self, *, answer: bool) -> None:
        """Tells the application that the rest of the body never comes, and if ``answer`` that nobody wants one."""
        self._gone = True
        self._unwanted = self._unwanted or answer
        self._wake()
        if answer:
            self._connection.release(self)

    async def run(self, app: AsgiApp) -> None:
        """Runs the application, and answers 500 where it fails before it answers."""
        site = self._connection.site
        try:
            await app(self.scope, self.receive, self.send)
            if not self._done:
                self._fail()
        except ClientGone:
            self._break()
        except asyncio.CancelledError:
            self._break()
            # At the end of a drain it is our own.
            if not site.cutting:
                site.log.exception("a request was cancelled by somebody else", path=self.scope["path"])
                raise
        except Exception as error:
            site.log.exception("the application failed", path=self.scope["path"], error=repr(error))
            self._fail()
        finally:
            self._connection.finished(self, whole=self._whole)

    async def receive(self) -> Message:
        """Returns the next part of the body, and after its end waits for the client to leave, or the answer to end."""
        while not self._parts:
            if self._whole and not self._told:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._gone or self._done:
                return {"type": "http.disconnect"}
            if self._withheld and not self._start:
                self._withheld = False
                self._connection.session.head(self.stream, [(b":status", b"100")], ended=False)
                self._connection.transmit_soon()
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready
        # What has arrived in many datagrams is one part.
        part = self._parts.popleft() if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._connection.consumed(self, len(part))
        self._told = self._whole
        return {"type": "http.request", "body": part, "more_body": not self._told}

    async def send(self, event: Message) -> None:
        """Sends a part of the answer, and returns when the client has taken enough. Raises `ClientGone`."""
        if self._unwanted:
            raise ClientGone
        kind = event["type"]
        if kind == "http.response.start" and self._start is None:
            # It goes out with the body, which may be all there is.
            self._start = event
            self._silent = self._silent or event["status"] in WITHOUT_BODY
        elif self._start is None or self._done:
            message = f"{kind} does not belong here"
            raise RuntimeError(message)
        elif kind == "http.response.pathsend":
            await self._send_file(event["path"])
        elif kind == "http.response.body":
            await self._write(event.get("body", b""), more=event.get("more_body", False))

    async def _write(self, body: bytes | memoryview, *, more: bool) -> None:
        connection, session = self._connection, self._connection.session
        if self._silent:
            body = b""
        self._count(len(body), more=more)
        if not self._begun:
            headers = self._head(None if more else len(body))
            session.head(self.stream, headers, ended=not more and not body)
            self._begun = True
            connection.transmit_soon()
            if not more and not body:
                self._finish()
                return
        view = memoryview(body)
        place = 0
        while place < len(body):
            await connection.room(self)
            if self._unwanted:
                raise ClientGone
            piece = view[place : place + connection.piece()]
            place += len(piece)
            session.body(self.stream, piece, ended=not more and place == len(body))
            connection.transmit_soon()
        if not more:
            if not body:
                session.body(self.stream, b"", ended=True)
                connection.transmit_soon()
            self._finish()
        else:
            # Where the client takes everything at once nothing else in the loop would ever run.
            await asyncio.sleep(0)

    async def _send_file(self, path: str) -> None:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # As an OSError it would say that the client has left.
            message = f"cannot send {path}: {error.strerror}"
            raise RuntimeError(message) from error
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                message = f"cannot send {path}: not a file"
                raise RuntimeError(message)
            if self._silent or not found.st_size:
                self._left = None if self._silent else self._left
                await self._write(b"", more=False)
                return
            start = 0
            place = memoryview(b"")
            while start < found.st_size:
                size = min(READ_BYTES, self._connection.share() // 2)
                stop = min(start + size, found.st_size)
                if len(place) != stop - start:
                    # Else the last one serves again: the engine copies what it is given, and new ones cost zeros.
                    place = memoryview(bytearray(stop - start))
                part = await read_part(file, start, place)
                if len(part) != stop - start:
                    message = f"cannot send {path}: it became shorter"
                    raise RuntimeError(message)
                await self._write(part, more=stop < found.st_size)
                start = stop
        except ClientGone:
            raise
        except OSError as error:
            message = f"cannot read {path}: {error.strerror}"
            raise RuntimeError(message) from error
        finally:
            os.close(file)

    def _count(self, size: int, *, more: bool) -> None:
        """Raises RuntimeError where the body is not as long as its head says: the client would wait, or be misled."""
        if self._left is None:
            self._left = self._announced()
        if self._left is None or self._silent:
            return
        self._left -= size
        if self._left < 0 or (self._left and not more):
            message = f"the body is not as long as content-length says: {-self._left} bytes more"
            raise RuntimeError(message)

    def _announced(self) -> int | None:
        assert self._start is not None  # noqa: S101 - `send` has seen it
        lengths = [int(value) for name, value in self._start["headers"] if name.lower() == b"content-length"]
        if len(lengths) > 1:
            message = "two lengths"
            raise RuntimeError(message)
        return lengths[0] if lengths else None

    def _head(self, length: int | None) -> HeaderList:
        """Returns the head of the answer; ``length`` is that of the body, None where it is not known."""
        assert self._start is not None  # noqa: S101 - `send` has seen it
        status = self._start["status"]
        head: HeaderList = [(b":status", b"%d" % status), (b"date", self._connection.site.date())]
        sized = False
        for name, value in self._start["headers"]:
            lower = name.lower()
            if lower in NOT_FORWARDED or (lower == b"date"):
                continue
            if b"\r" in value or b"\n" in value or b"\0" in value:
                message = "a header has a line break or a zero in it"
                raise RuntimeError(message)
            sized = sized or lower == b"content-length"
            head.append((lower, value))
        if not sized and length is not None and not self._silent:
            head.append((b"content-length", b"%d" % length))
        return head

    def _fail(self) -> None:
        if self._begun or self._unwanted:
            self._break()
            return
        text = f"{HTTPStatus.INTERNAL_SERVER_ERROR.value} {HTTPStatus.INTERNAL_SERVER_ERROR.phrase}\n".encode()
        head = [(b":status", b"500"), (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
        session = self._connection.session
        session.head(self.stream, head, ended=self._silent)
        if not self._silent:
            session.body(self.stream, text, ended=True)
        self._finish()
        self._connection.transmit_soon()

    def _break(self) -> None:
        """Breaks the answer off, so that it does not look whole."""
        if not self._done:
            self._done = True
            self._connection.session.reset(self.stream, INTERNAL_ERROR)
            self._connection.transmit_soon()

    def _finish(self) -> None:
        self._done = True
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)


async def read_part(file: int, start: int, place: memoryview) -> memoryview:
    """Returns as much of ``place`` as a file has filled from ``start`` on.

    At once where that is in memory, else in a thread, so that a slow disk delays nobody.
    """
    try:
        read = os.preadv(file, [place], start, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EOPNOTSUPP}:
            raise
        read = 0
    if read < len(place):
        read += await asyncio.to_thread(os.preadv, file, [place[read:]], start + read)
    return place[:read]
