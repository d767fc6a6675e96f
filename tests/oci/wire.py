"""A raw HTTP/1.1 connection, for requests that a polite library would mend, refuse or complete."""

import socket
import struct
import time
from http.client import HTTPResponse
from typing import Any, Self

import msgspec

from tests.oci.client import is_error_body
from tests.server import Server

TIMEOUT = 60.0


class Answer(msgspec.Struct, frozen=True):
    """An answer as it came; header names are in lower case, and a repeated header keeps its last value."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Wire:
    """One connection to a server; closes it at the end of the ``with`` block."""

    def __init__(self, server: Server) -> None:
        self._host = server.host
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, method: str, target: str | bytes, /, **headers: str | int) -> None:
        """Sends a request line and headers, nothing more; ``_`` stands for ``-`` in a header's name."""
        target = target.encode("ascii") if isinstance(target, str) else target
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"host": self._host, **headers}.items()]
        self.send(method.encode() + b" " + target + b" HTTP/1.1\r\n" + "\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def send_chunk(self, content: bytes) -> None:
        """Sends one chunk of a body with ``transfer-encoding: chunked``; an empty one ends the body."""
        self.send(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def answer(self, method: str = "GET") -> Answer:
        """Reads one answer; ``method`` is that of the request, since HEAD has no body."""
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())

    def exchange(self, method: str, target: str | bytes, body: bytes = b"", /, **headers: str | int) -> Answer:
        """Sends one whole request and reads its answer."""
        self.begin(method, target, content_length=len(body), **headers)
        if body:
            self.send(body)
        return self.answer(method)

    def reset(self) -> None:
        """Ends the connection with a TCP reset, as a crashed client's machine does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def is_over(server: Server, request_id: str) -> None:
    """Waits until the server's log has a request, which it gets when the server is done with it."""
    deadline = time.monotonic() + TIMEOUT
    while request_id not in server.log.read_text():
        assert time.monotonic() < deadline, f"{request_id} never ends"
        time.sleep(0.05)


def ask(server: Server, method: str, target: str | bytes, /, **headers: str | int) -> Answer:
    """Sends one request without a body on a connection of its own, and checks the form of an error."""
    with Wire(server) as wire:
        answer = wire.exchange(method, target, **headers)
    assert answer.status < 500, answer.body
    if answer.status >= 400 and answer.headers.get("content-type") == "application/json" and method != "HEAD":
        is_error_body(answer.json())
    return answer
