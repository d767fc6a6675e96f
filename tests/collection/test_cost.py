"""What a collection costs grows with what it removes, not with what the registry holds: by SQLite's own count."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.collection_cost import Counters, Stocked, remove
from benchmarks.stock import OWN_BLOBS

FEW, MANY = 2_000, 40_000
"""Blobs that are kept."""

IMAGES = 60
"""Images that are removed with their own blobs, or as many blobs that no image has."""

MOST = 1.3
"""How many times as much it may cost in the large registry."""


async def costs(folder: Path, kept: int, *, images: bool, one_repository: bool) -> tuple[int, int]:
    """Returns the statements, and the instructions of SQLite's machine, of one collection."""
    stocked = Stocked(folder, f"sqlite:///{folder / 'drift.db'}", kept, one_repository=one_repository)
    count = stocked.waste(IMAGES * OWN_BLOBS, images=images)
    counters = Counters()
    async with AsyncExitStack() as stack:
        stack.enter_context(counters.watching(1))
        runtime = await stack.enter_async_context(stocked.open())
        counters.statements = counters.steps = 0
        await remove(runtime, count)
    return counters.statements, counters.steps


@pytest.mark.parametrize("one_repository", [False, True], ids=["many-repositories", "one-base-layer"])
@pytest.mark.parametrize("images", [True, False], ids=["images", "loose-blobs"])
async def test_a_collection_costs_as_much_as_it_removes(tmp_path: Path, images: bool, one_repository: bool) -> None:
    few = await costs(tmp_path / "few", FEW, images=images, one_repository=one_repository)
    many = await costs(tmp_path / "many", MANY, images=images, one_repository=one_repository)
    assert min(few) > IMAGES, few
    assert max(large / small for large, small in zip(many, few, strict=True)) <= MOST, (few, many)
