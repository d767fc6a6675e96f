"""Tests that are coroutines run on asyncio, whatever else is installed; those of tables run on both databases."""

import gc
from collections.abc import Iterator
from uuid import uuid4

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.services.postgresql import Postgresql

# How long something takes on a machine that others use, too, says nothing.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_finish() -> None:
    """Lets no collection of cycles look at all tests anew: each took half a second, and some tests ask for several."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logs_of_its_own() -> None:
    """A command that a test runs in this process leaves its logs, which others would then not find where they look."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Names the backend for anyio's plugin."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One server for all tests, each of which has a database or a schema of its own in it."""
    with Postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: Postgresql) -> Iterator[str]:
    """Yields the URL of an empty schema, which is made and removed sooner than a database: it is that of its user."""
    name = f"drift_{uuid4().hex[:12]}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
    postgresql.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
    yield f"postgresql+psycopg://{name}@{postgresql.address}/postgres"
    postgresql.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Returns what `open_records` takes: None for a file of its own, or the URL of an empty schema."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgresql_url")
