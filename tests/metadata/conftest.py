"""The databases that tests of records run on: a file of SQLite, and PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from drift_core.metadata.migrations import migrate
from tests.services.postgresql import Postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: Postgresql) -> str:
    """An empty database that several nodes may use."""
    url = postgresql.url(postgresql.new_database())
    migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def either_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    migrate(url)
    return url
