"""Reads JSON in one way only, so that two readers never see two things in the same bytes."""

import json
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar, cast

from drift_sign_simple.refusal import Refused

T = TypeVar("T", dict[str, Any], list[Any], str, int)


def read_json(content: bytes, what: str) -> Any:
    """Returns what a JSON text says (RFC 8259).

    Raises:
        Refused: it is no JSON in UTF-8, says a key twice, or is too deep; ``what`` names it in the reason.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except _TwiceError:
        raise Refused(f"the {what} says a key twice") from None
    except (ValueError, RecursionError):
        raise Refused(f"the {what} is no strict JSON") from None


def write_json(value: Any) -> bytes:
    """Returns a JSON text without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


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


def exactly(node: dict[str, Any], *names: str) -> None:
    """Raises `Refused` where a JSON object has other members than these."""
    if node.keys() != set(names):
        raise Refused(f"there is not exactly {', '.join(names)}")


class _TwiceError(ValueError):
    """An object has two members of one name."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _TwiceError
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
