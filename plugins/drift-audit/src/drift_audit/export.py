"""Records as lines of text: JSON as it is chained, or CSV that a spreadsheet may open."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from drift_audit.record import StoredRecord, decoded

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would calculate (OWASP, "CSV Injection")."""

_JSON = msgspec.json.Encoder()

COLUMNS = (
    "sequence",
    "id",
    "timestamp",
    "event_type",
    "severity",
    "success",
    "error_message",
    "user_id",
    "username",
    "service_account",
    "resource_type",
    "resource_id",
    "tag",
    "digest",
    "size",
    "operation",
    "method",
    "path",
    "parameters",
    "client_ip",
    "protocol",
    "user_agent",
    "correlation_id",
    "metadata",
)


def csv_header() -> bytes:
    """Returns the first line of a CSV file (RFC 4180)."""
    return _csv_line(COLUMNS)


def csv_line(content: bytes) -> bytes:
    """Returns a record, given by its bytes, as a line of CSV."""
    return _csv_line([_cell(value) for value in _values(decoded(content))])


def json_line(content: bytes) -> bytes:
    """Returns a record, given by its bytes, as a line of JSON."""
    return content + b"\n"


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode()


def _values(record: StoredRecord) -> Sequence[Any]:
    return (
        record.sequence,
        record.id,
        record.timestamp.isoformat().replace("+00:00", "Z"),
        record.event_type,
        record.severity,
        record.result.success,
        record.result.error_message,
        record.user.id,
        record.user.username,
        record.user.service_account,
        record.resource.type_,
        record.resource.id,
        record.resource.tag,
        record.resource.digest,
        record.resource.size,
        record.action.operation,
        record.action.method,
        record.action.path,
        record.action.parameters,
        record.network.client_ip,
        record.network.protocol,
        record.network.user_agent,
        record.correlation_id,
        record.metadata,
    )


def _cell(value: Any) -> str:
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return _JSON.encode(value).decode()
    return f"'{value}" if value.startswith(FORMULA) else value
