"""The message set of the ALPN ``drift-registry``: one request and one reply on each stream.

A message is a MessagePack map of at most 1 MiB with its kind in ``type``. (The original wrote bincode, whose form
follows from the types of Rust.) What a message asks for is asked of the registry's own application, so that logins,
policies, gates and limits are those of every other way in.
"""

import asyncio
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from drift_core.api import AsgiApp, Struct

if TYPE_CHECKING:
    from drift_quic_aioquic.connection import Connection

MAX_MESSAGE: Final = 1 << 20
"""Bytes of the largest message; a larger blob goes over HTTP/3."""

MAX_HELD: Final = 4 << 20
"""Bytes of messages that one connection may have under way."""

MAX_RUNNING: Final = 256
"""Messages that one connection may have under way, also those whose streams the client has broken off."""

TOO_LARGE, TOO_MANY = 413, 429
BAD_REQUEST, UNEXPECTED = 400, 500
SUCCESS: Final = range(200, 300)
CANCELLED: Final = 0x10C
MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json"
)


class BlobMetadata(Struct, frozen=True, omit_defaults=True):
    """What is known of a blob; ``size`` in bytes, ``last_modified`` in seconds since the epoch."""

    size: int
    content_type: str | None = None
    last_modified: int | None = None


class BlobUpload(Struct, frozen=True, tag=True, omit_defaults=True):
    """Makes ``content`` a blob of ``repository``; ``digest`` may be REPOSITORY@DIGEST instead."""

    digest: str
    content: bytes
    metadata: BlobMetadata | None = None
    repository: str | None = None
    authorization: str | None = None


class BlobRequest(Struct, frozen=True, tag=True, omit_defaults=True):
    """Asks for a blob."""

    digest: str
    repository: str | None = None
    authorization: str | None = None


class ManifestUpload(Struct, frozen=True, tag=True, omit_defaults=True):
    """Pushes a manifest; ``reference`` is a tag or digest, or REPOSITORY:TAG or REPOSITORY@DIGEST."""

    reference: str
    content: bytes
    content_type: str
    repository: str | None = None
    authorization: str | None = None


class ManifestRequest(Struct, frozen=True, tag=True, omit_defaults=True):
    """Asks for a manifest."""

    reference: str
    repository: str | None = None
    authorization: str | None = None


class Ping(Struct, frozen=True, tag=True):
    """Asks whether somebody is there."""


class Pong(Struct, frozen=True, tag=True):
    """Somebody is."""


class BlobResponse(Struct, frozen=True, tag=True, omit_defaults=True):
    """A blob; without ``content`` where it was pushed."""

    digest: str
    content: bytes | None = None
    metadata: BlobMetadata | None = None


class ManifestResponse(Struct, frozen=True, tag=True, omit_defaults=True):
    """A manifest; without ``content`` where it was pushed, ``reference`` is then its digest."""

    reference: str
    content: bytes | None = None
    content_type: str | None = None


class Error(Struct, frozen=True, tag=True):
    """Why there is no other answer; ``code`` is a status of HTTP."""

    code: int
    message: str


NOWHERE: Final = Error(BAD_REQUEST, "the message names no repository")

Request = BlobUpload | BlobRequest | ManifestUpload | ManifestRequest | Ping
Reply = BlobResponse | ManifestResponse | Pong | Error

encode = msgspec.msgpack.Encoder().encode

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def decode_reply(message: bytes) -> Reply:
    """Returns what a server has replied. Raises `msgspec.DecodeError`."""
    return _replies.decode(message)


