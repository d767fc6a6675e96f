"""The rate is kept, whatever the chunks are; a clock of the test's own says when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift_core.pace import BURST_SECONDS, Pace


class Clock:
    """Time that passes only while somebody sleeps, or when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


async def test_what_is_taken_takes_its_time() -> None:
    clock = Clock()
    pace = Pace(100, clock, clock.sleep)
    for _ in range(10):
        await pace.take(50)
    assert clock.now == pytest.approx(1005)


async def test_a_rest_is_caught_up_with_for_one_burst() -> None:
    clock = Clock()
    pace = Pace(100, clock, clock.sleep)
    clock.now += 3600
    await pace.take(int(100 * BURST_SECONDS))
    assert clock.now == 4600
    await pace.take(1000)
    assert clock.now == pytest.approx(4610)


async def test_no_limit_never_sleeps() -> None:
    clock = Clock()
    pace = Pace(0, clock, clock.sleep)
    await pace.take(1 << 60)
    assert clock.now == 1000


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 10_000)), min_size=1, max_size=20))
def test_never_more_than_the_rate_and_a_burst(steps: list[tuple[float, int]]) -> None:
    clock, taken = Clock(), 0
    pace = Pace(1000, clock, clock.sleep)
    for pause, size in steps:
        clock.now += pause
        taking = pace.take(size)
        with pytest.raises(StopIteration):
            taking.send(None)
        taken += size
        assert taken <= 1000 * (clock.now - 1000 + BURST_SECONDS) + 1e-3
