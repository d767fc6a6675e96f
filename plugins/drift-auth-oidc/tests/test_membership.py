"""Whom GitHub does not answer about: what it said before holds, but not for ever, and only for them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_auth_oidc.config import GitHubConfig
from drift_auth_oidc.fetching import open_fetcher
from drift_auth_oidc.github import GitHubProvider
from drift_auth_oidc.grants import Grant, Grants
from drift_auth_oidc.membership import Membership
from drift_auth_oidc.person import Known, Person
from drift_auth_oidc.seal import open_seal

from drift_core.api import Secret, Unavailable
from drift_core.conformance import Trail, open_records, services

MONA = Person(provider="github", subject="583231", name="github:octocat")
MINUTES, DAY = 60.0, 86400.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def grants(clock: Clock, database_url: str | None) -> AsyncIterator[Grants]:
    async with open_records("auth-oidc", "drift_auth_oidc.migrations", database_url) as records:
        yield Grants(records, await open_seal(records), Trail(), DAY, clock)


@pytest.fixture
def minutes() -> float:
    return 15


@pytest.fixture
async def membership(github: Any, grants: Grants, minutes: float) -> AsyncIterator[Membership]:
    config = GitHubConfig(
        client_id="a",
        client_secret=Secret("b"),
        enterprise_url=github.url,
        allowed_organizations=("acme",),
        cache_duration_minutes=minutes,
    )
    async with open_fetcher() as fetcher:
        membership = Membership({"github": GitHubProvider(config, fetcher)}, grants, services().log)
        yield membership
        await membership.close()


async def issued(grants: Grants) -> Grant:
    return (await grants.issue("cli", Known(MONA, "gho_1"), 30 * DAY, ""))[1]


@pytest.mark.parametrize("status", [403, 404, 429])
async def test_an_answer_about_one_does_not_leave_the_others_unasked(
    github: Any, grants: Grants, membership: Membership, clock: Clock, status: int
) -> None:
    one, other = await issued(grants), await issued(grants)
    clock.now += 15 * MINUTES
    github.status = status
    assert await membership.current(one) == one
    asked = github.asked
    assert await membership.current(one) == one
    assert github.asked == asked
    github.status = 200
    assert (await membership.current(other)).checked == clock.now


async def test_a_github_that_is_down_is_left_alone_by_all(
    github: Any, grants: Grants, membership: Membership, clock: Clock
) -> None:
    one, other = await issued(grants), await issued(grants)
    clock.now += 15 * MINUTES
    github.status = 503
    assert await membership.current(one) == one
    asked = github.asked
    assert await membership.current(other) == other
    assert github.asked == asked


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest.mark.parametrize(("minutes", "longest"), [(15, DAY), (1440, 4 * DAY)])
async def test_what_github_said_does_not_hold_for_ever(
    github: Any, grants: Grants, membership: Membership, clock: Clock, status: int, longest: float
) -> None:
    grant = await issued(grants)
    github.status = status
    clock.now += longest
    assert await membership.current(grant) == grant
    clock.now += 1
    with pytest.raises(Unavailable):
        await membership.current(grant)


async def test_too_old_is_asked_for_before_it_is_refused(
    github: Any, grants: Grants, membership: Membership, clock: Clock
) -> None:
    grant = await issued(grants)
    clock.now += 5 * DAY
    assert (await membership.current(grant)).checked == clock.now
    clock.now += 5 * DAY
    github.status = 403
    with pytest.raises(Unavailable):
        await membership.current(grant)


async def test_who_is_left_alone_is_forgotten(
    github: Any, grants: Grants, membership: Membership, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [await issued(grants) for _ in range(5)]
    clock.now += 15 * MINUTES
    github.status = 403
    monkeypatch.setattr("drift_auth_oidc.membership.AGAIN_SECONDS", 0.0)
    for grant in every:
        await membership.current(grant)
    assert len(membership._unanswered) == 1
