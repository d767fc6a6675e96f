"""What is kept of an event: the record, in the form that the contract of the original gave it."""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import msgspec

from drift_core.api import AuditEvent, Credentials, Severity, Struct

LIMIT = 1024
"""Most characters of a text."""

NAME_LIMIT = 512
"""Most characters of a text by which records are found; of longer ones PostgreSQL cannot keep the index."""

MOST = 64
"""Most entries of a list or table."""

DEEPEST = 4
"""Most tables and lists within each other."""

CACHED_NAMES = 1024
"""Names of which each process remembers what they tell."""

LARGEST = 2**53 - 1
"""From where on numbers of JSON lose digits in many programs (RFC 8259 section 6); they are written as text."""

HIDDEN = "***"

SEVERITIES: tuple[Severity, ...] = ("debug", "info", "warning", "error", "critical")
"""In rising order."""

_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|authorization|cookie|session|assertion|api_?key|private_?key|access_?key"
    r"|client_?key|\bjwt\b|\botp\b|\bcode\b",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would begin a new line in a log, or show it in another order than it is written in; and what is no text."""

_WORD = re.compile(r"[A-Z][a-z]+$")
_OPERATIONS = {
    "Issued": "issue",
    "Refreshed": "refresh",
    "Revoked": "revoke",
    "Granted": "grant",
    "Denied": "deny",
    "Assigned": "assign",
    "Pulled": "pull",
    "Pushed": "push",
    "Uploaded": "push",
    "Created": "create",
    "Modified": "modify",
    "Changed": "modify",
    "Deleted": "delete",
    "Verified": "verify",
    "Started": "start",
    "Stopped": "stop",
    "Failed": "fail",
}


class User(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who did it; ``id`` None is somebody who is not known, ``username`` then the name that was claimed."""

    id: str | None = None
    username: str | None = None
    email: str | None = None
    organization: str | None = None
    teams: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    service_account: bool = False


class Resource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it was done to; ``namespace`` is the first part of the name, ``size`` in bytes."""

    type_: str
    id: str
    name: str | None = None
    namespace: str | None = None
    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    size: int | None = None


class Operation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was done, and by which request."""

    operation: str
    method: str | None = None
    path: str | None = None
    parameters: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class Result(Struct, frozen=True, kw_only=True):
    """What came of it."""

    success: bool
    error_message: str | None = None


class Network(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From where the request came."""

    client_ip: str | None = None
    protocol: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


class Record(Struct, frozen=True, kw_only=True):
    """One event, without its place in the chain. ``timestamp`` is RFC 3339 in UTC."""

    id: str
    timestamp: datetime
    event_type: str
    severity: str
    user: User
    resource: Resource
    action: Operation
    result: Result
    network: Network
    metadata: dict[str, Any]
    correlation_id: str | None


class StoredRecord(Record, frozen=True, kw_only=True):
    """A record as it is read back: ``sequence`` is its place in the chain."""

    sequence: int


def record_of(event: AuditEvent, request: Credentials | None, metadata: Mapping[str, Any] | None = None) -> Record:
    """Returns the record of an event that happens now, while ``request`` is answered.

    Of a request's headers only User-Agent is kept, and of its target only the path. Values whose names tell of a
    secret are hidden, long ones are cut, and control characters are written as escapes.
    """
    identity = event.identity
    name = event.username if identity is None else identity.name
    request_id = None if request is None else _optional(request.request_id)
    about = {} if identity is None else {"source": identity.source}
    return Record(
        id=secrets.token_hex(16),
        timestamp=datetime.now(UTC),
        event_type=plain(event.type, NAME_LIMIT),
        severity=event.severity.capitalize(),
        user=User(
            id=None if identity is None else plain(identity.name, NAME_LIMIT),
            username=_optional(name, NAME_LIMIT),
            teams=() if identity is None else _names(identity.groups),
            roles=() if identity is None else _names(identity.roles),
            service_account=identity is not None and identity.name.startswith("robot$"),
        ),
        resource=_resource(event),
        action=Operation(
            operation=_operation(event.type),
            method=None if request is None else plain(request.method),
            path=None if request is None else plain(request.path),
            parameters=_table(event.parameters, 0),
        ),
        result=Result(success=event.success, error_message=_optional(event.reason)),
        network=Network() if request is None else _network(request, request_id),
        metadata=_table(about | dict(metadata or {}), 0),
        correlation_id=request_id,
    )


def plain(text: str, limit: int = LIMIT) -> str:
    r"""Returns a text of at most ``limit`` characters, with ``\uXXXX`` for each that could pass for another line."""
    # A Digest is a str of its own class, which msgspec does not take for one.
    found = str(text[: limit + 1])
    if not (found.isascii() and found.isprintable()):
        found = _CONTROL.sub(lambda control: f"\\u{ord(control[0]):04x}", found)
    return found if len(found) <= limit else f"{found[: limit - 1]}…"


def _optional(text: str | None, limit: int = LIMIT) -> str | None:
    return plain(text, limit) if text else None


def _names(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(plain(name) for name in sorted(names)[:MOST])


@lru_cache(CACHED_NAMES)
def _operation(kind: str) -> str:
    word = _WORD.search(kind)
    return plain(kind).lower() if word is None else _OPERATIONS.get(word[0], word[0].lower())


def _resource(event: AuditEvent) -> Resource:
    name = plain(event.resource_id, NAME_LIMIT)
    namespace = name if event.resource_type == "Organization" else name.partition("/")[0] if "/" in name else None
    return Resource(
        type_=plain(event.resource_type, NAME_LIMIT),
        id=name,
        name=name or None,
        namespace=namespace or None,
        repository=name if event.resource_type in ("Image", "Blob", "Manifest", "Repository", "Tag") else None,
        tag=_optional(event.tag),
        digest=_optional(event.digest),
        size=event.size,
    )


def _network(request: Credentials, request_id: str | None) -> Network:
    return Network(
        client_ip=_optional(request.client_address),
        protocol=_optional(request.scheme),
        user_agent=_optional(request.header("user-agent")),
        request_id=request_id,
    )


def _table(values: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {
        plain(str(name)): HIDDEN if value is not None and _tells_of_secret(str(name)) else _value(value, depth + 1)
        for name, value in list(values.items())[:MOST]
    }


@lru_cache(CACHED_NAMES)
def _tells_of_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _value(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= LARGEST):
        return value
    if isinstance(value, str):
        return plain(value)
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return _table(cast("Mapping[Any, Any]", value), depth)
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(one, depth + 1) for one in list(cast("Sequence[Any]", value))[:MOST]]
    return plain(str(value))


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(StoredRecord)


def encoded(record: Record, sequence: int) -> bytes:
    """Returns the bytes that are chained: JSON without spaces, ``sequence`` first."""
    return b'{"sequence":%d,%b' % (sequence, _ENCODER.encode(record)[1:])


def decoded(content: bytes) -> StoredRecord:
    """Returns the record of such bytes. Raises `msgspec.MsgspecError` for others."""
    return _DECODER.decode(content)
