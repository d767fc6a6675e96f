"""The pages of the console, asked directly: the filters of the API, page by page, and one record whole."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_audit import pages as ours
from drift_audit.auditor import AuditTrail
from drift_audit.pages import BadQuestion, RecordUnknown

from drift_core.api import AuditEvent, Identity, Severity, SupportsPages, pages

from .conftest import OpenTrail

EVENTS: tuple[tuple[str, str, Severity, bool], ...] = (
    ("ImagePushed", "ann", "info", True),
    ("ImagePulled", "bob", "debug", True),
    ("PermissionDenied", "bob", "warning", False),
    ("ImagePushed", "bob", "error", False),
)


def asked(sequence: str = "", **query: str) -> pages.Asked:
    return pages.Asked(Identity("ann", "test"), {"sequence": sequence}, query, {}, "registry.example")


@pytest.fixture
async def trail(open_trail: OpenTrail) -> AsyncIterator[AuditTrail]:
    async with open_trail(required=True, min_severity="debug") as trail:
        for number, (kind, name, severity, success) in enumerate(EVENTS):
            event = AuditEvent(
                type=kind,
                severity=severity,
                success=success,
                reason=None if success else "it may not",
                identity=Identity(name, "test"),
                resource_type="Image",
                resource_id=f"team/app{number}",
                tag="v1",
            )
            await trail.note(event)
        assert isinstance(trail, SupportsPages)
        yield trail


async def found(trail: AuditTrail, **query: str) -> pages.Table:
    form, table = await trail.pages()[0].show(asked(**query))
    assert isinstance(form, pages.Form)
    assert form.act is None
    assert isinstance(table, pages.Table)
    return table


async def test_what_a_record_shows(trail: AuditTrail) -> None:
    table = await found(trail, event_types="PermissionDenied")
    ((link, moment, kind, severity, outcome, user, resource, address),) = table.rows
    assert isinstance(link, pages.Link)
    assert isinstance(moment, pages.Moment)
    assert (kind, user, resource, address) == ("PermissionDenied", "bob", "Image team/app2 v1", None)
    assert (severity, outcome) == (pages.State("Warning", "warning"), pages.State("refused or failed", "bad"))
    assert link.path == f"/audit/{link.text}"
    facts, whole = await trail.pages()[1].show(asked(link.text))
    assert isinstance(facts, pages.Facts)
    rows = dict(facts.rows)
    assert (rows["Why"], rows["Resource"], rows["Number"]) == ("it may not", "Image team/app2", int(link.text))
    assert isinstance(whole, pages.Text)
    assert whole.code
    assert f'"sequence": {link.text}' in whole.text


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({"user_id": "bob"}, [3, 2, 1]),
        ({"user_id": " ann "}, [0]),
        ({"event_types": "ImagePushed, ImagePulled", "resource_type": "Image"}, [3, 1, 0]),
        ({"severities": "error"}, [3]),
        ({"organization": "team", "success_only": "1", "resource_type": "Image"}, [1, 0]),
        ({"resource_id": "team/app2"}, [2]),
        ({"end_time": "2020-01-01T00:00:00Z"}, []),
        ({"start_time": "2020-01-01T00:00:00+02:00", "user_id": "ann", "unknown": "x"}, [0]),
    ],
)
async def test_filters(trail: AuditTrail, query: dict[str, str], places: list[int]) -> None:
    table = await found(trail, **query)
    assert [row[6] for row in table.rows] == [f"Image team/app{place} v1" for place in places]


async def test_records_page_by_page(trail: AuditTrail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SHOWN", 2)
    first = await found(trail, user_id="bob")
    assert first.more is not None
    path, _, query = first.more.path.partition("?")
    assert path == "/audit"
    further = dict(part.split("=") for part in query.split("&"))
    assert further["user_id"] == "bob"
    second = await found(trail, **further)
    assert [row[6] for row in (*first.rows, *second.rows)] == [f"Image team/app{place} v1" for place in (3, 2, 1)]
    assert second.more is None


@pytest.mark.parametrize(
    "query",
    [
        {"severities": "loud"},
        {"start_time": "yesterday"},
        {"start_time": "2026-01-01T00:00:00"},
        {"cursor": "1"},
        {"cursor": "a-1"},
        {"cursor": "1-" + "9" * 19},
    ],
)
async def test_questions_that_do_not_fit(trail: AuditTrail, query: dict[str, str]) -> None:
    with pytest.raises(BadQuestion):
        await found(trail, **query)


@pytest.mark.parametrize("sequence", ["999999", "x", "-1", "9" * 30])
async def test_records_that_are_not_there(trail: AuditTrail, sequence: str) -> None:
    with pytest.raises(RecordUnknown):
        await trail.pages()[1].show(asked(sequence))


async def test_each_needs_what_the_routes_need(trail: AuditTrail) -> None:
    scopes: set[Any] = {handler.opt["scope"] for handler in trail.routes()}
    assert {page.needs for page in trail.pages()} == scopes
    assert [(page.path, page.menu) for page in trail.pages()] == [
        ("/audit", "Audit trail"),
        ("/audit/{sequence}", None),
    ]
