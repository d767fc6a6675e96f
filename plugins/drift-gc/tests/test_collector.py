"""What is this collector's own: the share that stops a run, the pace, the limit, and what it measures and says."""

from collections.abc import AsyncIterator, Sequence

import pytest
from drift_gc.collector import BATCH, OnlineCollector
from drift_gc.config import CollectorConfig
from drift_gc.measures import Measures
from drift_gc.pace import Clock
from prometheus_client import CollectorRegistry

from drift_core.api import Candidate, Denied, SupportsSchedule
from drift_core.config import ConfigError, load
from drift_core.conformance import services
from drift_core.conformance.reference.collector import MemoryContents
from drift_core.conformance.suites.collector import REPOSITORY, Roots, collected, garbage, image, name

LONG_AGO = 30 * 86400.0


class Recorded(MemoryContents):
    """Notes the batches that are removed, and how often it is asked for what is unreached."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.asked = 0
        self.bounds: list[int] = []

    async def total(self, at_most: int) -> int:
        self.bounds.append(at_most)
        return await super().total(at_most)

    def unreached(self, before: float) -> AsyncIterator[Candidate]:
        self.asked += 1
        return super().unreached(before)

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        self.batches.append(len(candidates))
        return await super().remove(candidates)


class Watch:
    """Time that goes by only where somebody sleeps, and by ``work`` seconds with each look at it."""

    def __init__(self, work: float = 0.0) -> None:
        self.time = 0.0
        self.work = work
        self.pauses: list[float] = []

    def now(self) -> float:
        self.time += self.work
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def opened(watch: Watch | None = None, metrics: CollectorRegistry | None = None, **keys: object) -> OnlineCollector:
    watch = watch or Watch()
    config = CollectorConfig(**keys)  # type: ignore[arg-type]
    lent = services("gc")
    return OnlineCollector(config, Measures(metrics or lent.metrics), lent.log, Clock(watch.now, watch.sleep))


def filled(kept: int, unreached: int) -> Recorded:
    """Returns contents of which a part is reached by tags."""
    contents = Recorded()
    for number in range(kept):
        contents.push(REPOSITORY, name(f"kept {number}"), 1, "manifest")
        contents.tag(REPOSITORY, f"tag-{number}", name(f"kept {number}"))
    garbage(contents, unreached, ago=LONG_AGO)
    return contents


async def test_too_large_a_share_removes_nothing() -> None:
    contents, metrics = filled(kept=29, unreached=11), CollectorRegistry()
    collector = opened(metrics=metrics, max_share=0.25, min_removals=11)
    with pytest.raises(Denied, match=r"11 of 40 .*max_share = 0\.25.*drift gc run --dry-run"):
        await collected(collector, contents)
    assert len(contents.items) == 40
    assert contents.batches == []
    assert metrics.get_sample_value("drift_gc_refused_runs_total") == 1


async def test_no_more_is_said_to_go_than_the_limit() -> None:
    with pytest.raises(Denied, match="12 of 40"):
        await collected(opened(min_removals=0, max_blobs_per_run=12), filled(kept=0, unreached=40))


@pytest.mark.parametrize(
    ("kept", "unreached", "min_removals"), [(30, 10, 0), (29, 11, 12)], ids=["just the share", "too few to matter"]
)
async def test_a_smaller_share_is_removed(kept: int, unreached: int, min_removals: int) -> None:
    contents = filled(kept, unreached)
    report = await collected(opened(max_share=0.25, min_removals=min_removals), contents)
    assert (len(report), len(contents.items)) == (unreached, kept)


async def test_the_share_is_of_what_the_run_would_remove() -> None:
    """Neither what the limit leaves for later runs counts, nor what a feature keeps."""
    contents = filled(kept=10, unreached=30)
    assert len(await collected(opened(max_share=0.25, min_removals=0, max_blobs_per_run=10), contents)) == 10
    contents = filled(kept=10, unreached=30)
    needed = [name(f"garbage {number}") for number in range(20)]
    assert len(await collected(opened(max_share=0.25, min_removals=0), contents, Roots(*needed))) == 10


async def test_nothing_is_counted_where_the_limit_is_within_the_share() -> None:
    contents = filled(kept=10, unreached=30)
    await collected(opened(max_share=0.25, min_removals=0, max_blobs_per_run=10), contents)
    assert contents.asked == 1


async def test_all_there_is_is_counted_no_further_than_it_decides() -> None:
    contents = filled(kept=200, unreached=30)
    assert len(await collected(opened(max_share=0.25, min_removals=0, max_blobs_per_run=10), contents)) == 10
    assert contents.bounds == [41]


async def test_a_dry_run_shows_what_is_too_large_a_share() -> None:
    contents, metrics = filled(kept=0, unreached=120), CollectorRegistry()
    report = await collected(opened(metrics=metrics), contents, dry_run=True)
    assert (len(report), len(contents.items)) == (120, 120)
    assert metrics.get_sample_value("drift_gc_refused_runs_total") == 0


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_run_ends_at_its_limit(dry_run: bool) -> None:
    contents = filled(kept=0, unreached=130)
    collector = opened(max_blobs_per_run=70, max_share=1.0)
    assert len(await collected(collector, contents, dry_run=dry_run)) == 70
    assert len(contents.items) == (130 if dry_run else 60)


async def test_what_stays_does_not_use_up_the_limit() -> None:
    contents = filled(kept=0, unreached=30)
    first = sorted(contents.items, key=lambda place: str(place.digest))[:5]

    class Refusing(Recorded):
        async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
            return await super().remove([one for one in candidates if one.digest not in {p.digest for p in first}])

    contents.__class__ = Refusing
    collector = opened(max_blobs_per_run=10, max_share=1.0, removals_per_second=3)
    assert len(await collected(collector, contents)) == 10


async def test_removals_go_in_batches_at_the_pace() -> None:
    contents, watch = filled(kept=0, unreached=2 * BATCH + 2), Watch()
    await collected(opened(watch, max_share=1.0, removals_per_second=200), contents)
    assert contents.batches == [BATCH, BATCH, 2]
    assert watch.pauses == [BATCH / 200, BATCH / 200]


async def test_a_slow_pace_makes_small_batches() -> None:
    contents, watch = filled(kept=0, unreached=3), Watch()
    await collected(opened(watch, max_share=1.0, removals_per_second=0.5), contents)
    assert contents.batches == [1, 1, 1]
    assert watch.pauses == [2.0, 2.0]


async def test_time_that_removals_took_is_no_pause() -> None:
    contents, watch = filled(kept=0, unreached=120), Watch(work=1.0)
    await collected(opened(watch, max_share=1.0), contents)
    assert watch.pauses == []


async def test_no_pace_is_no_pause() -> None:
    contents, watch = filled(kept=0, unreached=120), Watch()
    await collected(opened(watch, max_share=1.0, removals_per_second=0), contents)
    assert watch.pauses == []
    assert not contents.items


async def test_what_is_removed_is_measured_and_explained() -> None:
    contents, metrics = Recorded(), CollectorRegistry()
    image(contents)
    report = await collected(opened(metrics=metrics, grace_period_hours=1), contents)
    assert {(one.kind, one.repository, one.reason) for one in report} == {
        ("manifest", REPOSITORY, "no tag, index or subject reaches it"),
        ("blob", REPOSITORY, "no manifest needs it"),
    }


def test_the_schedule_is_that_of_the_configuration() -> None:
    collector = opened(interval_hours=0.5, dry_run=True, dry_first=False)
    assert isinstance(collector, SupportsSchedule)
    assert (collector.interval, collector.dry_run, collector.dry_first) == (1800, True, False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("interval_hours", 0),
        ("grace_period_hours", -1),
        ("max_blobs_per_run", 0),
        ("max_share", 0),
        ("max_share", 1.1),
        ("min_removals", -1),
        ("removals_per_second", -1),
        ("dry_run", "yes"),
        ("grace_hours", 1),
    ],
)
def test_a_bad_value_is_refused_by_its_path(key: str, value: object) -> None:
    config = load({"garbage_collector": {key: value}}, {}, ())
    with pytest.raises(ConfigError) as refused:
        config.section("garbage_collector", CollectorConfig)
    assert refused.value.path == f"garbage_collector.{key}"
