"""The feature refuses what it should, and nothing else."""

from collections.abc import AsyncIterator

import pytest
from drift_core.api import Change, Denied, Gate, Subscriber, SupportsRoutes
from drift_core.conformance import services

from ${module}.config import ${prefix}Config
from ${module}.feature import ${prefix}, open_feature

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Drift runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def feature() -> AsyncIterator[${prefix}]:
    """The feature as the server opens it."""
    async with open_feature(${prefix}Config(("legacy/*",)), services()) as feature:
        yield feature


async def test_it_is_what_it_wants_to_be(feature: ${prefix}) -> None:
    assert isinstance(feature, Gate)
    assert isinstance(feature, Subscriber)
    assert isinstance(feature, SupportsRoutes)


async def test_a_frozen_repository_stays_as_it_is(feature: ${prefix}) -> None:
    await feature.admit(Change(action="manifest.push", repository="app"))
    with pytest.raises(Denied, match="frozen"):
        await feature.admit(Change(action="manifest.push", repository="legacy/app"))
