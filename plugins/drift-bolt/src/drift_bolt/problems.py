"""What is wrong with a request, and how the Bolt API says it: ``{"error", "message", "details"}``.

It is a `RegistryError` of its own, so that the same mistake met by a command or by work beside requests reads the same.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET, Struct

from drift_core.api import RegistryError

CODES: Mapping[int, str] = {
    400: "INVALID_REQUEST",
    401: "AUTHENTICATION_FAILED",
    403: "AUTHORIZATION_FAILED",
    404: "RESOURCE_NOT_FOUND",
    405: "INVALID_REQUEST",
    409: "RESOURCE_ALREADY_EXISTS",
    413: "UPLOAD_FAILED",
    429: "RATE_LIMIT_EXCEEDED",
    507: "QUOTA_EXCEEDED",
}
"""The API's word for each status; any other is SYSTEM_ERROR."""

OURS: Final = 500
"""The statuses from here on say that another attempt may succeed."""


class Refusal(Struct, frozen=True):
    """An error; ``details`` are missing where there are none."""

    error: str
    message: str
    details: Any = UNSET


class Invalid(RegistryError):
    """A request that does not fit; ``detail`` says where."""

    code: ClassVar[str] = "INVALID_REQUEST"
    status: ClassVar[int] = 400
    text: ClassVar[str] = "the request does not fit"


class Unknown(RegistryError):
    """There is no such profile, plugin or version."""

    code: ClassVar[str] = "RESOURCE_NOT_FOUND"
    status: ClassVar[int] = 404
    text: ClassVar[str] = "there is no such profile or plugin"


class Published(RegistryError):
    """What was published once is never changed."""

    code: ClassVar[str] = "RESOURCE_ALREADY_EXISTS"
    status: ClassVar[int] = 409
    text: ClassVar[str] = "this version was published already"


class TooLarge(RegistryError):
    """A body, or what is in it, has more bytes than are taken."""

    code: ClassVar[str] = "UPLOAD_FAILED"
    status: ClassVar[int] = 413
    text: ClassVar[str] = "the upload is too large"


def answer_error(_: Request[Any, Any, Any], error: RegistryError) -> Response[bytes]:
    """Returns an error of the registry in the form of this API."""
    headers: dict[str, str] = {}
    for name, value in error.headers():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _answer(error.status, error.message, error.detail or None, headers)


def answer_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Returns what the framework refuses, such as a bad page number, in the form of this API."""
    return _answer(error.status_code, error.detail, error.extra or None, dict(error.headers or {}))


def _answer(status: int, message: str, details: Any, headers: dict[str, str]) -> Response[bytes]:
    body = Refusal(CODES.get(status, "SYSTEM_ERROR"), message, UNSET if details is None else details)
    content = msgspec.json.encode(body, enc_hook=str)
    headers["cache-control"] = "no-store"
    return Response(content, status_code=status, media_type="application/json", headers=headers)
