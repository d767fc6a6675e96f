"""The work beside requests: all are counted at the beginning, and what changes later is added up."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from drift_quota.ledger import complete
from drift_quota.quota import Quota
from drift_quota.report import report
from sqlalchemy import text

from drift_core.api import Records

from .conftest import OpenQuota, folded, link, push, waiting

PATIENCE = 30.0


class Listing:
    """The only part of a registry that the work uses."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def repositories(self) -> AsyncIterator[str]:
        query = text("SELECT name FROM repositories ORDER BY name")
        for name in await self._records.read(lambda db: db.execute(query).scalars().all()):
            yield name


@asynccontextmanager
async def working(quota: Quota, records: Records) -> AsyncIterator[None]:
    registry: Any = Listing(records)
    task = asyncio.create_task(quota.work(registry))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(records: Records, happened: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await records.read(happened):
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_quota.counting.FOLD_SECONDS", 0.01)


async def test_what_was_there_before_is_counted(open_feature: OpenQuota, records: Records) -> None:
    for repository in ("acme/app", "acme/app", "other"):
        await records.write(partial(link, repository=repository, size=100))
    async with open_feature() as quota:
        assert await records.read(complete) is None
        async with working(quota, records):
            await until(records, lambda db: complete(db) is not None)
        assert await records.read(folded) == {"acme/app": 200, "other": 100}


async def test_changes_and_new_repositories_are_added_up(open_feature: OpenQuota, records: Records) -> None:
    await records.write(partial(link, repository="acme/app", size=100))
    async with open_feature() as quota, working(quota, records):
        await until(records, lambda db: complete(db) is not None)
        await records.write(partial(push, repository="acme/app", size=5))
        await records.write(partial(push, repository="acme/new", size=7))
        await until(records, lambda db: waiting(db) == 0)
        assert await records.read(folded) == {"acme/app": 105, "acme/new": 7}


async def test_what_changed_while_nobody_added_up_is_counted_at_the_next_start(
    open_feature: OpenQuota, records: Records
) -> None:
    await records.write(partial(push, repository="acme/app", size=100))
    async with open_feature() as quota, working(quota, records):
        await until(records, lambda db: complete(db) is not None)
    await records.write(partial(push, repository="acme/app", size=1))
    await records.write(partial(link, repository="acme/app", size=1000))
    before = await records.read(complete)
    async with open_feature() as quota, working(quota, records):
        await until(records, lambda db: complete(db) != before)
        assert await records.read(folded) == {"acme/app": 1101}


async def test_a_repository_that_is_gone_holds_nothing(open_feature: OpenQuota, records: Records) -> None:
    async with open_feature() as quota:
        await records.write(partial(push, repository="acme/app", size=100))
        await quota.counting.fold()
        assert await records.read(folded) == {"acme/app": 100}
        await records.write(lambda db: db.execute(text("DELETE FROM repositories")).close())
        registry: Any = Listing(records)
        found = {name: counted.held async for name, counted in quota.counting.count_all(registry)}
        assert found == {"acme/app": 0}


async def test_a_report_has_those_that_hold_the_most(open_feature: OpenQuota, records: Records) -> None:
    async with open_feature(organizations={"a": 1000}, repositories={"b/*": 400}, default_repository=0) as quota:
        for repository, size in (("a/one", 500), ("a/two", 300), ("b/one", 600), ("c", 1)):
            await records.write(partial(push, repository=repository, size=size))
            await quota.counting.count(repository)
        # Not added up: all that "late" holds, and what brings "c" among the first.
        await records.write(partial(push, repository="late/one", size=700))
        await records.write(partial(push, repository="c", size=650))
        found = await records.read(partial(report, limits=quota.limits, most=3))
        assert not found.complete
        assert [(one.name, one.used, one.limit, one.share) for one in found.organizations] == [
            ("a", 800, 1000, 0.8),
            ("late", 700, None, None),
            ("c", 651, None, None),
        ]
        assert [(one.name, one.used, one.limit, one.share) for one in found.repositories] == [
            ("late/one", 700, 0, None),
            ("c", 651, 0, None),
            ("b/one", 600, 400, 1.5),
        ]
        whole = await records.read(partial(report, limits=quota.limits))
        assert [(one.name, one.used) for one in whole.repositories][-1] == ("a/two", 300)
