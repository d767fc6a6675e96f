"""How often a password is tried, what is remembered of it, and what makes that forgotten."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from drift_auth_basic import passwords, remembered, verification
from drift_auth_basic.authenticator import open_basic
from drift_auth_basic.config import BasicConfig
from drift_auth_basic.remembered import Remembered
from prometheus_client import CollectorRegistry

from drift_core.api import (
    AuditEvent,
    Credentials,
    Identity,
    Secret,
    StorageFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from drift_core.conformance import Trail, services

Sent = Callable[..., Credentials]
ANN = BasicConfig(users=(Secret("ann:correct horse"),))


class Tries:
    """Counts the passwords that are really tried, and lets them wait where ``gate`` is closed."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, password: str, hashed: str) -> bool:
        self.made.append(password)
        self.gate.wait(10)
        return passwords.matches(password, hashed)


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tries]:
    tries = Tries()
    monkeypatch.setattr(verification, "matches", tries)
    yield tries
    tries.gate.set()


class Full:
    """An auditor that keeps nothing."""

    def record(self, *_: object) -> None:
        raise Unavailable("the trail is full")

    async def note(self, _: AuditEvent) -> None:
        raise Unavailable("the trail is full")


async def answer(basic: Any, credentials: Credentials) -> Any:
    try:
        return await basic.authenticate(credentials)
    except (Unauthorized, TooManyRequests, Unavailable) as error:
        return type(error)


async def test_a_hundred_layers_cost_one_hash(open_with: Any, sent: Sent, tries: Tries) -> None:
    async with open_with(ANN) as basic:
        answers = await asyncio.gather(*(answer(basic, sent("ann", "correct horse")) for _ in range(100)))
        assert answers == [Identity("ann", "basic")] * 100
        assert await answer(basic, sent("ann", "correct horse")) == Identity("ann", "basic")
        assert tries.made == ["correct horse"]
        wrong = await asyncio.gather(*(answer(basic, sent("ann", "Tr0ub4dor")) for _ in range(100)))
        assert wrong == [Unauthorized] * 100
        assert await answer(basic, sent("ann", "Tr0ub4dor")) is Unauthorized
        assert tries.made == ["correct horse", "Tr0ub4dor"]


async def test_a_client_that_leaves_takes_no_answer_from_others(open_with: Any, sent: Sent, tries: Tries) -> None:
    async with open_with(ANN) as basic:
        tries.gate.clear()
        first, second = (asyncio.create_task(answer(basic, sent("ann", "correct horse"))) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.wait([first])
        tries.gate.set()
        assert await second == Identity("ann", "basic")
        assert tries.made == ["correct horse"]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("", "x"),
        ("ann", ""),
        ("a" * 129, "x"),
        ("ann", "x" * 1025),
        ("ann", "correct horse\0"),
        ("ann\n", "correct horse"),
        ("robot$ci", "drift_x"),
    ],
)
async def test_what_nobody_can_have_is_not_tried(
    name: str, password: str, open_with: Any, sent: Sent, tries: Tries
) -> None:
    async with open_with(ANN) as basic:
        assert await answer(basic, sent(name, password)) is Unauthorized
    assert tries.made == []


async def test_what_is_remembered_ends(open_with: Any, sent: Sent, tries: Tries) -> None:
    async with open_with(BasicConfig(users=ANN.users, remember_seconds=0.3)) as basic:
        for _ in range(2):
            await answer(basic, sent("ann", "correct horse"))
        assert len(tries.made) == 1
        await asyncio.sleep(0.35)
        await answer(basic, sent("ann", "correct horse"))
        assert len(tries.made) == 2


async def test_a_change_of_the_user_ends_what_is_remembered_in_every_worker(open_with: Any, sent: Sent) -> None:
    old, new = sent("ann", "correct horse"), sent("ann", "battery staple")
    async with open_with(BasicConfig()) as here, open_with(BasicConfig()) as there:

        async def answers(credentials: Credentials) -> list[Any]:
            return [await answer(basic, credentials) for basic in (here, there)]

        assert await answers(old) == [Unauthorized] * 2
        assert await here.users.add("ann", "correct horse")
        await asyncio.sleep(0.3)
        known = [Identity("ann", "basic")] * 2
        assert await answers(old) == known
        for change, right in (
            (here.users.set_disabled("ann", disabled=True), None),
            (here.users.set_disabled("ann", disabled=False), old),
            (here.users.set_password("ann", "battery staple"), new),
            (here.users.remove("ann"), None),
            (here.users.add("ann", "battery staple"), new),
        ):
            assert await change
            await asyncio.sleep(0.3)
            for credentials in (old, new):
                assert await answers(credentials) == (known if credentials is right else [Unauthorized] * 2)


