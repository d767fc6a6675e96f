"""Pulls are written once in an hour, by the hour, never wait, and begin anew where some were not recorded."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
import structlog
from drift_retention import recording
from drift_retention.ages import DAY, HOUR
from drift_retention.conditions import Pulls
from drift_retention.ledger import GAP_SECONDS, expire, forget, pulls_of, sign, write_pulls
from drift_retention.measures import Measures
from drift_retention.recording import Recorder
from prometheus_client import CollectorRegistry

from drift_core.api import Change, Digest, Identity, Records, Unavailable

from .conftest import OpenRetention

T = TypeVar("T")
ONE, OTHER = Digest.of(b"1"), Digest.of(b"2")


class Counting:
    """Records that count their changes, and fail where they are told to."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.writes = 0
        self.failing = False
        self.before_write: Callable[[], None] = lambda: None

    async def write(self, change: Callable[[Any], T], *, concurrent: bool = False) -> T:
        self.before_write()
        if self.failing:
            raise Unavailable("the database does not answer")
        self.writes += 1
        return await self._records.write(change, concurrent=concurrent)


@pytest.fixture
def counting(records: Records) -> Counting:
    return Counting(records)


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def recorder(counting: Any, metrics: CollectorRegistry) -> Recorder:
    return Recorder(counting, Measures(metrics), structlog.get_logger("test"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Returns a function that sets the clock to seconds since the epoch; it stands still."""
    now = 1_800_000_000.0

    def set_clock(moment: float) -> None:
        nonlocal now
        now = moment

    monkeypatch.setattr(time, "time", lambda: now)
    return set_clock


NOW = 1_800_000_000.0


async def known(records: Records, repository: str = "app") -> Pulls:
    return await records.read(partial(pulls_of, repository=repository))


def hour_of(moment: float) -> float:
    return (moment // HOUR + 1) * HOUR


async def test_a_pull_counts_for_its_tag_and_its_digest(
    recorder: Recorder, records: Records, clock: Callable[[float], None]
) -> None:
    clock(NOW)
    recorder.note("app", ONE, ("v1",))
    recorder.note("app", OTHER, ())
    recorder.note("team/app", ONE, ("v2",))
    assert (await known(records)).at == {}
    await recorder.flush()
    hour = hour_of(NOW)
    assert await known(records) == Pulls(NOW, {"v1": hour, ONE: hour, OTHER: hour})
    assert (await known(records, "team/app")).at == {"v2": hour, ONE: hour}


async def test_what_is_pulled_often_is_written_once_in_an_hour(
    recorder: Recorder, counting: Counting, records: Records, clock: Callable[[float], None]
) -> None:
    clock(NOW)
    for _ in range(3):
        recorder.note("app", ONE, ("v1",))
        await recorder.flush()
    assert counting.writes == 2  # that it records, and the pulls
    clock(NOW + HOUR)
    recorder.note("app", ONE, ())
    await recorder.flush()
    assert counting.writes == 4
    assert (await known(records)).at == {"v1": hour_of(NOW), ONE: hour_of(NOW + HOUR)}


async def test_an_earlier_pull_of_another_node_changes_nothing(records: Records) -> None:
    later = {("app", "v1"): 7200, ("app", "v2"): 3600}
    await records.write(partial(write_pulls, noted=later))
    await records.write(partial(write_pulls, noted={("app", "v1"): 3600, ("app", "v2"): 7200}))
    assert (await known(records)).at == {"v1": 7200, "v2": 7200}


async def test_what_cannot_be_written_stays_noted(
    recorder: Recorder, counting: Counting, records: Records, clock: Callable[[float], None]
) -> None:
    clock(NOW)
    await recorder.flush()
    recorder.note("app", ONE, ("v1",))
    counting.failing = True
    await recorder.flush()
    assert (await known(records)).at == {}
    counting.failing = False
    await recorder.flush()
    assert (await known(records)).at.keys() == {"v1", ONE}


async def test_a_pull_in_the_next_hour_while_the_last_is_written_is_not_lost(
    recorder: Recorder, counting: Counting, records: Records, clock: Callable[[float], None]
) -> None:
    clock(NOW)
    await recorder.flush()
    recorder.note("app", ONE, ())

    def pull() -> None:
        clock(NOW + HOUR)
        recorder.note("app", ONE, ())

    counting.before_write = pull
    await recorder.flush()
    assert (await known(records)).at == {ONE: hour_of(NOW + HOUR)}


async def test_memory_is_bounded_and_what_is_lost_begins_recording_anew(
    recorder: Recorder,
    counting: Counting,
    records: Records,
    clock: Callable[[float], None],
    metrics: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "MOST_NOTED", 10)
    clock(NOW)
    await recorder.flush()
    counting.failing = True
    for number in range(50):
        recorder.note("app", Digest.of(b"%d" % number), ())
    assert len(recorder._noted) == 10
    assert metrics.get_sample_value("drift_retention_lost_pulls_total") == 40
    clock(NOW + 60)
    await recorder.flush()
    counting.failing = False
    await recorder.flush()
    assert (await known(records)).since == NOW + 60
    clock(NOW + 2 * HOUR)
    await recorder.flush()
    assert (await known(records)).since == NOW + 60
    assert len((await known(records)).at) == 10


@pytest.mark.parametrize(("gap", "anew"), [(GAP_SECONDS - 1, False), (GAP_SECONDS + 1, True)])
async def test_recording_begins_anew_where_nobody_recorded_for_long(records: Records, gap: float, anew: bool) -> None:
    assert await records.write(partial(sign, now=NOW, lost=False)) == NOW
    assert await records.write(partial(sign, now=NOW + HOUR, lost=False)) == NOW
    later = NOW + HOUR + gap
    assert await records.write(partial(sign, now=later, lost=False)) == (later if anew else NOW)


async def test_only_what_no_tag_has_and_nobody_pulls_is_forgotten(records: Records) -> None:
    noted = {("app", "gone"): 7200, ("app", "young"): 90_000, ("app", "v1"): 7200, ("other", "gone"): 7200}
    await records.write(partial(write_pulls, noted=noted))
    await records.write(partial(forget, repository="app", names=["gone", "young"], before=10_000.0))
    assert (await known(records)).at.keys() == {"young", "v1"}
    assert (await known(records, "other")).at.keys() == {"gone"}


async def test_what_is_too_old_is_forgotten(records: Records) -> None:
    await records.write(partial(write_pulls, noted={("app", "old"): 7200, ("app", "v1"): 10_800}))
    assert await records.write(partial(expire, before=10_800.0)) == 1
    assert (await known(records)).at == {"v1": 10_800}
    assert await records.write(partial(expire, before=10_800.0)) == 0


async def test_the_feature_notes_pulls_and_writes_them_when_it_is_closed(
    open_feature: OpenRetention, records: Records
) -> None:
    async with open_feature(keep=[{"pulled_within": "30d"}]) as retention:
        assert list(retention.gated) == ["manifest.pull"]
        await retention.admit(Change(action="manifest.pull", repository="app", digest=ONE, tags=("v1",)))
        reader = Identity("optimize", "plugin")
        await retention.admit(Change(action="manifest.pull", repository="app", digest=OTHER, identity=reader))
    found = await known(records)
    assert found.at.keys() == {"v1", ONE}
    assert found.since is not None
    assert abs(found.since - time.time()) < DAY


async def test_without_such_a_rule_no_pull_is_gated(open_feature: OpenRetention, records: Records) -> None:
    async with open_feature(keep=[{"newest": 3}]) as retention:
        assert list(retention.gated) == []
    assert (await known(records)).since is None