class Answer(Struct, frozen=True):
    """What the application has answered; ``whole`` is False where the body is larger than a message may be."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


async def call(app: AsgiApp, scope: dict[str, Any], body: bytes, gone: asyncio.Event) -> Answer:
    """Asks an application in process; ``gone`` says that nobody wants the answer. Raises what the application does."""
    status, headers, parts, size = UNEXPECTED, dict[str, str](), list[bytes](), 0
    told = False

    async def receive() -> dict[str, Any]:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(event: dict[str, Any]) -> None:
        nonlocal status, size
        if event["type"] == "http.response.start":
            status = event["status"]
            headers.update(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in event["headers"]
            )
            return
        part = bytes(event.get("body", b""))
        size += len(part)
        if size > MAX_MESSAGE or gone.is_set():
            gone.set()
            message = "more than a message can hold"
            raise ConnectionAbortedError(message)
        parts.append(part)

    try:
        await app(scope, receive, send)
    except ConnectionAbortedError:
        return Answer(status, headers, b"", whole=False)
    return Answer(status, headers, b"".join(parts), whole=True)


class MessageStreams:
    """The streams of one connection, each with one message and its reply."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._arriving: dict[int, bytearray] = {}
        self._waiting: list[tuple[int, bytes]] = []
        """Messages that have arrived before the client has proved that they are no replay."""
        self._running: dict[int, tuple[asyncio.Event, int]] = {}
        """What is asked of the application: whether the client is gone, and the size of the message."""
        self._refused: set[int] = set()

    def feed(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Takes a part of a message."""
        connection = self._connection
        if data and connection.session.consumed(stream, len(data)):
            connection.transmit_soon()
        if stream & 3:
            return
        if stream in self._refused:
            if ended:
                self._refused.discard(stream)
            return
        arriving = self._arriving.setdefault(stream, bytearray())
        arriving += data
        if len(arriving) > MAX_MESSAGE:
            self._refuse(stream, Error(TOO_LARGE, f"a message has at most {MAX_MESSAGE} bytes"), ended=ended)
        elif self._held() > MAX_HELD:
            told = f"at most {MAX_HELD} bytes of messages may be under way, and {MAX_RUNNING} messages"
            self._refuse(stream, Error(TOO_MANY, told), ended=ended)
        elif ended:
            self._waiting.append((stream, bytes(self._arriving.pop(stream))))
            if connection.session.completed:
                self.begin()

    def _held(self) -> int:
        """Returns the bytes that are under way; a message costs something, however small it is."""
        waiting = sum(len(message) for _, message in self._waiting)
        arriving = sum(map(len, self._arriving.values()))
        each = MAX_HELD // MAX_RUNNING * (len(self._arriving) + len(self._waiting) + len(self._running))
        return max(each, arriving + waiting + sum(size for _, size in self._running.values()))

    def _refuse(self, stream: int, error: Error, *, ended: bool) -> None:
        self._arriving.pop(stream, None)
        if not ended:
            self._refused.add(stream)
            self._connection.session.stop(stream, CANCELLED)
        self._reply(stream, error)

    def begin(self) -> None:
        """Answers what has arrived."""
        waiting, self._waiting = self._waiting, []
        for stream, message in waiting:
            gone = asyncio.Event()
            self._running[stream] = gone, len(message)
            self._connection.site.run(self._run(stream, message, gone))

    async def _run(self, stream: int, message: bytes, gone: asyncio.Event) -> None:
        site = self._connection.site
        try:
            reply = await self._answer(message, gone)
        except Exception as error:
            site.log.exception("the application failed", error=repr(error))
            reply = Error(UNEXPECTED, "the registry failed; its log says why")
        finally:
            self._running.pop(stream, None)
        self._reply(stream, reply)

    def _reply(self, stream: int, reply: Reply) -> None:
        self._connection.session.write(stream, encode(reply), ended=True)
        self._connection.transmit_soon()

    def drop(self, stream: int) -> None:
        """Forgets a stream that the client has broken off; the application is told, and ends by itself."""
        self._arriving.pop(stream, None)
        self._refused.discard(stream)
        running = self._running.get(stream)
        if running is not None:
            running[0].set()

    def close(self) -> None:
        """Tells whoever works that nobody is there any more."""
        for stream in tuple(self._running):
            self.drop(stream)

    async def _answer(self, message: bytes, gone: asyncio.Event) -> Reply:
        try:
            request = _requests.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Error(BAD_REQUEST, f"not a message: {error}")
        if isinstance(request, Ping):
            return Pong()
        if isinstance(request, BlobUpload | BlobRequest):
            named = _named(request.repository, request.digest)
            return NOWHERE if named is None else await self._blob(request, *named, gone)
        named = _named(request.repository, request.reference)
        return NOWHERE if named is None else await self._manifest(request, *named, gone)

    async def _blob(
        self, request: BlobUpload | BlobRequest, repository: str, digest: str, gone: asyncio.Event
    ) -> Reply:
        ask = partial(self._ask, authorization=request.authorization, gone=gone)
        if isinstance(request, BlobUpload):
            query = f"digest={quote(digest)}"
            headers = {"content-type": "application/octet-stream"}
            target = f"/v2/{repository}/blobs/uploads/"
            answer = await ask("POST", target, query, headers, request.content)
            return BlobResponse(digest) if answer.status in SUCCESS else _error(answer)
        answer = await ask("GET", f"/v2/{repository}/blobs/{digest}", "", {}, b"")
        reply = BlobResponse(digest, answer.body, _metadata(answer))
        return _fitting(reply) if answer.whole and answer.status in SUCCESS else _error(answer)

    async def _manifest(
        self, request: ManifestUpload | ManifestRequest, repository: str, reference: str, gone: asyncio.Event
    ) -> Reply:
        ask = partial(self._ask, authorization=request.authorization, gone=gone)
        target = f"/v2/{repository}/manifests/{reference}"
        if isinstance(request, ManifestUpload):
            headers = {"content-type": request.content_type}
            answer = await ask("PUT", target, "", headers, request.content)
            digest = answer.headers.get("docker-content-digest", reference)
            return ManifestResponse(digest) if answer.status in SUCCESS else _error(answer)
        answer = await ask("GET", target, "", {"accept": MANIFESTS}, b"")
        reply = ManifestResponse(request.reference, answer.body, answer.headers.get("content-type"))
        return _fitting(reply) if answer.whole and answer.status in SUCCESS else _error(answer)

    async def _ask(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        *,
        authorization: str | None,
        gone: asyncio.Event,
    ) -> Answer:
        site = self._connection.site
        raw_path = quote(path, safe="/:@+~").encode()
        given = {"host": "localhost", "content-length": str(len(body)), **headers}
        if authorization is not None:
            given["authorization"] = authorization
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "3",
            "method": method,
            "scheme": "https",
            "path": path,
            "raw_path": raw_path,
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in given.items()],
            "client": self._connection.client,
            "server": site.server,
            "extensions": {"tls": {"client_cert_chain": []}},
        }
        return await call(site.app, scope, body, gone)


def _named(repository: str | None, reference: str) -> tuple[str, str] | None:
    """Returns repository and reference, or None where no repository is named."""
    if repository is not None:
        return repository, reference
    for mark in ("@", ":"):
        name, _, rest = reference.partition(mark) if mark == "@" else reference.rpartition(mark)
        if name and rest and (mark == "@" or "/" not in rest) and not name.startswith(("sha256", "sha512")):
            return name, rest
    return None


def _metadata(answer: Answer) -> BlobMetadata:
    modified = answer.headers.get("last-modified")
    seconds = None if modified is None else int(parsedate_to_datetime(modified).timestamp())
    return BlobMetadata(len(answer.body), answer.headers.get("content-type"), seconds)


def _fitting(reply: Reply) -> Reply:
    too_large = Error(TOO_LARGE, f"larger than a message of {MAX_MESSAGE} bytes; fetch it over HTTP/3")
    return reply if len(encode(reply)) <= MAX_MESSAGE else too_large


def _error(answer: Answer) -> Error:
    if not answer.whole:
        return Error(TOO_LARGE, f"larger than a message of {MAX_MESSAGE} bytes; fetch it over HTTP/3")
    try:
        message = str(msgspec.json.decode(answer.body)["errors"][0]["message"])
    except (msgspec.DecodeError, LookupError, TypeError):
        message = answer.body.decode("utf-8", "replace")[:200]
    return Error(answer.status, message)
