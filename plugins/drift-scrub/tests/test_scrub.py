"""The work beside requests: a pass goes on where it was, is complete once in an interval, and is counted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from drift_scrub.passes import Pass, finish, load, save
from drift_scrub.scrub import DAY, Scrub
from sqlalchemy import Connection

from drift_core.api import Digest, Records

from .conftest import OpenScrub, Shelf

PATIENCE = 30.0


@asynccontextmanager
async def working(scrub: Scrub, shelf: Shelf) -> AsyncIterator[None]:
    registry: Any = shelf
    task = asyncio.create_task(scrub.work(registry))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(records: Records, happened: Callable[[Connection], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await records.read(happened):
            await asyncio.sleep(0.01)


async def complete(records: Records) -> Pass:
    await until(records, lambda db: load(db, "last") is not None)
    found = await records.read(partial(load, name="last"))
    assert found is not None
    return found


async def test_a_pass_is_counted(open_feature: OpenScrub, records: Records) -> None:
    shelf = Shelf(b"a", b"bb", b"ccc")
    shelf.stored[Digest.of(b"a")] = b"x"
    async with open_feature() as scrub, working(scrub, shelf):
        last = await complete(records)
    assert (last.checked, last.bytes_read, last.damaged, last.unreadable) == (3, 6, 1, 0)
    assert last.position is None
    assert list(shelf.quarantine_reasons) == [Digest.of(b"a")]
    assert await records.read(partial(load, name="current")) is None


async def test_a_pass_goes_on_behind_what_is_done(
    open_feature: OpenScrub, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while it reads the fourth blob: the next one begins with that."""
    monkeypatch.setattr("drift_scrub.scrub.SAVE_SECONDS", 0.0)
    shelf = Shelf(*(b"%d" % number for number in range(6)))
    reached = asyncio.Event()

    async def stuck(registry: Shelf, digest: Digest) -> AsyncIterator[bytes]:
        if digest == shelf.digests[3]:
            reached.set()
            await asyncio.Event().wait()
        async for chunk in stored_bytes(registry, digest):
            yield chunk

    stored_bytes = Shelf.stored_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "stored_bytes", stuck)
        async with open_feature() as scrub, working(scrub, shelf):
            async with asyncio.timeout(PATIENCE):
                await reached.wait()
    assert shelf.reads == shelf.digests[:3]
    current = await records.read(partial(load, name="current"))
    assert current is not None
    assert (current.position, current.checked) == (shelf.digests[2], 3)
    async with open_feature() as scrub, working(scrub, shelf):
        last = await complete(records)
    assert shelf.reads == shelf.digests
    assert (last.checked, last.began_at) == (6, current.began_at)


@pytest.mark.parametrize(("age", "due"), [(29.9, False), (30.1, True)])
async def test_the_next_pass_is_due_an_interval_after_the_last(
    open_feature: OpenScrub, records: Records, age: float, due: bool
) -> None:
    shelf = Shelf(b"a")
    old = Pass.new()
    old.began_at -= age * DAY
    await records.write(partial(finish, pass_=old))
    looked = asyncio.Event()
    quarantined = shelf.quarantined

    def look() -> AsyncIterator[Any]:
        looked.set()
        return quarantined()

    shelf.quarantined = look  # type: ignore[method-assign]
    async with open_feature(interval_days=30) as scrub, working(scrub, shelf):
        async with asyncio.timeout(PATIENCE):
            await looked.wait()
        if due:
            await until(records, lambda db: (load(db, "last") or old).began_at != old.began_at)
        else:
            # Anything that a pass needs would be done before this.
            for _ in range(100):
                await records.read(lambda _: None)
    assert bool(shelf.reads) == due


async def test_a_pass_that_goes_on_is_not_put_off(open_feature: OpenScrub, records: Records) -> None:
    shelf = Shelf(b"a", b"b")
    last, current = Pass.new(), Pass.new()
    last.began_at -= 1
    current.position = str(shelf.digests[0])
    await records.write(partial(finish, pass_=last))
    await records.write(partial(save, pass_=current))
    async with open_feature() as scrub, working(scrub, shelf):
        await until(records, lambda db: load(db, "current") is None)
    assert shelf.reads == shelf.digests[1:]


async def test_an_empty_store_ends_the_pass_until_later(
    open_feature: OpenScrub, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_scrub.scrub.LOOK_SECONDS", 0.01)
    shelf = Shelf(b"a", b"b")
    stored, shelf.stored = shelf.stored, {}
    tries = asyncio.Event()

    def mount(_: Digest) -> None:
        if len(shelf.reads) == 8:
            shelf.stored = stored
            tries.set()

    shelf.before_read = mount
    async with open_feature() as scrub, working(scrub, shelf):
        async with asyncio.timeout(PATIENCE):
            await tries.wait()
        last = await complete(records)
    assert shelf.quarantine_reasons == {}
    assert last.damaged == 0
