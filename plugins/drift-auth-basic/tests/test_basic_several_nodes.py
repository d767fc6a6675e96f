"""Two nodes on one PostgreSQL have the same users, and lose no change of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
from drift_auth_basic.users import Users, revision
from sqlalchemy import select

from drift_core.api import Records
from drift_core.conformance import Trail, open_records

PASSWORD = "a password of some length"
KNOWN_SECONDS = 1.0
"""How soon what one node has changed has to be known to the other."""


@pytest.fixture
async def both(postgresql_url: str) -> AsyncIterator[Sequence[Records]]:
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(open_records("auth-basic", "drift_auth_basic.migrations", postgresql_url))
            for _ in range(2)
        ]


@pytest.fixture
def nodes(both: Sequence[Records]) -> Sequence[Users]:
    return [Users(records, Trail()) for records in both]


async def test_a_name_is_given_once_and_every_change_is_counted(
    nodes: Sequence[Users], both: Sequence[Records]
) -> None:
    made = await asyncio.gather(*(node.add(name, PASSWORD) for name in ("ann", "bob") for node in (*nodes, *nodes)))
    assert made.count(True) == 2
    removed = await asyncio.gather(*(node.remove("bob") for node in (*nodes, *nodes)))
    assert removed.count(True) == 1
    assert await both[0].read(lambda db: db.execute(select(revision.c.counter)).scalar_one()) == 3
    assert [user.name for user in await nodes[1].every()] == ["ann"]


async def test_who_is_disabled_at_one_is_refused_at_the_other(nodes: Sequence[Users]) -> None:
    one, other = nodes
    await one.add("ann", PASSWORD)
    assert not (await other.get()).accounts["ann"].disabled
    await one.set_disabled("ann", disabled=True)
    await asyncio.sleep(KNOWN_SECONDS)
    assert (await other.get()).accounts["ann"].disabled


async def test_logins_at_all_nodes_are_noted(nodes: Sequence[Users]) -> None:
    await nodes[0].add("ann", PASSWORD)
    await asyncio.gather(*(node.logged_in("ann") for node in (*nodes, *nodes)))
    (ann,) = await nodes[1].every()
    assert ann.last_login_at is not None
