"""Reads bodies and queries within limits, and answers what is wrong with them in the form of the original's API."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response
from msgspec import Struct

from drift_core.api import RegistryError

T = TypeVar("T")

MAX_BODY = 64 << 10
"""Largest body of a request about tokens, in bytes."""

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 200
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
"""Of every answer that holds a token: RFC 6749 section 5.1."""


class Refusal(Struct, frozen=True):
    """An error in the form of the original's API: a word for programs and a sentence for people."""

    error: str
    message: str


class Problem(Exception):
    """What is answered instead: a status, a word for programs and a sentence for people."""

    def __init__(self, status: int, error: str, message: str) -> None:
        self.status = status
        self.error = error
        self.message = message
        super().__init__(message)


async def read_body(request: Request[Any, Any, Any]) -> bytes:
    """Returns the whole body. Raises `Problem` for one that is too large."""
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise Problem(413, "INVALID_REQUEST", f"the body has more than {MAX_BODY} bytes")
    return content


async def read_json(request: Request[Any, Any, Any], kind: type[T]) -> T:
    """Returns the body, which is JSON whatever its type is said to be. Raises `Problem`."""
    try:
        return msgspec.json.decode(await read_body(request), type=kind)
    except msgspec.ValidationError as error:
        # The place is enough: the message of another library may quote a secret.
        raise Problem(400, "INVALID_REQUEST", f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Problem(400, "INVALID_REQUEST", "the body is not JSON") from None


def read_fields(content: bytes) -> Mapping[str, Sequence[str]]:
    """Returns the fields of a query or a form. Raises `Problem`."""
    try:
        return parse_qs(content.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, "INVALID_REQUEST", "the fields cannot be read") from None


def first(fields: Mapping[str, Sequence[str]], name: str) -> str:
    """Returns the first value of a field, "" where there is none."""
    return next(iter(fields.get(name, ())), "")


def answer(content: Any, status: int = 200) -> Response[bytes]:
    """Returns an answer in JSON that nobody may keep."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json", headers=NO_STORE)


def answer_problem(_: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    """Returns the error in the form of the original's API."""
    return answer(Refusal(problem.error, problem.message), problem.status)


_CODES = {
    401: "AUTHENTICATION_FAILED",
    403: "AUTHORIZATION_FAILED",
    429: "RATE_LIMIT_EXCEEDED",
}


def answer_error(_: Request[Any, Any, Any], error: RegistryError) -> Response[bytes]:
    """Returns an error of the registry in the form of the original's API."""
    reply = answer(Refusal(_CODES.get(error.status, "SYSTEM_ERROR"), error.message), error.status)
    values: dict[str, list[str]] = {}
    for name, value in error.headers():
        values.setdefault(name, []).append(value)
    reply.headers.update({name: ", ".join(several) for name, several in values.items()})
    return reply
