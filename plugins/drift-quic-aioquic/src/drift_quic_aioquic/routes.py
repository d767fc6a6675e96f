"""The routes below ``/api/quic``: whether QUIC is served, what has passed, and whether another server answers."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.exceptions import ClientException
from msgspec import Meta, Struct

from drift_core.api import Unavailable
from drift_quic_aioquic.config import MESSAGES, UNSHOWN, Settings
from drift_quic_aioquic.messages import (
    BlobRequest,
    BlobResponse,
    Error,
    ManifestRequest,
    ManifestResponse,
    Ping,
    Pong,
    Reply,
    Request,
    decode_reply,
    encode,
)
from drift_quic_aioquic.presence import Counts, Row
from drift_quic_aioquic.targets import Target, resolve

if TYPE_CHECKING:
    from drift_quic_aioquic.feature import Quic

PATH: Final = "/api/quic"
BACKENDS: Final = {"quinn": 1, "aioquic": 4, "qh3": 5}
"""The number of a backend in ``stats``; the original has given 0 to 3 to those that it names."""

PING_SECONDS: Final = 5.0
UNEXPECTED_REPLY: Final = 502
UNREACHABLE: Final = 503


class TestCall(Struct, forbid_unknown_fields=True):
    """The body of a test: a server, how long it may take, and where its blob is if the path does not say it."""

    target_addr: str
    timeout_ms: Annotated[int, Meta(ge=1, le=60_000)] = 5000
    repository: str | None = None


class Status(Struct, frozen=True):
    """Whether QUIC is served, and what clients can do by it."""

    enabled: bool
    backend: str
    bind_addr: str
    active_connections: int
    supported_features: Sequence[str]


class Stats(Counts, frozen=True, kw_only=True):
    """The sums over all processes of this server, and what each has counted; ``backend`` is one of `BACKENDS`, or 0."""

    backend: int
    backend_name: str
    workers: Sequence[Row]


Shown: Final = msgspec.defstruct(
    "Shown",
    [
        ("enabled", bool),
        *((one.name, one.type) for one in msgspec.structs.fields(Settings) if one.name not in UNSHOWN),
        ("cert_configured", bool),
        ("key_configured", bool),
    ],
    frozen=True,
    namespace={"__doc__": "The settings, without the key, and whether a certificate and a key are there."},
)
"""What `Settings.shown` has, and what the route adds."""


class Pinged(Struct, frozen=True):
    """What a server has answered to a ping."""

    target: str
    status: Literal["success", "failed"]
    message: str


class BlobFetched(Struct, frozen=True, tag_field="status", tag="success"):
    """What of a blob came; ``content_size`` in bytes."""

    has_content: bool
    content_size: int
    target: str
    digest: str
    has_metadata: bool


class ManifestFetched(Struct, frozen=True, tag_field="status", tag="success"):
    """What of a manifest came; ``content_size`` in bytes."""

    has_content: bool
    content_size: int
    target: str
    reference: str
    content_type: str | None


class NotFetched(Struct, frozen=True, tag_field="status", tag="error"):
    """Why nothing came, by the codes of the message set."""

    error_code: int
    error_message: str
    target: str


def routes_over(feature: "Quic") -> Sequence[Any]:
    """Returns the handlers, which need the scope ``registry:*:*``."""

    @get(f"{PATH}/status", answers=Status)
    async def status() -> Response[bytes]:
        """Says whether QUIC is served, where, and to how many clients."""
        config = feature.config
        found = await feature.counts()
        return _json(
            Status(
                enabled=config.wanted,
                backend=feature.backend,
                bind_addr=config.bind_addr,
                active_connections=found.active_connections,
                supported_features=feature.abilities if config.wanted else [],
            )
        )

    @get(f"{PATH}/stats", answers=Stats)
    async def stats() -> Response[bytes]:
        """Says what all processes of this server have counted, and each of them."""
        config = feature.config
        found = await feature.counts()
        return _json(
            Stats(
                **msgspec.structs.asdict(found),
                backend=BACKENDS[config.backend] if config.wanted else 0,
                backend_name=feature.backend,
                workers=await feature.rows(),
            )
        )

    @get(f"{PATH}/config", answers=Shown)
    async def config() -> Response[bytes]:
        """Answers the settings, without the key."""
        certificate, key = feature.configured()
        settings = {"enabled": feature.config.wanted, **feature.config.shown()}
        return _json({**settings, "cert_configured": certificate, "key_configured": key})

    @post(f"{PATH}/ping/{{address:str}}", status_code=200, answers=Pinged)
    async def ping(address: str) -> Response[bytes]:
        """Asks a server for a sign of life, over the message set."""
        target = await _target(feature, address)
        reply = await _ask(target, Ping(), PING_SECONDS)
        if isinstance(reply, Pong):
            return _json(Pinged(address, "success", "pong"))
        message = reply.message if isinstance(reply, Error) else "it answered something else"
        return _json(Pinged(address, "failed", message))

    @post(f"{PATH}/test/blob/{{digest:path}}", status_code=200, answers=BlobFetched | NotFetched)
    async def blob(digest: str, data: TestCall) -> Response[bytes]:
        """Fetches a blob of another server; the path may be REPOSITORY@DIGEST."""
        name = digest.removeprefix("/")
        target = await _target(feature, data.target_addr)
        reply = await _ask(target, BlobRequest(name, data.repository), data.timeout_ms / 1000)
        if not isinstance(reply, BlobResponse):
            return _failed(data.target_addr, reply)
        given, size = reply.content is not None, len(reply.content or b"")
        return _json(BlobFetched(given, size, data.target_addr, name, reply.metadata is not None))

    @post(f"{PATH}/test/manifest/{{reference:path}}", status_code=200, answers=ManifestFetched | NotFetched)
    async def manifest(reference: str, data: TestCall) -> Response[bytes]:
        """Fetches a manifest of another server; the path may be REPOSITORY:TAG."""
        name = reference.removeprefix("/")
        target = await _target(feature, data.target_addr)
        reply = await _ask(target, ManifestRequest(name, data.repository), data.timeout_ms / 1000)
        if not isinstance(reply, ManifestResponse):
            return _failed(data.target_addr, reply)
        given, size = reply.content is not None, len(reply.content or b"")
        return _json(ManifestFetched(given, size, data.target_addr, name, reply.content_type))

    return [status, stats, config, ping, blob, manifest]


async def _target(feature: "Quic", address: str) -> Target:
    """Returns where to connect. Raises what the client is told."""
    if not feature.config.wanted:
        message = "quic.enabled is false; there is no transport"
        raise Unavailable(message)
    try:
        return await resolve(feature.config, address)
    except ValueError as error:
        raise ClientException(str(error)) from error


async def _ask(target: Target, request: Request, seconds: float) -> Reply:
    """Returns what a server replies, an `Error` where it does not.

    Its certificate is not checked: nothing secret is sent, and that it answers at all is what is asked.
    """
    # Processes that do not serve QUIC need aioquic only here.
    from drift_quic_aioquic.client import QuicError, connect  # noqa: PLC0415

    try:
        async with asyncio.timeout(seconds):
            opening = connect(
                target.address, target.port, alpn=MESSAGES, authority=target.name, verified=False, seconds=seconds
            )
            async with opening as client:
                return decode_reply(await client.message(encode(request)))
    except TimeoutError:
        return Error(UNREACHABLE, f"no answer within {seconds:g} s")
    except QuicError as error:
        return Error(UNREACHABLE, str(error))
    except msgspec.DecodeError as error:
        return Error(UNEXPECTED_REPLY, f"the reply is no message: {error}")


def _failed(target: str, reply: Reply) -> Response[bytes]:
    error = reply if isinstance(reply, Error) else Error(UNEXPECTED_REPLY, "it answered something else")
    return _json(NotFetched(error.code, error.message, target))


def _json(answer: object) -> Response[bytes]:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)
