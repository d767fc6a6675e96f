"""What is damaged or lost is put in quarantine, and nothing else: not what is silent, removed or pushed again."""

from typing import Any

import pytest
import structlog
from drift_scrub.measures import Measures
from drift_scrub.walking import ATTEMPTS, MOST_LOST, RETRY_SECONDS, Checked, Walk
from prometheus_client import CollectorRegistry

from drift_core.api import Digest, Pace, Unavailable
from drift_core.conformance import MemoryAuditor, Trail

from .conftest import Shelf

LARGE = bytes(range(256)) * 2000
CONTENTS = (b"", b"a", b"bc" * 1000, LARGE, b"d")


class Walker:
    """Walks over a shelf, and remembers what it slept, in seconds, and told."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.slept: list[float] = []
        self.trail = MemoryAuditor()
        self.metrics = CollectorRegistry()
        registry: Any = shelf
        pace = Pace(0, lambda: 0.0, self.sleep)
        log = structlog.get_logger("test")
        self.walk = Walk(registry, pace, Measures(self.metrics), Trail([self.trail]), log, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def run(self, after: Digest | None = None) -> dict[Digest, Checked]:
        found = [checked async for checked in self.walk.run(after)]
        assert [one.digest for one in found] == sorted(one.digest for one in found)
        return {one.digest: one for one in found}

    def measured(self, name: str) -> float | None:
        return self.metrics.get_sample_value(f"drift_scrub_{name}_total")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(*CONTENTS)


@pytest.fixture
def walker(shelf: Shelf) -> Walker:
    return Walker(shelf)


async def test_whole_blobs(shelf: Shelf, walker: Walker) -> None:
    found = await walker.run()
    assert {digest: one.outcome for digest, one in found.items()} == dict.fromkeys(shelf.digests, "whole")
    assert shelf.reads == shelf.digests
    assert shelf.quarantine_reasons == {}
    assert walker.measured("read_bytes") == sum(map(len, CONTENTS))
    assert walker.measured("checked_blobs") == len(CONTENTS)


async def test_only_what_is_behind_is_read(shelf: Shelf, walker: Walker) -> None:
    first, second, *rest = shelf.digests
    assert list(await walker.run(second)) == rest
    assert first not in shelf.reads


@pytest.mark.parametrize(
    "damaged",
    [LARGE[:-1], LARGE + b"x", LARGE[:300_000] + b"\xff" + LARGE[300_001:], b"", LARGE[:100_000]],
    ids=["cut short", "longer", "flipped", "empty", "a chunk"],
)
async def test_wrong_bytes(shelf: Shelf, walker: Walker, damaged: bytes) -> None:
    digest = Digest.of(LARGE)
    shelf.stored[digest] = damaged
    found = await walker.run()
    assert [one.digest for one in found.values() if one.outcome != "whole"] == [digest]
    assert found[digest].outcome == "damaged"
    assert list(shelf.quarantine_reasons) == [digest]
    assert f"{len(damaged)} bytes with the digest {Digest.of(damaged)}" in shelf.quarantine_reasons[digest]
    assert shelf.reads.count(digest) == 2
    (event,) = walker.trail.of("BlobQuarantined")
    assert (event.resource_id, event.size, event.reason) == (digest, len(LARGE), shelf.quarantine_reasons[digest])
    assert walker.measured("damaged_blobs") == 1


@pytest.mark.parametrize("place", range(len(CONTENTS)))
async def test_a_missing_blob(shelf: Shelf, walker: Walker, place: int) -> None:
    digest = shelf.digests[place]
    del shelf.stored[digest]
    found = await walker.run()
    assert list(found) == shelf.digests
    assert shelf.quarantine_reasons == {digest: "the store does not have it"}


async def test_an_empty_store_is_the_wrong_one(shelf: Shelf, walker: Walker) -> None:
    shelf.stored.clear()
    with pytest.raises(Unavailable, match="none of 5 blobs"):
        await walker.run()
    assert shelf.quarantine_reasons == {}
    assert walker.trail.events == []


async def test_an_empty_store_is_not_asked_for_everything() -> None:
    shelf = Shelf(*(b"%d" % number for number in range(MOST_LOST + 10)))
    shelf.stored.clear()
    with pytest.raises(Unavailable, match=f"none of {MOST_LOST} blobs"):
        await Walker(shelf).run()
    assert len(set(shelf.reads)) == MOST_LOST


async def test_a_silent_store_is_asked_again(shelf: Shelf, walker: Walker) -> None:
    digest = shelf.digests[1]
    shelf.silent[digest] = ATTEMPTS - 1
    found = await walker.run()
    assert {one.outcome for one in found.values()} == {"whole"}
    assert walker.slept == [RETRY_SECONDS] * (ATTEMPTS - 1)


async def test_what_cannot_be_read_is_never_put_in_quarantine(shelf: Shelf, walker: Walker) -> None:
    digest = shelf.digests[1]
    shelf.silent[digest] = 1000
    found = await walker.run()
    assert {one.digest for one in found.values() if one.outcome == "unreadable"} == {digest}
    assert found[digest].reason == "the store does not answer: a test"
    assert list(found) == shelf.digests
    assert shelf.quarantine_reasons == {}
    assert walker.measured("unreadable_blobs") == 1


async def test_all_silent(shelf: Shelf, walker: Walker) -> None:
    shelf.silent = dict.fromkeys(shelf.digests, 1000)
    found = await walker.run()
    assert {one.outcome for one in found.values()} == {"unreadable"}
    assert shelf.quarantine_reasons == {}


async def test_silence_after_damage_is_no_damage(shelf: Shelf, walker: Walker) -> None:
    """Damaged when it was read, and then nobody could tell."""
    digest = Digest.of(LARGE)
    shelf.stored[digest] = b"other"

    def fail_later(read: Digest) -> None:
        if read == digest and shelf.reads.count(digest) > 1:
            shelf.silent[digest] = 1

    shelf.before_read = fail_later
    assert (await walker.run())[digest].outcome == "unreadable"
    assert shelf.quarantine_reasons == {}


async def test_a_blob_that_is_removed_while_it_is_read_is_not_put_in_quarantine(shelf: Shelf, walker: Walker) -> None:
    gone = shelf.digests[2]

    def remove(read: Digest) -> None:
        if read == gone:
            shelf.stored.pop(gone, None)
            shelf.recorded.pop(gone, None)

    shelf.before_read = remove
    found = await walker.run()
    assert found[gone].outcome == "gone"
    assert shelf.quarantine_reasons == {}
    assert walker.trail.events == []


async def test_a_blob_that_is_pushed_again_while_it_is_read_is_whole(shelf: Shelf, walker: Walker) -> None:
    digest = Digest.of(LARGE)
    shelf.stored[digest] = LARGE[:-1]

    def push(read: Digest) -> None:
        if shelf.reads.count(digest) > 1:
            shelf.stored[read] = next(content for content in CONTENTS if Digest.of(content) == read)

    shelf.before_read = push
    assert (await walker.run())[digest].outcome == "whole"
    assert shelf.quarantine_reasons == {}


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
async def test_every_algorithm(algorithm: str) -> None:
    shelf = Shelf(b"x")
    for content in (LARGE, b"y"):
        digest = Digest.of(content, algorithm)
        shelf.stored[digest], shelf.recorded[digest] = content, len(content)
    assert {one.outcome for one in (await Walker(shelf).run()).values()} == {"whole"}
    shelf.stored[Digest.of(LARGE, algorithm)] = b"z"
    await Walker(shelf).run()
    assert list(shelf.quarantine_reasons) == [Digest.of(LARGE, algorithm)]
