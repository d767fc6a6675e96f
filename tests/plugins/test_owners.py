"""What the core says of whom a credential was given to: what the authenticators do that keep accounts."""

import time
from collections.abc import Sequence
from typing import Any

import pytest

from drift_core.api import Credentials, Identity, Owner, Scope, SupportsAccounts, SupportsStanding, Unavailable
from drift_core.conformance import Trail, access_by
from drift_core.guard import Guard
from drift_core.metrics import Metrics
from drift_core.observing import Observers
from drift_core.protocols.access import Authenticator

pytestmark = pytest.mark.anyio

OWNER = Owner("ann", "acme", time.time())


class Plain:
    """An authenticator that keeps no accounts."""

    async def authenticate(self, credentials: Credentials) -> Identity | None:
        del credentials
        return None

    def challenge(self, scopes: Sequence[Scope]) -> str | None:
        del scopes
        return None


class Keeping(Plain):
    """One that keeps some."""

    def __init__(self, said: Any) -> None:
        self.said = said

    async def keeps(self, owner: Owner) -> bool | None:
        assert owner == OWNER
        if isinstance(self.said, Exception):
            raise self.said
        answer: bool | None = self.said
        return answer


class Standing(Plain):
    """One that vouches for logins."""

    async def stands(self, identity: Identity, credentials: Credentials) -> bool | None:
        del identity, credentials
        return False


class Deaf:
    """An observer."""

    def observe_request(self, scope: Any, client_address: str) -> Any: ...
    def observe_call(self, call: Any) -> Any: ...


@pytest.mark.parametrize(
    ("said", "stands"),
    [
        ([], True),
        ([None], True),
        ([True], True),
        ([None, None], True),
        ([None, True], True),
        ([False], False),
        ([True, False], False),
        ([False, True], False),
        # What is no answer lets nobody in.
        ([0], False),
        ([1], False),
        ([""], False),
    ],
)
async def test_one_refusal_is_enough(said: Sequence[Any], stands: bool) -> None:
    access = access_by([Plain(), *map(Keeping, said)])
    assert await access.owner_stands(OWNER) is stands


async def test_who_cannot_say_refuses() -> None:
    with pytest.raises(Unavailable):
        await access_by([Keeping(True), Keeping(Unavailable("away"))]).owner_stands(OWNER)


async def test_nobody_stands_before_the_server_serves() -> None:
    with pytest.raises(Unavailable):
        await Guard(Trail()).owner_stands(OWNER)


@pytest.mark.parametrize("kinds", [(), (Keeping,), (Standing,), (Keeping, Standing)])
async def test_who_is_observed_has_the_same_powers(kinds: tuple[type[Any], ...]) -> None:
    one: Any = type("One", (*kinds, Plain), {})(*([False] if Keeping in kinds else []))
    (wrapped,) = Observers([("deaf", Deaf())], Metrics()).authenticators([("acme", one)])
    assert isinstance(wrapped, Authenticator)
    assert isinstance(wrapped, SupportsAccounts) == (Keeping in kinds)
    assert isinstance(wrapped, SupportsStanding) == (Standing in kinds)
    guard = Guard(Trail()).arm([wrapped], [])
    assert await guard.owner_stands(OWNER) is (Keeping not in kinds)
    asked = Credentials(None, (), "192.0.2.1")
    assert await guard.stands(Identity("ann", "acme"), asked) is (Standing not in kinds)
