"""The routes below ``/api/audit``: events, their counts, and an export."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import ClientException
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Send
from msgspec import Meta, Struct

from drift_audit.export import csv_header, csv_line, json_line
from drift_audit.record import StoredRecord
from drift_audit.search import Filter, Place, Stats, every, page, stats
from drift_core.api import Records, Scope

READ = Scope("registry", "audit", "read")

MOST = 1000
"""Most records of one answer."""

MOST_SKIPPED = 10_000
"""The largest offset: what is skipped is read all the same. The cursor has no such limit."""

CHUNK_BYTES = 64 << 10

LISTS = frozenset({"event_types", "severities"})
"""Parameters that may be repeated, or hold several values between commas."""


class Listed(Filter, frozen=True, kw_only=True):
    """The query of a page; ``cursor`` is that of the answer before."""

    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    offset: Annotated[int, Meta(ge=0, le=MOST_SKIPPED)] = 0
    cursor: str | None = None


class Exported(Filter, frozen=True, kw_only=True):
    """The query of an export."""

    format: Literal["jsonlines", "csv"] = "jsonlines"


class Events(Struct, frozen=True):
    """A page of records, and the cursor of the next one; None where there is none."""

    events: list[StoredRecord]
    next: str | None


AnyRequest = Request[Any, Any, Any]


class Streamed(ASGIStreamingResponse):
    """Ends with its content. Litestar's own also waits for the client to leave, which `send` tells anyway."""

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Sends the content."""
        del receive
        await self._stream(send)


def routes_over(records: Records) -> Sequence[Any]:
    """Returns the handlers; all of them need the scope ``registry:audit:read``."""

    @get("/api/audit/events", scope=READ, query=Listed, answers=Events)
    async def events(request: AnyRequest) -> Response[bytes]:
        """Answers a page of records, the newest first, and the cursor of the next one."""
        asked = _query(request, Listed)
        conditions = _conditions(asked)
        limit = _number(asked, "limit", 100, 1, MOST)
        offset = _number(asked, "offset", 0, 0, MOST_SKIPPED)
        behind = _place(asked["cursor"]) if "cursor" in asked else None
        found = await records.read(lambda db: page(db, conditions, limit, behind, offset=offset))
        cursor = b"null" if found.next is None else b'"%d-%d"' % found.next
        return _json(b'{"events":[%b],"next":%b}' % (b",".join(found.contents), cursor))

    @get("/api/audit/stats", scope=READ, query=Filter, answers=Stats)
    async def counts(request: AnyRequest) -> Response[bytes]:
        """Answers the counts of the contract."""
        conditions = _conditions(_query(request, Filter))
        return _json(msgspec.json.encode(await records.read(lambda db: stats(db, conditions))))

    @get("/api/audit/export", scope=READ, query=Exported, answers={"application/jsonl": bytes, "text/csv": bytes})
    async def export(request: AnyRequest) -> Streamed:
        """Streams every record that is asked for, the oldest first."""
        asked = _query(request, Exported)
        form = asked.pop("format", "jsonlines")
        if form not in ("jsonlines", "csv"):
            raise ClientException("format is jsonlines or csv")
        conditions = _conditions(asked)
        as_csv = form == "csv"

        async def lines() -> AsyncIterator[bytes]:
            chunk = bytearray(csv_header() if as_csv else b"")
            async for content in every(records, conditions):
                chunk += csv_line(content) if as_csv else json_line(content)
                if len(chunk) >= CHUNK_BYTES:
                    yield bytes(chunk)
                    chunk.clear()
            yield bytes(chunk)

        name = "audit.csv" if as_csv else "audit.jsonl"
        return Streamed(
            iterator=lines(),
            media_type="text/csv; charset=utf-8" if as_csv else "application/jsonl",
            headers={
                "content-disposition": f'attachment; filename="{name}"',
                "cache-control": "no-store",
            },
        )

    return [events, counts, export]


def _json(content: bytes) -> Response[bytes]:
    return Response(content, media_type="application/json", headers={"cache-control": "no-store"})


def _query(request: AnyRequest, kind: type[Filter]) -> dict[str, Any]:
    """Returns the parameters of a request, those of `LISTS` as lists. Raises 400 for others than are known."""
    known = set(kind.__struct_fields__)
    asked: dict[str, Any] = {}
    for name, values in request.query_params.dict().items():
        if name not in known:
            message = f"unknown parameter {name[:64]!r}"
            raise ClientException(message)
        if name in LISTS:
            asked[name] = [part for value in values for part in str(value).split(",") if part]
        elif len(values) != 1:
            message = f"{name} may be given once"
            raise ClientException(message)
        else:
            asked[name] = str(values[0])
    return asked


def _conditions(asked: Mapping[str, Any]) -> Sequence[Any]:
    own = {name: value for name, value in asked.items() if name in Filter.__struct_fields__}
    try:
        wanted = msgspec.convert(own, Filter, strict=False)
        for name in ("start_time", "end_time"):
            time = getattr(wanted, name)
            if time is not None and time.tzinfo is None:
                message = f"{name} needs an offset, such as Z"
                raise ClientException(message)
        return wanted.conditions()
    except ValueError as error:
        raise ClientException(str(error)) from error


def _number(asked: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    text = str(asked.get(name, default))
    if not text.isdecimal() or not text.isascii() or len(text) > 9 or not least <= int(text) <= most:  # noqa: PLR2004
        message = f"{name} is a number from {least} to {most}"
        raise ClientException(message)
    return int(text)


def _place(cursor: str) -> Place:
    at, _, sequence = cursor.partition("-")
    digits = at.isascii() and sequence.isascii() and at.isdecimal() and sequence.isdecimal()
    # The database counts in 64 bits.
    if not digits or max(len(at), len(sequence)) > 18:  # noqa: PLR2004
        raise ClientException("cursor is not one that was answered")
    return int(at), int(sequence)
