"""The signatures extension of the Docker API: `/extensions/v2/NAME/signatures/DIGEST`, for skopeo and podman."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Literal

from litestar import Request, get, put
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from drift_core.errors import EndpointUnknown, QueryInvalid
from drift_core.http.admin import body_of
from drift_core.http.signing import ANYBODY
from drift_core.model import Digest, Scope
from drift_core.registry.rules import check_name
from drift_core.signing.exchange import Exchange

LOOKASIDE = "/extensions/v2/{image:path}"
ANNOUNCED = (b"x-registry-supports-signatures", b"1")
"""What an answer of `/v2/` has, also one that asks who it is, so that clients look here."""

ATOMIC = "atomic"


class Brought(Struct, rename="camel", kw_only=True):
    """A signature as clients send and get it; ``name`` is ``DIGEST@`` and what tells it from others."""

    schema_version: Literal[2] = 2
    name: str
    type: str
    content: str


class Known(Struct):
    """What a client gets."""

    signatures: list[Brought]


def lookaside_routes(exchange: Exchange) -> list[HTTPRouteHandler]:
    """Returns the handlers of the extension."""

    @get(LOOKASIDE, opt={"scope": _scope("pull")})
    async def fetch(request: Request[Any, Any, Any]) -> Known:
        """Returns the signatures of a manifest."""
        name, digest = _parts(request.path_params["image"])
        found = await exchange.fetch(name, digest)
        return Known([Brought(name=_named(digest, one), type=ATOMIC, content=b64encode(one).decode()) for one in found])

    @put(LOOKASIDE, opt={"scope": _scope("push")}, status_code=201, body=Brought)
    async def bring(request: Request[Any, Any, Any]) -> None:
        """Stores a signature of a manifest."""
        name, digest = _parts(request.path_params["image"])
        brought = await body_of(request, Brought)
        if brought.type != ATOMIC or not brought.name.startswith(f"{digest}@"):
            message = "the body is no signature of this manifest"
            raise QueryInvalid(message, name=brought.name[:256], type=brought.type[:64])
        try:
            content = b64decode(brought.content, validate=True)
        except ValueError as error:
            raise QueryInvalid("the content is not in base64") from error
        await exchange.bring(name, digest, content, request.user or ANYBODY)

    return [fetch, bring]


def _scope(action: str) -> Callable[[Mapping[str, Any]], Scope]:
    return lambda parameters: Scope("repository", _parts(parameters["image"])[0], action)


def _parts(image: str) -> tuple[str, Digest]:
    """Returns repository and digest of a path. Raises `EndpointUnknown`, `NameInvalid`, `DigestInvalid`."""
    name, found, digest = image.strip("/").rpartition("/signatures/")
    if not found:
        raise EndpointUnknown(path=image[:256])
    return check_name(name), Digest.parse(digest)


def _named(digest: str, content: bytes) -> str:
    return f"{digest}@{sha256(content).hexdigest()[:32]}"
