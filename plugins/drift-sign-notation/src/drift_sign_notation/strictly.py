"""Reads JSON, base64 and times in their one canonical form, so that nobody reads another thing in the same bytes."""

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeGuard

from drift_sign_notation.refusal import Refused

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
"""RFC 3339 section 5.6, without what it merely tolerates."""


MOST_BRACKETS: Final = 50_000
"""Of arrays and objects in a JSON text: nobody else runs while it is parsed."""


def is_nested_too_much(content: bytes) -> bool:
    """Returns whether a text has so many brackets that it is not parsed."""
    return content.count(b"[") + content.count(b"{") > MOST_BRACKETS


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Returns whether a value of JSON is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[Sequence[Any]]:
    """Returns whether a value of JSON or CBOR is an array."""
    return isinstance(value, list | tuple)


def read_object(content: bytes, what: str) -> dict[str, Any]:
    """Returns a JSON object; ``what`` it is, is said where it is none.

    Raises `Refused` for anything else, for a member that is there twice, and for what JSON does not have, such as NaN;
    and, before it is parsed, for too many brackets.
    """
    if is_nested_too_much(content):
        raise Refused("it is nested too much")
    try:
        value: object = json.loads(content.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(f"{what} is malformed JSON, or has a member twice") from None
    if not is_object(value):
        raise Refused(f"{what} is no JSON object")
    return value


def read_base64url(text: object, what: str) -> bytes:
    """Returns what is in base64url without padding (RFC 7515 section 2). Raises `Refused` for any other spelling."""
    if isinstance(text, str) and text.isascii():
        content = _decoded(text + "=" * (-len(text) % 4), b"-_")
        if content is not None and write_base64url(content) == text:
            return content
    raise Refused(f"{what} is not in canonical base64url")


def write_base64url(content: bytes) -> str:
    """Returns base64url without padding."""
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def read_base64(text: object, what: str) -> bytes:
    """Returns what is in base64 with padding (RFC 4648 section 4). Raises `Refused` for any other spelling."""
    if isinstance(text, str) and text.isascii():
        content = _decoded(text, b"+/")
        if content is not None and b64encode(content).decode() == text:
            return content
    raise Refused(f"{what} is not in canonical base64")


def read_time(text: object) -> float:
    """Returns seconds since the epoch of a time as in RFC 3339. Raises `Refused`."""
    if isinstance(text, str) and TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            pass
    raise Refused("a time is malformed")


def write_time(at: float) -> str:
    """Returns a time in UTC and whole seconds, as in RFC 3339; ``at`` is in seconds since the epoch."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _decoded(text: str, letters: bytes) -> bytes | None:
    try:
        return b64decode(text, letters, validate=True)
    except ValueError:
        return None
