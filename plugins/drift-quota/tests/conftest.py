"""A database with the tables of the plugin and of the core, and a repository that holds blobs as the core has it."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from drift_quota.config import QuotaConfig
from drift_quota.ledger import append, organization_of
from drift_quota.quota import Quota, open_quota
from drift_quota.tables import deltas, organizations, usage
from sqlalchemy import Connection, func, select, text

from drift_core.api import Records
from drift_core.conformance import MemoryAuditor, Trail, open_records, services

OpenQuota = Callable[..., AbstractAsyncContextManager[Quota]]

_serial = itertools.count(1)


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("quota", "drift_quota.migrations", database_url) as records:
        yield records


@pytest.fixture
def kept() -> MemoryAuditor:
    return MemoryAuditor()


@pytest.fixture
def open_feature(records: Records, kept: MemoryAuditor) -> OpenQuota:
    """Returns a function that opens the feature as a server would, by keys of ``[quota]``."""

    def opened(**keys: object) -> AbstractAsyncContextManager[Quota]:
        config = QuotaConfig(enabled=True, **keys)  # type: ignore[arg-type]
        return open_quota(config, services("quota", records=records, audit=Trail([kept])))

    return opened


def link(db: Connection, repository: str, size: int) -> str:
    """Makes a repository hold a new blob, as the core does, and tells nobody."""
    digest = f"sha256:{next(_serial):064x}"
    name = {"name": repository}
    db.execute(text("INSERT INTO repositories (name, created_at) VALUES (:name, 0) ON CONFLICT DO NOTHING"), name)
    db.execute(
        text("INSERT INTO blobs (digest, size, created_at) VALUES (:digest, :size, 0)"),
        {"digest": digest, "size": size},
    )
    insert = "INSERT INTO repository_blobs (repository_id, digest) SELECT id, :digest FROM repositories"
    db.execute(text(f"{insert} WHERE name = :name"), {**name, "digest": digest})
    return digest


def unlink(db: Connection, digest: str) -> None:
    """Takes a blob away from who holds it, as the core does, and tells nobody."""
    db.execute(text("DELETE FROM repository_blobs WHERE digest = :digest"), {"digest": digest})


def push(db: Connection, repository: str, size: int) -> str:
    """Makes a repository hold a new blob and says so."""
    digest = link(db, repository, size)
    append(db, repository, size)
    return digest


def remove(db: Connection, repository: str, digest: str, size: int) -> None:
    """Takes a blob away from a repository and says so."""
    unlink(db, digest)
    append(db, repository, -size)


def folded(db: Connection) -> dict[str, int]:
    """Returns the usage that was added up, of repositories; the sums of their organizations have to be theirs."""
    found = {row[0]: row[1] for row in db.execute(select(usage.c.repository, usage.c.bytes))}
    sums = {row[0]: row[1] for row in db.execute(select(organizations.c.organization, organizations.c.bytes))}
    expected: dict[str, int] = {}
    for repository, size in found.items():
        organization = organization_of(repository)
        expected[organization] = expected.get(organization, 0) + size
    assert sums == expected
    return found


def waiting(db: Connection) -> int:
    """Returns how many deltas were not added up yet."""
    return db.execute(select(func.count()).select_from(deltas)).scalar_one()