async def test_a_user_who_is_disabled_while_the_password_waits(open_with: Any, sent: Sent, tries: Tries) -> None:
    async with open_with(BasicConfig()) as basic:
        await basic.users.add("ann", "correct horse")
        tries.gate.clear()
        busy = [asyncio.create_task(answer(basic, sent("x", str(number)))) for number in range(verification.THREADS)]
        waiting = asyncio.create_task(answer(basic, sent("ann", "correct horse")))
        await asyncio.sleep(0.05)
        await basic.users.set_disabled("ann", disabled=True)
        tries.gate.set()
        assert await asyncio.gather(*busy, waiting) == [Unauthorized] * (verification.THREADS + 1)


def test_memory_is_bounded_and_wrong_ones_displace_no_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MOST", 10)
    memory, ann = Remembered(60), Identity("ann", "basic")
    keys = [memory.key(str(number)) for number in range(1000)]
    memory.keep(keys[0], ann, None, right=True)
    for key in keys[1:]:
        memory.keep(key, ann, None, right=False)
    assert memory.get(keys[0]) is not None
    assert [key for key in keys if memory.get(key) is not None] == [keys[0], *keys[-10:]]
    memory.keep(keys[-1], ann, None, right=True)
    found = memory.get(keys[-1])
    assert found is not None
    assert found.right
    assert len(memory._wrong) == 9


def test_what_is_remembered_is_no_password() -> None:
    one, other = Remembered(60), Remembered(60)
    assert one.key("Basic YTpi") == one.key("Basic YTpi") != other.key("Basic YTpi")
    assert b"YTpi" not in one.key("Basic YTpi")


async def test_guessing_ends_before_the_hash(open_with: Any, sent: Sent, tries: Tries, kept: Any) -> None:
    async with open_with(ANN) as basic:
        await basic.users.add("ben", "battery staple")
        assert await answer(basic, sent("ben", "battery staple")) == Identity("ben", "basic")
        tries.made.clear()
        for name in ("ann", "ben", "nobody"):
            guesses = [await answer(basic, sent(name, f"guess {number}")) for number in range(12)]
            assert guesses == [Unauthorized] * 10 + [TooManyRequests] * 2
        assert len(tries.made) == 30
        assert await answer(basic, sent("ann", "correct horse")) is TooManyRequests
        # Neither from elsewhere, nor where the password was right shortly before.
        assert await answer(basic, sent("ann", "correct horse", "192.0.2.2")) == Identity("ann", "basic")
        assert await answer(basic, sent("ben", "battery staple")) == Identity("ben", "basic")
    events = kept.of("SuspiciousActivity")
    assert [(event.username, event.severity, event.success) for event in events] == [
        (name, "warning", False) for name in ("ann", "ben", "nobody")
    ]
    assert "guess" not in repr(kept.events)


async def test_guesses_at_once_are_counted_too(open_with: Any, sent: Sent, tries: Tries) -> None:
    async with open_with(ANN) as basic:
        guesses = [answer(basic, sent("ann", f"guess {number}")) for number in range(100)]
        answers = await asyncio.gather(*guesses)
        assert len(tries.made) == answers.count(Unauthorized) < 10 + verification.THREADS
        assert answers.count(TooManyRequests) == 100 - len(tries.made)


async def test_the_same_wrong_password_is_one_guess(open_with: Any, sent: Sent, tries: Tries) -> None:
    """A machine that still has the old password locks nobody out."""
    async with open_with(ANN) as basic:
        assert [await answer(basic, sent("ann", "old")) for _ in range(50)] == [Unauthorized] * 50
        assert tries.made == ["old"]
        assert await answer(basic, sent("ann", "correct horse")) == Identity("ann", "basic")


