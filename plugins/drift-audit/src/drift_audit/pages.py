"""The pages of the console: find records by what the API knows them by, page by page, and show one whole."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlencode

import msgspec

from drift_audit.record import SEVERITIES, StoredRecord, decoded
from drift_audit.routes import READ
from drift_audit.search import DAYS, Filter, Place, page
from drift_audit.tables import records as rows
from drift_core.api import RegistryError, pages

if TYPE_CHECKING:
    from drift_audit.auditor import AuditTrail

SHOWN: Final = 100
"""Records of a page."""

PATH: Final = "/audit"

FIELDS: Final = (
    ("start_time", "From", "a moment such as 2026-01-31T00:00:00Z; seven days ago unless one is named"),
    ("end_time", "To", "such a moment; now unless one is named"),
    ("event_types", "Events", "such as ImagePushed, several with commas between them"),
    ("user_id", "User", ""),
    ("organization", "Organization", "the first part of a repository's name"),
    ("resource_type", "Type", "such as Image"),
    ("resource_id", "Resource", "such as the name of a repository"),
)

DONE: Final = pages.State("done", "good")
NOT_DONE: Final = pages.State("refused or failed", "bad")


class BadQuestion(RegistryError):
    """A filter that does not fit; the message says which."""

    code: ClassVar[str] = "AUDIT_QUERY_INVALID"
    status: ClassVar[int] = 400
    text: ClassVar[str] = "the question does not fit"


class RecordUnknown(RegistryError):
    """There is no such record, or it was removed for its age."""

    code: ClassVar[str] = "AUDIT_RECORD_UNKNOWN"
    status: ClassVar[int] = 404
    text: ClassVar[str] = "there is no such record, or it was removed for its age"


def pages_over(trail: "AuditTrail") -> Sequence[pages.Page]:
    """Returns the pages, which need what the routes need."""

    async def search(asked: pages.Asked) -> Sequence[pages.Block]:
        query = {name: value.strip() for name, value in asked.query.items() if value.strip()}
        conditions = conditions_of(query)
        behind = place_of(query["cursor"]) if "cursor" in query else None
        found = await trail.records.read(lambda db: page(db, conditions, SHOWN, behind))
        more = None
        if found.next is not None:
            further = {**query, "cursor": f"{found.next[0]}-{found.next[1]}"}
            more = pages.Link("Older records", f"{PATH}?{urlencode(further)}")
        columns = ("Record", "Time", "Event", "Severity", "Outcome", "User", "Resource", "From")
        shown = [_row(decoded(content)) for content in found.contents]
        nothing = f"There are none. Without a time, the last {DAYS} days are searched."
        return (
            pages.Form("Find records", "Search", _fields(query)),
            pages.Table("Records", columns, shown, nothing, more),
        )

    async def show(asked: pages.Asked) -> Sequence[pages.Block]:
        sequence = pages.number(asked.path["sequence"])
        if sequence is None:
            raise RecordUnknown
        found = await trail.records.read(lambda db: page(db, [rows.c.sequence == sequence], 1))
        if not found.contents:
            raise RecordUnknown(sequence=sequence)
        content = found.contents[0]
        whole = pages.Text(msgspec.json.format(content).decode(), "As it is chained, with spaces", code=True)
        return pages.Facts("Record", _facts(decoded(content))), whole

    return [
        pages.Page(PATH, "Audit trail", search, "Audit trail", READ),
        pages.Page(f"{PATH}/{{sequence}}", "Audit record", show, None, READ),
    ]


def conditions_of(query: Mapping[str, str]) -> Sequence[Any]:
    """Returns the conditions of what the API is asked for by the same parameters. Raises `BadQuestion`."""
    wanted: dict[str, Any] = {name: query[name] for name in Filter.__struct_fields__ if name in query}
    for name in ("event_types", "severities"):
        if name in wanted:
            wanted[name] = [part.strip() for part in wanted[name].split(",") if part.strip()]
    wanted["success_only"] = bool(query.get("success_only"))
    try:
        found = msgspec.convert(wanted, Filter, strict=False)
        for name in ("start_time", "end_time"):
            time = getattr(found, name)
            if time is not None and time.tzinfo is None:
                raise BadQuestion(f"{name} needs an offset, such as Z")
        return found.conditions()
    except ValueError as error:
        raise BadQuestion(str(error)) from error


def place_of(cursor: str) -> Place:
    """Returns the place behind which a page begins. Raises `BadQuestion` for what is no cursor."""
    at, sequence = (pages.number(part) for part in cursor.partition("-")[::2])
    if at is None or sequence is None:
        raise BadQuestion("cursor is not one that was answered")
    return at, sequence


def _fields(query: Mapping[str, str]) -> Sequence[pages.Field]:
    texts = [pages.Field(name, label, value=query.get(name, ""), hint=hint) for name, label, hint in FIELDS]
    severity = pages.Field("severities", "Severity", "choice", query.get("severities", ""), ("", *SEVERITIES))
    only = pages.Field("success_only", "Only what succeeded", "checkbox", query.get("success_only", ""))
    return (*texts, severity, only)


def _row(record: StoredRecord) -> Sequence[pages.Cell]:
    return (
        pages.Link(str(record.sequence), f"{PATH}/{record.sequence}"),
        pages.Moment(record.timestamp.timestamp()),
        record.event_type,
        _severity(record.severity),
        DONE if record.result.success else NOT_DONE,
        record.user.username,
        " ".join(filter(None, (record.resource.type_, record.resource.id, record.resource.tag))),
        record.network.client_ip,
    )


def _severity(text: str) -> pages.State:
    if text.lower() in ("error", "critical"):
        return pages.State(text, "bad")
    return pages.State(text, "warning" if text.lower() == "warning" else "neutral")


def _facts(record: StoredRecord) -> Sequence[tuple[str, pages.Cell]]:
    return (
        ("Number", record.sequence),
        ("Time", pages.Moment(record.timestamp.timestamp())),
        ("Event", record.event_type),
        ("Severity", _severity(record.severity)),
        ("User", record.user.username),
        ("Resource", f"{record.resource.type_} {record.resource.id}".strip()),
        ("Operation", record.action.operation),
        ("Outcome", DONE if record.result.success else NOT_DONE),
        ("Why", record.result.error_message),
        ("From", record.network.client_ip),
    )
