"""Which accounts are kept, for whoever has given out something for them: at once, in every worker, without a query."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from drift_auth_basic.authenticator import BasicAuthenticator, open_basic
from drift_auth_basic.config import BasicConfig

from drift_core.api import Owner, Records, Secret
from drift_core.conformance import Trail, services

T = TypeVar("T")

PASSWORD = "correct horse"
ANN = BasicConfig(users=(Secret(f"ann:{PASSWORD}"),))


class Counted:
    """Records, and how often they are read."""

    def __init__(self, records: Records) -> None:
        self.reads = 0
        self._records = records

    async def read(self, query: Callable[[Any], T]) -> T:
        self.reads += 1
        return await self._records.read(query)

    async def write(self, change: Callable[[Any], T], *, concurrent: bool = False) -> T:
        return await self._records.write(change, concurrent=concurrent)

    def version(self) -> bytes:
        return self._records.version()


def owner(name: str, source: str | None = "basic", since: float | None = None) -> Owner:
    return Owner(name, source, time.time() if since is None else since)


async def kept(basic: BasicAuthenticator, name: str, since: float | None = None) -> tuple[bool | None, bool | None]:
    """Returns what is said of somebody who was known here, and of a name alone."""
    return await basic.keeps(owner(name, "basic", since)), await basic.keeps(owner(name, None, since))


async def test_who_is_kept(open_with: Any) -> None:
    async with open_with(ANN) as basic:
        assert await kept(basic, "ann") == (True, True)
        assert await kept(basic, "ben") == (False, None)
        await basic.users.add("ben", PASSWORD)
        assert await kept(basic, "ben") == (True, True)
        # What was given to a name before there was a user who has it is the user's.
        assert await kept(basic, "ben", 0.0) == (True, True)
        await basic.users.set_disabled("ben", disabled=True)
        assert await kept(basic, "ben") == (False, False)
        for source in ("github", "certificate", ""):
            assert await basic.keeps(owner("ben", source)) is None
            assert await basic.keeps(owner("ann", source)) is None


async def test_a_name_that_was_somebody_else_s(open_with: Any) -> None:
    async with open_with(ANN) as basic:
        for _ in range(2):
            await basic.users.add("ben", PASSWORD)
            before = time.time()
            assert await kept(basic, "ben", before) == (True, True)
            await basic.users.remove("ben")
            assert await kept(basic, "ben", before) == (False, False)
            assert await kept(basic, "ben") == (False, None)
            await basic.users.add("ben", PASSWORD)
            assert await kept(basic, "ben", before) == (False, False)
            assert await kept(basic, "ben") == (True, True)
            await basic.users.remove("ben")
        # Also where the next one is of the configuration: nobody knows whose the older tokens are.
        await basic.users.add("ann", PASSWORD)
        before = time.time()
        await basic.users.remove("ann")
        assert await kept(basic, "ann", before) == (False, False)
        assert await kept(basic, "ann") == (True, True)


async def test_what_one_worker_changes_the_others_know_without_a_query_each(records: Records) -> None:
    counted = Counted(records)
    lent = [services("auth-basic", records=one, audit=Trail()) for one in (records, counted)]
    async with open_basic(BasicConfig(), lent[0]) as here, open_basic(BasicConfig(), lent[1]) as there:
        await here.users.add("ann", PASSWORD)
        await asyncio.sleep(0.3)
        assert await there.keeps(owner("ann")) is True
        counted.reads = 0
        for _ in range(1000):
            assert await there.keeps(owner("ann")) is True
        assert counted.reads <= 1
        await here.users.set_disabled("ann", disabled=True)
        await asyncio.sleep(0.3)
        assert await there.keeps(owner("ann")) is False
        assert counted.reads <= 2


@pytest.mark.parametrize("since", [0.0, 1e12])
async def test_nobody_is_kept_by_another_time(open_with: Any, since: float) -> None:
    async with open_with(BasicConfig()) as basic:
        assert await kept(basic, "nobody", since) == (False, None)
