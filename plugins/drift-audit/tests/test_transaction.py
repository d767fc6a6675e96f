"""A record is written with the change that it tells of: both, or neither, or the change alone where that is allowed."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from drift_audit.auditor import AuditTrail
from drift_audit.record import StoredRecord
from drift_audit.verification import Broken
from sqlalchemy import Connection

from drift_core.api import AuditEvent, Records, Unavailable

OpenTrail = Callable[..., AbstractAsyncContextManager[AuditTrail]]
Read = Callable[[], Awaitable[list[StoredRecord]]]
Verify = Callable[..., Awaitable[Broken | None]]

EVENT = AuditEvent(type="UserCreated", resource_type="User", resource_id="alice", reason="x" * 1000)
TRIGGERS = {
    "sqlite": "CREATE TRIGGER audit_broken BEFORE {} BEGIN SELECT RAISE(FAIL, 'broken'); END",
    "postgresql": """
        CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'broken'; END$$;
        CREATE TRIGGER audit_broken BEFORE {} EXECUTE FUNCTION broken()
    """,
}
# Where the end fails, the record is already written.
FAILING = ("INSERT ON audit__records", "UPDATE ON audit__ends")


def run(statement: str) -> Callable[[Connection], None]:
    return lambda db: db.exec_driver_sql(statement).close()


def break_trail(db: Connection, failing: str | None) -> None:
    statement = "ALTER TABLE audit__ends RENAME TO audit__gone"
    if failing is not None:
        statement = TRIGGERS[db.dialect.name].format(failing)
    db.exec_driver_sql(statement).close()


def mend_trail(db: Connection, failing: str | None) -> None:
    statement = "ALTER TABLE audit__gone RENAME TO audit__ends"
    if failing is not None:
        statement = f"DROP TRIGGER audit_broken{failing[6:] if db.dialect.name == 'postgresql' else ''}"
    db.exec_driver_sql(statement).close()


@pytest.fixture
def create(records: Records) -> Callable[[AuditTrail], Awaitable[None]]:
    async def create_user(trail: AuditTrail) -> None:
        def change(db: Connection) -> None:
            db.exec_driver_sql("INSERT INTO people VALUES ('alice')").close()
            trail.record(db, EVENT)

        await records.write(change)

    return create_user


async def people(records: Records) -> int:
    count: int = await records.read(lambda db: db.exec_driver_sql("SELECT count(*) FROM people").scalar_one())
    return count


async def users(read: Read) -> int:
    return len([record for record in await read() if record.event_type == "UserCreated"])


Create = Callable[[AuditTrail], Awaitable[None]]


async def test_both_or_neither(open_trail: OpenTrail, records: Records, read: Read, create: Create) -> None:
    async with open_trail() as trail:
        await records.write(run("CREATE TABLE people (name text)"))
        await create(trail)
        assert (await people(records), await users(read)) == (1, 1)

        def give_up(db: Connection) -> None:
            trail.record(db, EVENT)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await records.write(give_up)
        assert await users(read) == 1


@pytest.mark.parametrize("failing", [*FAILING, None])
@pytest.mark.parametrize("required", [True, False])
async def test_what_cannot_be_recorded(
    open_trail: OpenTrail,
    records: Records,
    read: Read,
    verify: Verify,
    create: Create,
    required: bool,
    failing: str | None,
) -> None:
    async with open_trail(required=required, flush_interval_seconds=1000) as trail:
        await records.write(run("CREATE TABLE people (name text)"))
        await records.write(lambda db: break_trail(db, failing))
        if required:
            with pytest.raises(Unavailable):
                await create(trail)
        else:
            await create(trail)
        assert (await people(records), await users(read)) == (0 if required else 1, 0)
        await records.write(lambda db: mend_trail(db, failing))
        await create(trail)
        assert await users(read) == 1
        assert await verify(trail) is None


@pytest.mark.parametrize("database_url", [None])
async def test_a_change_that_the_database_undid_is_not_acknowledged(
    open_trail: OpenTrail, records: Records, create: Create
) -> None:
    """SQLite ends the whole transaction where the disk is full, also where the trail may fail."""
    async with open_trail(required=False, flush_interval_seconds=1000) as trail:
        await records.write(run("CREATE TABLE people (name text)"))
        pages = await records.read(lambda db: db.exec_driver_sql("PRAGMA page_count").scalar_one())
        await records.write(run(f"PRAGMA max_page_count={pages + 2}"))
        acknowledged = 0
        for _ in range(20):
            try:
                await create(trail)
            except Unavailable:
                break
            acknowledged += 1
        else:
            pytest.fail("the disk was never full")
        assert await people(records) == acknowledged
        await records.write(run("PRAGMA max_page_count=1000000"))
