"""Reads JSON and base64 in one way only, so that two readers never see two things in the same bytes."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar, cast

from drift_sign_cosign.refusal import Refused

T = TypeVar("T", dict[str, Any], list[Any], str, int)

MOST_BRACKETS, MOST_MEMBERS = 50_000, 200_000
"""Of arrays and objects in a JSON text; within 4 MiB there could be millions, and nobody else runs meanwhile."""


def read_json(content: bytes, what: str) -> Any:
    """Returns what a JSON text says (RFC 8259).

    Raises:
        Refused: it is no JSON in UTF-8, says a key twice, or is too deep; ``what`` names it in the reason. Or it has
            too many brackets, which are counted before it is parsed.
    """
    if content.count(b"[") + content.count(b"{") > MOST_BRACKETS:
        raise Refused("it is nested too much")
    if content.count(b",") > MOST_MEMBERS:
        raise Refused("it has too many members")
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(f"the {what} is no strict JSON") from None


def write_json(value: Any) -> bytes:
    """Returns a JSON text without spaces, as cosign writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def read_base64(text: str, what: str) -> bytes:
    """Returns what canonical base64 with padding says (RFC 4648 sections 3.5 and 4).

    Raises:
        Refused: it is written in another way; ``what`` names it in the reason.
    """
    try:
        content = b64decode(text, validate=True)
    except ValueError:
        content = None
    if content is None or b64encode(content).decode() != text:
        raise Refused(f"the {what} is no canonical base64")
    return content


def write_base64(content: bytes) -> str:
    """Returns canonical base64 with padding."""
    return b64encode(content).decode()


def as_object(node: Any) -> dict[str, Any]:
    """Returns what is a JSON object, and an empty one for anything else."""
    return cast("dict[str, Any]", node) if isinstance(node, dict) else {}


def as_list(node: Any) -> list[Any]:
    """Returns what is a JSON array, and an empty one for anything else."""
    return [*cast("Iterable[Any]", node)] if isinstance(node, list) else []


def member(node: Any, name: str, kind: type[T]) -> T:
    """Returns a member of a JSON object.

    Raises:
        Refused: ``node`` is no object, or the member is missing or of another type.
    """
    value = as_object(node).get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused(f"{name} is missing or of another type")
    return value


def only(node: Any, *names: str) -> None:
    """Raises `Refused` where a JSON object has a member that is not in ``names``."""
    if not isinstance(node, dict) or not as_object(node).keys() <= set(names):
        raise Refused(f"there is something else than {', '.join(names)}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "a key is there twice"
        raise ValueError(message)
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
