"""Several nodes write one trail: it has no gap and no fork, and each sink gets it once."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from drift_audit.auditor import AuditTrail, open_audit
from drift_audit.chain import Beginning, Key, append, begin
from drift_audit.config import AuditConfig, FileExport
from drift_audit.record import decoded, record_of
from drift_audit.retention import purge
from drift_audit.search import Filter, Page, page
from drift_audit.tables import records as rows
from drift_audit.verification import Verification
from msgspec import structs
from sqlalchemy import Connection, func, select

from drift_core.api import AuditEvent, Records
from drift_core.conformance import open_records, services

PATIENCE = 30.0
EACH = 60


@pytest.fixture
async def nodes(postgresql_url: str) -> AsyncIterator[Sequence[Records]]:
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(open_records("audit", "drift_audit.migrations", postgresql_url))
            for _ in range(2)
        ]


def event(name: str) -> AuditEvent:
    return AuditEvent(type="ImagePushed", resource_type="Image", resource_id=f"team/{name}")


async def change(records: Records, trail: AuditTrail, name: str, *, fails: bool = False) -> None:
    """Does what a push does: its transaction runs beside others, and ends with the record."""

    def push(db: Connection) -> None:
        trail.record(db, event(name))
        if fails:
            raise ZeroDivisionError

    await records.write(push, concurrent=True)


async def test_changes_of_all_nodes_are_one_chain_at_every_moment(nodes: Sequence[Records]) -> None:
    config = AuditConfig(enabled=True)
    async with AsyncExitStack() as opened:
        trails = [
            await opened.enter_async_context(open_audit(config, services("audit", records=records)))
            for records in nodes
        ]
        writing = True

        async def verify(trail: AuditTrail) -> int:
            times = 0
            while writing or not times:
                verification = Verification(trail.records, trail.key)
                async for left in verification.run():
                    assert left >= 0
                assert verification.found is None
                times += 1
            return times

        verifying = [asyncio.create_task(verify(trail)) for trail in trails]
        work = [
            change(records, trail, f"app{place}-{number}", fails=number % 5 == 0)
            for place, (records, trail) in enumerate(zip(nodes, trails, strict=True))
            for number in range(EACH)
        ]
        work += [trail.note(event("noted")) for trail in trails for _ in range(EACH)]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        writing = False
        times = await asyncio.gather(*verifying)
        assert min(times) > 1
    assert {type(outcome) for outcome in outcomes} == {type(None), ZeroDivisionError}
    kept = await nodes[0].read(lambda db: db.execute(select(rows.c.content).order_by(rows.c.sequence)).scalars().all())
    names = [decoded(content).resource.id for content in kept if decoded(content).event_type == "ImagePushed"]
    expected = [f"team/app{place}-{number}" for place in range(2) for number in range(EACH) if number % 5]
    assert sorted(name for name in names if name != "team/noted") == sorted(expected)
    assert names.count("team/noted") == 2 * EACH


async def test_a_purge_beside_changes_leaves_a_chain(nodes: Sequence[Records]) -> None:
    one, other = nodes
    async with open_audit(AuditConfig(enabled=True), services("audit", records=one)) as trail:

        async def remove() -> int:
            # Of nobody's sink, and older than tomorrow.
            return sum([await other.write(lambda db: purge(db, trail.key, -1, ())) for _ in range(20)])

        removed, *_ = await asyncio.gather(remove(), *(change(one, trail, f"app{number}") for number in range(EACH)))
        assert removed > 0
        verification = Verification(one, trail.key)
        async for _ in verification.run():
            pass
        assert verification.found is None


async def test_nodes_that_start_at_once_begin_one_chain(nodes: Sequence[Records], tmp_path: Path) -> None:
    config = AuditConfig(enabled=True, key_file=str(tmp_path / "key"))
    async with AsyncExitStack() as opened:
        trails = await asyncio.gather(
            *(
                opened.enter_async_context(open_audit(config, services("audit", records=records)))
                for records in (*nodes, *nodes)
            )
        )
        assert {trail.key.name for trail in trails} == {Key((tmp_path / "key").read_bytes()).name}


async def test_a_beginning_that_is_repeated_takes_its_own_key(nodes: Sequence[Records], tmp_path: Path) -> None:
    beginning = Beginning.of(str(tmp_path / "key"), anew=False)
    attempts = 0

    def conflicting(db: Connection) -> Key:
        nonlocal attempts
        attempts += 1
        key = begin(db, beginning, ())
        if attempts == 1:
            db.exec_driver_sql("DO $$BEGIN RAISE EXCEPTION USING ERRCODE = 'serialization_failure'; END$$")
        return key

    key = await nodes[0].write(conflicting)
    assert attempts == 2
    await nodes[1].write(lambda db: append(db, key, [record_of(event("app"), None)]))


async def test_a_command_whose_change_is_undone_begins_the_trail_again(nodes: Sequence[Records]) -> None:
    """A command of another plugin may be the first that records anything."""
    lent = services("audit", records=nodes[0])
    async with open_audit(AuditConfig(enabled=True), structs.replace(lent, serving=False)) as trail:
        with pytest.raises(ZeroDivisionError):
            await change(nodes[0], trail, "undone", fails=True)
        await asyncio.gather(*(change(records, trail, "app") for records in nodes))
    count = select(func.count()).select_from(rows)
    assert await nodes[0].read(lambda db: db.execute(count).scalar_one()) == 2


async def test_a_sink_gets_what_all_nodes_record_once_and_in_order(nodes: Sequence[Records], tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    config = AuditConfig(enabled=True, file_export=FileExport(path=str(file)))
    async with AsyncExitStack() as opened:
        trails = [
            await opened.enter_async_context(open_audit(config, services("audit", records=records)))
            for records in nodes
        ]
        for number in range(5):
            await asyncio.gather(
                *(change(records, trail, f"app{number}") for records, trail in zip(nodes, trails, strict=True))
            )
        last = await nodes[0].read(lambda db: db.execute(select(func.max(rows.c.sequence))).scalar_one())
        async with asyncio.timeout(PATIENCE):
            while len(sent := _sequences(file)) < last:
                await asyncio.sleep(0.05)
    assert sent == list(range(1, last + 1))


def _sequences(file: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in file.read_text().splitlines()] if file.exists() else []


NAMES = {
    "nothing": "a\0b",
    "astral": "".join(chr(0x10000 + number * 7919 % 0x8000) for number in range(5000)),
    "control": "\x01" * 5000,
    "lone": "\udcff",
}


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_whatever_somebody_calls_himself_is_recorded_and_found(
    records: Records, name: str, required: bool
) -> None:
    config = AuditConfig(enabled=True, required=required)
    noted = AuditEvent(type=name, username=name, reason=name, resource_type=name, resource_id=name, tag=name)
    async with open_audit(config, services("audit", records=records)) as trail:
        await trail.note(noted)
        await records.write(lambda db: trail.record(db, noted))
    for wanted in (
        Filter(user_id=name),
        Filter(resource_type=name),
        Filter(resource_id=name),
        Filter(event_types=[name]),
    ):
        found = await records.read(partial(_page, wanted))
        assert len(found.contents) == 2


def _page(wanted: Filter, db: Connection) -> Page:
    return page(db, wanted.conditions(), 10)
