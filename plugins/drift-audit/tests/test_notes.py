"""Events that no transaction does: committed before the answer, or buffered and never in the way."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import structlog
from drift_audit.auditor import AuditTrail
from drift_audit.measures import Measures
from drift_audit.notes import BufferedNotes
from drift_audit.record import Record, StoredRecord, record_of
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection

from drift_core.api import AuditEvent, Records, Unavailable

OpenTrail = Callable[..., AbstractAsyncContextManager[AuditTrail]]
Read = Callable[[], Awaitable[list[StoredRecord]]]

PATIENCE = 10.0


def kinds(records: list[StoredRecord]) -> list[str]:
    return [record.event_type for record in records if not record.event_type.startswith("Service")]


async def eventually(read: Read, expected: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while kinds(await read()) != expected:
        assert time.monotonic() < deadline, (kinds(await read()), expected)
        await asyncio.sleep(0.01)


def break_trail(db: Connection) -> None:
    db.exec_driver_sql("ALTER TABLE audit__records RENAME TO audit__gone")


def mend_trail(db: Connection) -> None:
    db.exec_driver_sql("ALTER TABLE audit__gone RENAME TO audit__records")


async def test_what_is_required_is_there_before_the_answer(open_trail: OpenTrail, read: Read) -> None:
    async with open_trail() as trail:
        await asyncio.gather(*(trail.note(AuditEvent(type="Login", username=f"u{number}")) for number in range(600)))
        records = await read()
    names = {record.user.username for record in records if record.event_type == "Login"}
    assert names == {f"u{number}" for number in range(600)}
    assert [record.sequence for record in records] == list(range(1, len(records) + 1))


async def test_what_cannot_be_recorded_is_refused(open_trail: OpenTrail, records: Records, read: Read) -> None:
    async with open_trail() as trail:
        await records.write(break_trail)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await trail.note(AuditEvent(type="Login"))
        await records.write(mend_trail)
        await trail.note(AuditEvent(type="Logout"))
    assert kinds(await read()) == ["Logout"]


async def test_who_leaves_leaves_his_event(open_trail: OpenTrail, read: Read) -> None:
    async with open_trail() as trail:
        task = asyncio.create_task(trail.note(AuditEvent(type="Login")))
        await asyncio.sleep(0)
        task.cancel()
        await trail.note(AuditEvent(type="Logout"))
        assert kinds(await read()) == ["Login", "Logout"]


async def test_the_service_says_when_it_starts_and_stops(open_trail: OpenTrail, read: Read) -> None:
    async with open_trail() as trail:
        await trail.note(AuditEvent(type="Login"))
        await asyncio.sleep(0.2)
    told = [record for record in await read() if record.event_type.startswith("Service")]
    assert [record.event_type for record in told] == ["ServiceStarted", "ServiceStopped"]
    assert told[0].resource.id == "127.0.0.1:0"
    assert isinstance(told[0].metadata["pid"], int)


async def test_a_buffer_is_written_in_time_and_at_the_end(open_trail: OpenTrail, read: Read) -> None:
    async with open_trail(required=False, flush_interval_seconds=0.2) as trail:
        await trail.note(AuditEvent(type="Login"))
        await eventually(read, ["Login"])
    async with open_trail(required=False, flush_interval_seconds=1000) as trail:
        await trail.note(AuditEvent(type="Logout"))
        await asyncio.sleep(0.3)
        assert kinds(await read()) == ["Login"]
    assert kinds(await read()) == ["Login", "Logout"]


async def test_what_is_being_written_at_the_end_is_written_once() -> None:
    written: list[Record] = []
    committed = asyncio.Event()

    class SlowToAnswer:
        async def write(self, change: Callable[[Any], None], *, concurrent: bool) -> None:
            assert concurrent
            change(None)
            committed.set()
            await asyncio.sleep(0.1)

    records: Any = SlowToAnswer()
    log = structlog.stdlib.get_logger()
    measures = Measures(CollectorRegistry())
    notes = BufferedNotes(records, lambda _, new: written.extend(new), 10, 0.01, measures, log)
    await notes.add(record_of(AuditEvent(type="Login"), None))
    running = asyncio.create_task(notes.run())
    await committed.wait()
    running.cancel()
    await asyncio.wait([running])
    await notes.close()
    assert [record.event_type for record in written] == ["Login"]


@pytest.mark.parametrize("severity", ["error", "critical"])
async def test_an_error_does_not_wait(open_trail: OpenTrail, read: Read, severity: str) -> None:
    async with open_trail(required=False, flush_interval_seconds=1000) as trail:
        await trail.note(AuditEvent(type="Login", severity="warning"))
        await trail.note(AuditEvent(type="SuspiciousActivity", severity=severity))  # type: ignore[arg-type]
        await eventually(read, ["Login", "SuspiciousActivity"])


async def test_a_full_buffer_is_written(open_trail: OpenTrail, read: Read) -> None:
    async with open_trail(required=False, flush_interval_seconds=1000, buffer_size=5) as trail:
        await asyncio.sleep(0.2)
        for _ in range(4):
            await trail.note(AuditEvent(type="Login"))
        await eventually(read, ["Login"] * 4)


async def test_what_a_full_buffer_loses_is_told(open_trail: OpenTrail, records: Records, read: Read) -> None:
    async with open_trail(required=False, flush_interval_seconds=1000, buffer_size=5) as trail:
        await records.write(break_trail)
        for number in range(12):
            await trail.note(AuditEvent(type="Login", username=f"u{number}"))
        await records.write(mend_trail)
        deadline = time.monotonic() + PATIENCE
        while "AuditEventsDropped" not in kinds(found := await read()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    (lost,) = [record for record in found if record.event_type == "AuditEventsDropped"]
    kept = [record for record in found if record.event_type == "Login"]
    assert lost.action.parameters == {"count": 12 - len(kept)}
    assert 4 <= len(kept) <= 5
    assert lost.severity == "Error"