async def test_who_waits_is_bounded(open_with: Any, sent: Sent, tries: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_WAITING", 5)
    async with open_with(ANN) as basic:
        tries.gate.clear()
        waiting = [asyncio.create_task(answer(basic, sent(f"user{number}", "x"))) for number in range(8)]
        await asyncio.sleep(0.1)
        tries.gate.set()
        answers = await asyncio.gather(*waiting)
        assert answers == [Unauthorized] * 5 + [TooManyRequests] * 3
        assert await answer(basic, sent("ann", "correct horse")) == Identity("ann", "basic")


async def test_the_loop_goes_on_while_passwords_are_tried(open_with: Any, sent: Sent) -> None:
    async with open_with(BasicConfig(failures_per_user=0)) as basic:
        guesses = asyncio.gather(*(answer(basic, sent("x", str(number))) for number in range(20)))
        longest, last = 0.0, time.perf_counter()
        while not guesses.done():
            await asyncio.sleep(0)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        # The 20 hashes take half a second; on a busy machine the loop itself waits for its turn.
        assert longest < 0.1


async def test_a_login_is_told_once(open_with: Any, sent: Sent, kept: Any) -> None:
    async with open_with(BasicConfig()) as basic:
        await basic.users.add("ann", "correct horse")
        for _ in range(3):
            await basic.authenticate(sent("ann", "correct horse"))
        (user,) = await basic.users.every()
    login = AuditEvent(type="Login", identity=Identity("ann", "basic"), resource_type="User", resource_id="ann")
    assert kept.of("Login") == [login]
    assert user.last_login_at is not None
    assert abs(user.last_login_at - time.time()) < 10


async def test_the_last_login_is_written_seldom(open_with: Any, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_with(BasicConfig(remember_seconds=0)) as basic:
        await basic.users.add("ann", "correct horse")
        seen = []
        for later in (0, 299, 301):
            now = 1_000_000.0 + later
            monkeypatch.setattr("drift_auth_basic.users.time.time", lambda now=now: now)
            await basic.authenticate(sent("ann", "correct horse"))
            (user,) = await basic.users.every()
            seen.append(user.last_login_at)
    assert seen == [1_000_000.0, 1_000_000.0, 1_000_301.0]


async def test_a_full_disk_keeps_nobody_out(
    open_with: Any, sent: Sent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def full(_: str) -> None:
        raise StorageFull

    async with open_with(ANN) as basic:
        monkeypatch.setattr(basic.users, "logged_in", full)
        assert await answer(basic, sent("ann", "correct horse")) == Identity("ann", "basic")
    assert "the time of a login is not kept" in capsys.readouterr().out


async def test_a_login_that_cannot_be_told_is_refused(records: Any, sent: Sent) -> None:
    async with open_basic(ANN, services(records=records, audit=Trail([Full()]))) as basic:
        for _ in range(2):
            assert await answer(basic, sent("ann", "correct horse")) is Unavailable


async def test_changes_of_users_are_told(open_with: Any, kept: Any) -> None:
    async with open_with(BasicConfig()) as basic:
        assert await basic.users.add("ann", "correct horse")
        assert not await basic.users.add("ann", "battery staple")
        assert await basic.users.set_password("ann", "battery staple")
        assert await basic.users.set_disabled("ann", disabled=True)
        assert await basic.users.set_disabled("ann", disabled=False)
        assert await basic.users.remove("ann")
        assert not await basic.users.remove("ann")
        assert not await basic.users.set_password("ann", "battery staple")
    assert [(event.type, event.resource_id, event.parameters) for event in kept.events] == [
        ("UserCreated", "ann", {}),
        ("UserModified", "ann", {"changed": "password"}),
        ("UserModified", "ann", {"changed": "disabled"}),
        ("UserModified", "ann", {"changed": "enabled"}),
        ("UserDeleted", "ann", {}),
    ]


async def test_a_change_that_cannot_be_told_is_undone(records: Any) -> None:
    async with open_basic(BasicConfig(), services(records=records, audit=Trail([Full()]))) as basic:
        with pytest.raises(Unavailable):
            await basic.users.add("ann", "correct horse")
        assert await basic.users.every() == []


async def test_metrics(records: Any, sent: Sent) -> None:
    lent = services(records=records)
    registry: CollectorRegistry = lent.metrics
    async with open_basic(ANN, lent) as basic:
        for word in ("correct horse", "correct horse", *map(str, range(12)), "0"):
            await answer(basic, sent("ann", word))
        found = {name: registry.get_sample_value(f"drift_auth_basic_{name}_total") for name in vars(basic._measures)}
    assert found == {"verifications": 11, "failures": 10, "remembered": 2, "throttled": 2}
