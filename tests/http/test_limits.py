"""How often somebody may ask: each identity, each address, and logins apart; on all workers together."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_core.address import network_of
from drift_core.config import RegistryConfig
from drift_core.conformance import MemoryAuditor
from drift_core.errors import TooManyRequests, Unauthorized
from drift_core.guard import Guard
from drift_core.http.limits import PROBED, Accounts, Limits
from drift_core.model import Identity, Scope
from drift_core.protocols.access import Credentials
from drift_core.trail import Trail
from tests.plugins.installation import Installation
from tests.server import Server

LOGIN = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Identity, Struct, Unauthorized, Verdict, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Switched(Config):
    enabled: bool = False

class Login:
    async def authenticate(self, credentials):
        name = credentials.authorization
        if name == "bad":
            raise Unauthorized
        return name and Identity(name, "key")
    def challenge(self, scopes):
        return "Key"
    def routes(self):
        from litestar import get
        @get("/login", public=True)
        async def login() -> str:
            return "who are you?"
        return [login]

class Everybody:
    async def decide(self, identity, scopes):
        return [Verdict(scope.action == "pull") for scope in scopes]

@asynccontextmanager
async def open_login(config, services):
    yield Login()

@asynccontextmanager
async def open_policy(config, services):
    yield Everybody()

@hookimpl
def drift_authn():
    return [Driver("key", Config, open_login)]

@hookimpl
def drift_authz():
    return [Driver("everybody", Switched, open_policy)]
"""


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 50)), max_size=60),
    st.integers(1, 5),
    st.floats(0.5, 20),
)
@settings(deadline=None)
def test_an_account_is_a_bucket_that_fills_steadily(
    asked: list[tuple[str, float]], burst: int, interval: float
) -> None:
    """Against the other description of the same: a bucket of ``burst`` that gains one in each interval."""
    accounts, now = Accounts(), 1000.0
    buckets = dict.fromkeys("ab", (float(burst), now))
    for name, pause in asked:
        now += pause
        level, before = buckets[name]
        level = min(burst, level + (now - before) / interval)
        wait = accounts.spend(name, interval, burst, now)
        if abs(level - 1) > 1e-6:
            assert (wait == 0) == (level >= 1)
        if wait:
            assert math.isclose(wait, (1 - level) * interval, abs_tol=1e-3)
        buckets[name] = (level if wait else level - 1, now)


def test_accounts_that_meet_in_one_place_are_still_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_core.http.limits.ENTRIES", PROBED)
    accounts = Accounts()
    names = [str(number) for number in range(PROBED)]
    assert [accounts.spend(name, 60, 1, 1000.0) for name in names] == [0] * PROBED
    assert all(accounts.spend(name, 60, 1, 1001.0) for name in names)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix", "unix"),
    ],
)
def test_who_has_a_network_has_one_account(address: str, expected: str) -> None:
    assert network_of(address) == expected


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    installation = Installation(tmp_path / "site")
    installation.add("acme-login", {"login": "acme_login"}, {"acme_login": LOGIN})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    limits = {"rate_limit_per_hour": 12, "anonymous_rate_limit_per_hour": 8, "login_rate_limit_per_hour": 4}
    rules = [f"registry.{key}={value}" for key, value in limits.items()]
    with Server(tmp_path / "server", "auth.mode=key", "everybody.enabled=true", *rules, workers=2) as server:
        yield server.url


def ask(url: str, path: str, key: str | None = None) -> httpx.Response:
    """Each time by a new connection, so that either worker answers."""
    return httpx.get(f"{url}{path}", headers={} if key is None else {"authorization": key})


def test_each_has_an_account_on_all_workers_together(url: str) -> None:
    pull = "/v2/a/manifests/b"
    assert [ask(url, pull, "alice").status_code for _ in range(14)] == [404] * 12 + [429] * 2
    assert [ask(url, pull, "bob").status_code for _ in range(13)] == [404] * 12 + [429]
    assert [ask(url, pull).status_code for _ in range(9)] == [404] * 8 + [429]
    assert [ask(url, "/login").status_code for _ in range(5)] == [200] * 4 + [429]
    # Who is refused for another reason pays with the address.
    assert ask(url, "/v2/", "bad").status_code == 429
    assert ask(url, "/health").status_code == 200


def test_who_is_only_told_to_log_in_may_ask_again(url: str) -> None:
    """Every client begins like that; whoever shares its address must not keep it from logging in."""
    assert {ask(url, "/v2/").status_code for _ in range(20)} == {401}
    assert ask(url, "/v2/", "alice").status_code == 200


async def test_who_is_over_the_limit_fills_no_audit_trail() -> None:
    class Stranger:
        async def authenticate(self, _: Credentials) -> Identity | None:
            raise Unauthorized

        def challenge(self, _: Sequence[Scope]) -> str | None:
            return None

    auditor = MemoryAuditor()
    guard = Guard(Trail([auditor])).arm([Stranger()], [])
    limits = Limits(RegistryConfig(rate_limit_per_hour=3), guard)
    sent = Credentials("bad", (), f"203.0.113.{os.getpid() % 256}")
    for _ in range(60):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await limits.admit(sent, ())
    assert auditor.types() == ["AuthenticationFailed"] * 3 + ["RateLimitExceeded"]


def test_says_when_to_come_back(url: str) -> None:
    for _ in range(12):
        ask(url, "/v2/", "alice")
    refused = ask(url, "/v2/", "alice")
    assert refused.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert 250 < int(refused.headers["retry-after"]) <= 300
