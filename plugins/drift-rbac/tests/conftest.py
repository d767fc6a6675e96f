"""Opens the policy on tables of its own, and makes what it decides about."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from drift_rbac.authorizer import Rbac, open_authorizer
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.entities import Entity
from msgspec import structs
from prometheus_client import CollectorRegistry

from drift_core.api import Records, Services
from drift_core.conformance import MemoryAuditor, Trail, open_records
from drift_core.conformance import services as lent

OpenPolicy = Callable[..., AbstractAsyncContextManager[Rbac]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("rbac", "drift_rbac.migrations", database_url) as records:
        yield records


@pytest.fixture
def kept() -> MemoryAuditor:
    return MemoryAuditor()


@pytest.fixture
def services(records: Records, kept: MemoryAuditor) -> Services:
    return lent("rbac", records=records, audit=Trail([kept]))


@pytest.fixture
def open_policy(services: Services) -> OpenPolicy:
    """Returns a function that opens a policy with entities in its tables."""

    @asynccontextmanager
    async def opened(*entities: Entity, **config: Any) -> AsyncIterator[Rbac]:
        # As in a process of its own: what it counts is not what the one before counted.
        own = structs.replace(services, metrics=CollectorRegistry())
        async with open_authorizer(RbacConfig(**config), own) as rbac:
            if entities:
                await rbac.editor.change(lambda _: Directory().put(*entities), None)
            yield rbac

    return opened
