"""The mark of changes: shared by all who open it, and noticed also where who committed died before touching it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from drift_core.metadata.database import open_database
from drift_core.metadata.mark import ChangeMark
from drift_core.metadata.migrations import migrate


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_all_who_open_it_see_a_touch(tmp_path: Path) -> None:
    one, other = ChangeMark(tmp_path / "mark"), ChangeMark(tmp_path / "mark")
    seen = {one.read()}
    for mark in (one, other, one):
        mark.touch()
        assert one.read() == other.read()
        seen.add(one.read())
    assert len(seen) == 4
    for mark in (one, other):
        mark.close()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        ChangeMark(tmp_path / "missing" / "mark")


@pytest.mark.anyio
async def test_a_commit_of_a_stranger_is_noticed(tmp_path: Path) -> None:
    """One that never touches the mark, as a process that dies behind its commit."""
    path = tmp_path / "drift.db"
    migrate(f"sqlite:///{path}")
    async with open_database(f"sqlite:///{path}") as database:
        before = database.version()
        await asyncio.sleep(1.1)
        assert database.version() == before
        with closing(sqlite3.connect(path, isolation_level=None)) as stranger:
            stranger.execute("INSERT INTO repositories (name, created_at) VALUES ('a', 0)")
        async with asyncio.timeout(10):
            while database.version() == before:
                await asyncio.sleep(0.05)


@pytest.mark.anyio
async def test_a_commit_shows_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    migrate(url)
    async with open_database(url) as one, open_database(url) as other:
        for database in (one, other):
            database.version()
        before = one.version()
        await other.write(lambda db: db.exec_driver_sql("INSERT INTO repositories (name, created_at) VALUES ('a', 0)"))
        assert one.version() != before
