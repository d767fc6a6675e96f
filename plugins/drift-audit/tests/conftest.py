"""A database with the tables of the trail, trails over it, and what one asks of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from drift_audit.auditor import AuditTrail, open_audit
from drift_audit.config import AuditConfig
from drift_audit.record import StoredRecord, decoded
from drift_audit.tables import records as rows
from drift_audit.verification import Anchor, Broken, Verification
from sqlalchemy import select

from drift_core.api import Records
from drift_core.conformance import open_records, services

OpenTrail = Callable[..., AbstractAsyncContextManager[AuditTrail]]
Verify = Callable[..., Awaitable[Broken | None]]


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("audit", "drift_audit.migrations", database_url) as records:
        yield records


@pytest.fixture
def open_trail(records: Records) -> OpenTrail:
    """Returns a function that opens a trail as a server would, by keys of ``[audit]``."""

    def opened(**keys: object) -> AbstractAsyncContextManager[AuditTrail]:
        config = AuditConfig(enabled=True, **keys)  # type: ignore[arg-type]
        return open_audit(config, services("audit", records=records))

    return opened


@pytest.fixture
def verify() -> Verify:
    """Returns a function that verifies a trail and returns where it is broken, or None."""

    async def verified(trail: AuditTrail, start: int | None = None, anchor: Anchor | None = None) -> Broken | None:
        verification = Verification(trail.records, trail.key, start, anchor)
        async for left in verification.run():
            assert left >= 0
        return verification.found

    return verified


@pytest.fixture
def read(records: Records) -> Callable[[], Awaitable[list[StoredRecord]]]:
    """Returns a function that reads the whole trail, in the order of the chain."""

    async def read_all() -> list[StoredRecord]:
        query = select(rows.c.content).order_by(rows.c.sequence)
        return [decoded(content) for content in await records.read(lambda db: db.execute(query).scalars().all())]

    return read_all
