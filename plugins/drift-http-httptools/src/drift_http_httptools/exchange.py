"""One request and its answer, as ASGI sees them (ASGI 3.0, HTTP 2.4)."""

import asyncio
import os
import stat
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from drift_core.api import AsgiApp
from drift_http_httptools.receiving import LongBody
from drift_http_httptools.sendfile import read_whole, send_file

if TYPE_CHECKING:
    from drift_http_httptools.connection import Connection

Message = dict[str, Any]

STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
WITHOUT_BODY: Final = frozenset({204, 304})
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
JOINED_BYTES: Final = 64 << 10
"""Up to this size a body is copied to go out together with its head."""


class ClientGone(OSError):
    """The client left before it had its answer; raised by ``send``, as ASGI 2.4 asks."""


class Exchange:
    """A request on its way to the application; ``receive`` and ``send`` are what the application gets.

    ``last`` says that the connection ends with this answer, ``broken`` that the answer is not whole, ``withheld`` that
    the client waits to be asked for the body, and ``buffered`` is bytes of it that the application has not taken.
    """

    __slots__ = (
        "_begun",
        "_chunked",
        "_connection",
        "_done",
        "_gone",
        "_left",
        "_parts",
        "_ready",
        "_silent",
        "_start",
        "_told",
        "_whole",
        "broken",
        "buffered",
        "last",
        "rest",
        "scope",
        "task",
        "withheld",
    )

    def __init__(self, connection: "Connection", scope: Message, *, last: bool, withheld: bool) -> None:
        self.scope = scope
        self.last = last
        self.broken = False
        self.buffered = 0
        self.rest: LongBody | None = None
        self.withheld = withheld
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self._whole = False
        self._told = False
        """Whether the application knows that the body is whole."""
        self._gone = False
        self._ready: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._begun = False
        self._done = False
        self._silent = scope["method"] == "HEAD"
        self._chunked = False
        self._left: int | None = None
        """Bytes of the body that are still to be sent, where the answer says how long it is."""

    def feed(self, part: bytes) -> None:
        """Takes a part of the body from the connection."""
        self.withheld = False
        self._parts.append(part)
        self.buffered += len(part)
        self._wake()

    def complete(self) -> None:
        """Ends the body."""
        self.withheld = False
        self._whole = True
        self._wake()

    def disconnect(self) -> None:
        """Tells an application that waits that its client has left, or that the rest of the body never comes."""
        self._gone = True
        self._wake()

    async def run(self, app: AsgiApp) -> None:
        """Runs the application, and answers 500 where it fails before it answers."""
        site = self._connection.site
        try:
            await app(self.scope, self.receive, self.send)
            if not self._done:
                self._fail()
        except ClientGone:
            self.broken = True
        except asyncio.CancelledError:
            self.broken = not self._done
            # At the end of a drain it is our own.
            if not site.cutting:
                site.log.exception("a request was cancelled by somebody else", path=self.scope["path"])
                raise
        except Exception as error:
            site.log.exception("the application failed", path=self.scope["path"], error=repr(error))
            self._fail()
        finally:
            self._connection.finished(self)

    async def receive(self) -> Message:
        """Returns the next part of the body, and after its end waits for the client to leave, or the answer to end."""
        while not self._parts:
            if self._whole and not self._told:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._gone or self._done:
                return {"type": "http.disconnect"}
            if self.withheld:
                self.withheld = False
                self._connection.transport.write(CONTINUE)
            if self.rest is not None:
                await self._read()
            else:
                self._ready = asyncio.get_running_loop().create_future()
                await self._ready
        part = self._parts.popleft()
        self.buffered -= len(part)
        self._connection.wants(self)
        self._told = self._whole and not self._parts
        return {"type": "http.request", "body": part, "more_body": not self._told}

    async def _read(self) -> None:
        assert self.rest is not None  # noqa: S101 - `receive` has seen it
        part = await self.rest.read()
        if not part:
            self.disconnect()
            return
        self._parts.append(part)
        self.buffered += len(part)
        if not self.rest.left:
            self.rest.close()
            self.rest = None
            self._connection.ended()

    async def send(self, event: Message) -> None:
        """Sends a part of the answer, and returns when the client has taken enough. Raises `ClientGone`."""
        connection = self._connection
        if connection.gone:
            raise ClientGone
        kind = event["type"]
        if kind == "http.response.start" and self._start is None:
            # It goes out with the body, whose length may still be missing.
            self._start = event
        elif self._start is None or self._done:
            message = f"{kind} does not belong here"
            raise RuntimeError(message)
        elif kind == "http.response.pathsend":
            await self._send_file(event["path"])
        else:
            more = event.get("more_body", False)
            self._write(event.get("body", b""), more=more)
            if more:
                # Where the client takes everything at once nothing else in the loop would ever run.
                await asyncio.sleep(0)
            await connection.writable()
            if more and connection.gone:
                raise ClientGone

    def _write(self, body: bytes, *, more: bool) -> None:
        parts = [] if self._begun else [self._head(None if more else len(body))]
        if self._silent:
            body = b""
        elif self._chunked:
            parts += [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            parts += [] if more else [b"0\r\n\r\n"]
        else:
            self._count(len(body), more=more)
            parts.append(body)
        transport = self._connection.transport
        if len(body) < JOINED_BYTES:
            transport.write(b"".join(parts))
        else:
            transport.writelines(parts)
        if not more:
            self._finish()

    async def _send_file(self, path: str) -> None:
        connection = self._connection
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
            if found.st_size <= JOINED_BYTES:
                self._write(await read_whole(file, found.st_size), more=False)
                return
            head = b"" if self._begun else self._head(found.st_size)
            if self._silent:
                connection.transport.write(head)
            else:
                self._count(found.st_size, more=False)
                await send_file(connection, head, file, found.st_size)
        except ConnectionError as error:
            raise ClientGone from error
        except OSError as error:
            message = f"cannot read {path}: {error.strerror}"
            raise RuntimeError(message) from error
        finally:
            os.close(file)
        self._finish()

    def _count(self, size: int, *, more: bool) -> None:
        """Raises RuntimeError where the body is not as long as its head says: the client would wait, or be misled."""
        if self._left is None:
            return
        self._left -= size
        if self._left < 0 or (self._left and not more):
            message = f"the body is not as long as content-length says: {-self._left} bytes more"
            raise RuntimeError(message)

    def _head(self, length: int | None) -> bytes:
        """Returns the head of the answer; ``length`` is that of the body, None where it is not known."""
        assert self._start is not None  # noqa: S101 - `send` has seen it
        status, site = self._start["status"], self._connection.site
        lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, site.date()]
        count, sized = 2, False
        for name, value in self._start["headers"]:
            if name == b"content-length":
                if sized:
                    message = "two lengths"
                    raise RuntimeError(message)
                sized, self._left = True, int(value)
            elif name == b"connection":
                self.last = self.last or value.lower() == b"close"
                continue
            lines += (name, b": ", value, b"\r\n")
            count += 1
        if status in WITHOUT_BODY:
            self._silent = True
        framing = b"" if sized or self._silent else self._frame(length)
        if self.withheld or site.draining:
            self.last = True
        if self.last:
            framing += b"connection: close\r\n"
        elif self.scope["http_version"] != "1.1":
            framing += b"connection: keep-alive\r\n"
        head = b"".join(lines)
        # More line breaks would be headers that somebody smuggled into a value.
        if head.count(b"\n") != count or head.count(b"\r") != count or b"\0" in head:
            message = "a header has a line break or a zero in it"
            raise RuntimeError(message)
        self._begun = True
        return head + framing + b"\r\n"

    def _frame(self, length: int | None) -> bytes:
        """Returns the header that says where the body ends, and remembers it (RFC 9112 section 6)."""
        if length is not None:
            self._left = length
            return b"content-length: %d\r\n" % length
        if self.scope["http_version"] == "1.1":
            self._chunked = True
            return b"transfer-encoding: chunked\r\n"
        self.last = True
        return b""

    def _fail(self) -> None:
        if self._begun or self._gone:
            self.broken = True
            return
        self._start = {"status": 500, "headers": [(b"content-type", b"text/plain")]}
        self._write(b"500 Internal Server Error\n", more=False)

    def _finish(self) -> None:
        self._done = True
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
