"""The work beside requests: a run when it is due, over every repository, past every tag that cannot be dropped."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from drift_retention.ages import HOUR
from drift_retention.ledger import pulls_of, write_pulls
from drift_retention.retention import Retention
from drift_retention.runs import Run, load, save

from drift_core.api import Digest, Records, Tag

from .conftest import OpenRetention
from .shelf import DAY, Shelf, tag

PATIENCE = 30.0
KEEP = {"keep": [{"newest": 1}]}


def shelf(*ages: int, immutable: tuple[str, ...] = ()) -> Shelf:
    """Returns two repositories with tags that are so many days old, named by them."""
    tags = [tag(f"t{age}", time.time() - age * DAY) for age in ages]
    return Shelf({"app": tags, "team/app": tags}, immutable)


@asynccontextmanager
async def working(retention: Retention, registry: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(retention.work(registry))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def ended(records: Records, after: float = 0.0, *, dry_run: bool = False) -> Run:
    async with asyncio.timeout(PATIENCE):
        while True:
            run = await records.read(partial(load, dry_run=dry_run))
            if run is not None and run.began_at > after:
                return run
            await asyncio.sleep(0.01)


async def test_a_run(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(10, 20, 30, immutable=("t20",))
    async with open_feature(**KEEP) as retention, working(retention, registry):
        run = await ended(records)
    assert registry.names("app") == registry.names("team/app") == {"t10", "t20"}
    assert (run.repositories, run.tags, run.dropped, run.refused, run.failed) == (2, 6, 2, 2, 0)


async def test_what_fails_keeps_no_other_tag(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(10, 20, 30, 40)
    registry.failing = {"t20"}
    async with open_feature(**KEEP) as retention, working(retention, registry):
        run = await ended(records)
    assert registry.names("app") == registry.names("team/app") == {"t10", "t20"}
    assert (run.dropped, run.failed) == (4, 2)


async def test_a_tag_that_moved_or_went_meanwhile_is_not_dropped(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(10, 20, 30)
    moved = Tag("t30", Digest.of(b"other"), time.time(), time.time())

    def move(_: str) -> None:
        registry.tags_of["app"]["t30"] = moved
        registry.tags_of["app"].pop("t20", None)

    registry.before_delete = move
    async with open_feature(**KEEP) as retention, working(retention, registry):
        run = await ended(records)
    assert registry.tags_of["app"]["t30"] == moved
    assert (run.dropped, run.refused, run.failed) == (2, 0, 0)


async def test_a_dry_run_drops_nothing(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(10, 20, 30)
    async with open_feature(**KEEP, dry_run=True) as retention, working(retention, registry):
        run = await ended(records, dry_run=True)
    assert registry.names("app") == {"t10", "t20", "t30"}
    assert run.dropped == 4
    assert await records.read(partial(load, dry_run=False)) is None


@pytest.mark.parametrize(("age", "due"), [(23.9, False), (24.1, True)])
async def test_the_next_run_is_due_an_interval_after_the_last(
    open_feature: OpenRetention, records: Records, age: float, due: bool
) -> None:
    began = time.time() - age * HOUR
    await records.write(partial(save, run=Run(began_at=began), dry_run=False))
    registry = shelf(10, 20)
    async with open_feature(**KEEP) as retention, working(retention, registry):
        if due:
            await ended(records, began)
        else:
            # Anything that a run needs would be done before this.
            for _ in range(100):
                await records.read(lambda _: None)
    assert registry.listed == (["app", "team/app"] if due else [])


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_dry_run_puts_off_only_dry_runs(open_feature: OpenRetention, records: Records, dry_run: bool) -> None:
    await records.write(partial(save, run=Run(began_at=time.time()), dry_run=True))
    registry = shelf(10, 20)
    async with open_feature(**KEEP, dry_run=dry_run) as retention, working(retention, registry):
        if dry_run:
            for _ in range(100):
                await records.read(lambda _: None)
        else:
            await ended(records)
    assert registry.listed == ([] if dry_run else ["app", "team/app"])


async def test_a_run_that_ends_early_begins_again(
    open_feature: OpenRetention, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_retention.retention.LOOK_SECONDS", 0.0)
    registry = shelf(10, 20)
    registry.silent = True
    async with open_feature(**KEEP) as retention, working(retention, registry):
        for _ in range(20):
            await records.read(lambda _: None)
        assert await records.read(partial(load, dry_run=False)) is None
        registry.silent = False
        await ended(records)
    assert registry.names("app") == {"t10"}


async def test_repositories_without_rules_are_not_read(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(10, 20)
    policies = [{"repositories": ["team/*"], "keep": [{"newest": 1}]}]
    async with open_feature(policies=policies) as retention, working(retention, registry):
        run = await ended(records)
    assert registry.listed == ["team/app"]
    assert (run.repositories, run.tags) == (2, 2)


async def test_pulls_count_and_are_forgotten_with_their_tags(open_feature: OpenRetention, records: Records) -> None:
    registry = shelf(100, 200)
    now = int(time.time())
    old = now - 20 * int(DAY)
    noted = {("app", "t100"): old, ("app", "t200"): now, ("app", "gone"): old, ("app", Digest.of(b"gone")): now}
    noted |= {("app", Digest.of(b"t200")): old}
    await records.write(partial(write_pulls, noted=noted))
    async with open_feature(keep=[{"pulled_within": "10d"}]) as retention:
        # As if it had been recorded for long.
        await ended_recording(records)
        async with working(retention, registry):
            await ended(records)
    assert registry.names("app") == {"t200"}
    assert registry.names("team/app") == set()
    left = await records.read(partial(pulls_of, repository="app"))
    # Of t100, the next run forgets.
    assert left.at.keys() == {"t100", "t200", Digest.of(b"t200"), Digest.of(b"gone")}


async def ended_recording(records: Records) -> None:
    """Returns when recording has begun, and sets back when."""
    async with asyncio.timeout(PATIENCE):
        while (await records.read(partial(pulls_of, repository=""))).since is None:
            await asyncio.sleep(0.01)
    await records.write(lambda db: db.exec_driver_sql("UPDATE retention__recording SET began_at = 0").close())
