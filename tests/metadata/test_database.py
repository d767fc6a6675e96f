"""Changes of several callers: what shares a commit, and what fails alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from drift_core.metadata import queries
from drift_core.metadata.database import Database, open_database
from drift_core.metadata.migrations import migrate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    migrate(url)
    async with open_database(url) as database:
        yield database


class Panic(BaseException):
    """What a library of Rust may raise: no Exception."""


def twice(db: Connection) -> None:
    for _ in range(2):
        db.exec_driver_sql("INSERT INTO repositories (name, created_at) VALUES ('twice', 0)")


def fails(db: Connection) -> None:
    queries.ensure_repository(db, "failed")
    raise Panic("of a plugin")


async def test_what_a_plugin_violates_fails_no_change_of_others(database: Database) -> None:
    others = [database.write(lambda db, name=f"r{number}": queries.ensure_repository(db, name)) for number in range(20)]
    done = await asyncio.gather(*others[:10], database.write(twice, alone=True), *others[10:], return_exceptions=True)
    assert isinstance(done.pop(10), IntegrityError)
    assert all(isinstance(row, int) for row in done)
    names = await database.read(lambda db: queries.repository_names(db, "", 100))
    assert names == sorted(f"r{number}" for number in range(20))


@pytest.mark.parametrize("beside", [0, 3])
async def test_a_change_that_raises_anything_is_undone_and_the_next_goes_on(database: Database, beside: int) -> None:
    changes = [
        database.write(lambda db, name=f"r{number}": queries.ensure_repository(db, name)) for number in range(beside)
    ]
    *_, raised = await asyncio.gather(*changes, database.write(fails), return_exceptions=True)
    assert str(raised) == "of a plugin"
    await database.write(lambda db: queries.ensure_repository(db, "next"))
    names = await database.read(lambda db: queries.repository_names(db, "", 100))
    assert names == ["next", *(f"r{number}" for number in range(beside))]
