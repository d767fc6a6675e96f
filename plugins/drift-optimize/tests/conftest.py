"""A database with the tables of jobs and layers, on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from drift_core.api import Records
from drift_core.conformance import open_records

MIGRATIONS = ("optimize", "drift_optimize.migrations")


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records(*MIGRATIONS, database_url) as records:
        yield records
