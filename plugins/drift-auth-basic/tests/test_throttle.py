"""How often one may guess, by a clock that the test moves."""

import pytest
from drift_auth_basic import tally
from drift_auth_basic.tally import Tally
from drift_auth_basic.throttle import Throttle, network_of

from drift_core.api import TooManyRequests


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(clock: Clock, per_user: int = 3, per_address: int = 5) -> Throttle:
    return Throttle(Tally(), per_user, per_address, 60.0, clock)


def wait(one: Throttle, name: str, address: str) -> int:
    """Returns for how many seconds nothing is tried."""
    try:
        one.admit(name, address)
    except TooManyRequests as error:
        return error.retry_after
    return 0


def test_a_user_from_an_address(clock: Clock) -> None:
    one = made(clock)
    assert [one.failed("ann", "a") for _ in range(3)] == [False, False, True]
    clock.now += 10.5
    assert wait(one, "ann", "a") == 50
    assert wait(one, "ann", "b") == 0, "nobody is locked out from elsewhere"
    assert wait(one, "ben", "a") == 0
    clock.now += 49.5
    assert wait(one, "ann", "a") == 0
    assert not one.failed("ann", "a"), "the count begins anew"


def test_an_address_for_any_user(clock: Clock) -> None:
    one = made(clock)
    assert [one.failed(f"user{number}", "a") for number in range(5)] == [False] * 4 + [True]
    assert wait(one, "ann", "a") == 60
    assert wait(one, "ann", "b") == 0


def test_a_right_password_ends_the_count_of_the_user_alone(clock: Clock) -> None:
    one = made(clock)
    for _ in range(2):
        one.failed("ann", "a")
        one.failed("ann", "b")
    one.succeeded("ann", "a")
    assert not one.failed("ann", "a")
    assert one.failed("ann", "b")
    # Whoever has an account could go on guessing otherwise.
    assert not one.failed("ben", "a")
    one.succeeded("mallory", "a")
    assert one.failed("ben", "a")


def test_no_limit(clock: Clock) -> None:
    one = made(clock, 0, 0)
    assert not any(one.failed("ann", "a") for _ in range(1000))
    assert wait(one, "ann", "a") == 0


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "ENTRIES", 16)
    one = made(clock, per_user=1, per_address=0)
    for number in range(1000):
        clock.now += 0.001
        one.failed(f"user{number}", "a")
    # Where all places are in use, the oldest is given up for the newest.
    assert wait(one, "user999", "a") == 60
    assert 8 <= sum(wait(one, f"user{number}", "a") > 0 for number in range(1000)) <= 16
    clock.now += 61
    assert not any(wait(one, f"user{number}", "a") for number in range(1000)), "what is over is forgotten"
    one.failed("ann", "a")
    assert wait(one, "ann", "a") == 60


def test_workers_count_together(clock: Clock) -> None:
    shared = Tally()
    workers = [Throttle(shared, 3, 5, 60.0, clock) for _ in range(4)]
    assert [one.failed("ann", "a") for one in workers] == [False, False, True, False]
    assert [wait(one, "ann", "a") for one in workers] == [60] * 4
    workers[3].succeeded("ann", "a")
    assert [wait(one, "ann", "a") for one in workers] == [0] * 4


def test_names_do_not_share_a_count(clock: Clock) -> None:
    one = made(clock, per_user=1, per_address=0)
    one.failed("ann", "a")
    assert wait(one, "ann", "a") == 60
    for name, address in (("ben", "a"), ("ann", "b"), ("", "a"), ("a", "ann"), ("\udcff", "a")):
        assert wait(one, name, address) == 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_client_has_a_whole_network(address: str, network: str) -> None:
    assert network_of(address) == network
