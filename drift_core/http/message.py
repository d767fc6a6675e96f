"""Requests and replies of the `/v2` endpoints, as thin as the hot path wants them."""

from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Struct

from drift_core.errors import QueryInvalid, RegistryError, SizeInvalid, UriTooLong

Headers = Sequence[tuple[bytes, bytes]]
API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")

# A Digest is a str of its own class, which msgspec does not take for one.
_JSON = msgspec.json.Encoder(enc_hook=str)

WITHOUT_BODY = (204, 304)
MAX_QUERY_FIELDS = 1000
"""Most query parameters of one request."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody is left to answer."""


class Request:
    """One request; header names are lower case, and a repeated header is one list (RFC 9110 section 5.3)."""

    __slots__ = ("_headers", "_query", "_receive", "method", "raw_path", "scope")

    def __init__(self, scope: Any, receive: Any) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.raw_path: str = (scope.get("raw_path") or scope["path"].encode()).decode("ascii", "replace")
        self._receive = receive
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._query: dict[str, list[str]] | None = None

    def header(self, name: bytes) -> str | None:
        """Returns a header's value, or None."""
        values = [value for known, value in self._headers if known == name]
        return b", ".join(values).decode("latin-1") if values else None

    def values(self, name: str) -> list[str]:
        """Returns every value of a query parameter. Raises `QueryInvalid` for a query that cannot be read."""
        if self._query is None:
            self._query = _parse_query(self.scope["query_string"])
        return self._query.get(name, [])

    def value(self, name: str) -> str | None:
        """Returns the one value of a query parameter, or None. Raises `QueryInvalid` where it is repeated."""
        values = self.values(name)
        if len(values) > 1:
            raise QueryInvalid(f"{name} may be given once", parameter=name)
        return values[0] if values else None

    @property
    def content_length(self) -> int | None:
        """The announced bytes of the body, or None for a chunked one. Raises `SizeInvalid`."""
        text = self.header(b"content-length")
        if text is None:
            return None
        if not text.isdecimal():
            raise SizeInvalid("Content-Length is not a number")
        return int(text)

    async def body(self) -> AsyncIterator[bytes]:
        """Yields the body as it arrives. Raises `ClientGone` where the connection breaks before its end."""
        while True:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise ClientGone
            if event.get("body"):
                yield event["body"]
            if not event.get("more_body"):
                return


def _parse_query(raw: bytes) -> dict[str, list[str]]:
    query: dict[str, list[str]] = {}
    if raw.count(b"&") >= MAX_QUERY_FIELDS:
        raise UriTooLong(f"a query has at most {MAX_QUERY_FIELDS} parameters")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise QueryInvalid("the query cannot be read") from error
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    return query


def decode_segment(segment: str) -> str:
    """Returns one path segment without percent-encoding; what is not UTF-8 becomes a character no name may have."""
    return unquote(segment, errors="replace") if "%" in segment else segment


class FileBody(Struct, frozen=True):
    """A whole file as a body; ``size`` in bytes."""

    path: str
    size: int


class Reply(Struct, frozen=True):
    """An answer; where the body is not bytes, or there is none (204, 304), only the headers may say its length."""

    status: int
    headers: Headers
    body: bytes | FileBody | AsyncIterator[bytes] = b""

    async def send(self, request: Request, send: Any) -> None:
        """Sends the answer; to HEAD without its body, and a file by the server itself where it can."""
        body = self.body
        headers = [*self.headers, API_VERSION]
        if isinstance(body, bytes) and self.status not in WITHOUT_BODY:
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if isinstance(body, bytes) or request.method == "HEAD":
            content = b"" if request.method == "HEAD" or not isinstance(body, bytes) else body
            await send({"type": "http.response.body", "body": content})
        elif isinstance(body, FileBody):
            await send({"type": "http.response.pathsend", "path": body.path})
        else:
            async for chunk in body:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def encoded(*headers: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    """Returns headers as they are sent."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def json_reply(status: int, value: Any, *headers: tuple[str, str], media_type: str = "application/json") -> Reply:
    """Returns an answer with a JSON body."""
    return Reply(status, encoded(("content-type", media_type), *headers), _JSON.encode(value))


def error_reply(error: RegistryError) -> Reply:
    """Returns the answer that the distribution specification, "Error Codes", gives to an error."""
    body = {"errors": [{"code": error.code, "message": error.message, "detail": error.detail}]}
    return json_reply(error.status, body, *error.headers())
