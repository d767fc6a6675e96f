"""Devices that wait: what becomes of them when the person logs out, and how many of them one network has."""

from collections.abc import AsyncIterator

import pytest
from drift_auth_oidc.devices import MOST_OF_NETWORK, Devices
from drift_auth_oidc.grants import Grants, of_id, of_person
from drift_auth_oidc.person import Known, Person
from drift_auth_oidc.seal import open_seal

from drift_core.api import Records, TooManyRequests
from drift_core.conformance import Trail, open_records

ANN = Person(provider="oidc", subject="1", name="oidc:ann")
SESSION_SECONDS, TOKEN_SECONDS, IDLE = 300.0, 86400.0, 3600.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("auth-oidc", "drift_auth_oidc.migrations", database_url) as records:
        yield records


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def grants(records: Records, clock: Clock) -> Grants:
    return Grants(records, await open_seal(records), Trail(), IDLE, clock)


@pytest.fixture
def devices(records: Records, grants: Grants) -> Devices:
    return Devices(records, grants, TOKEN_SECONDS)


async def allowed(grants: Grants, devices: Devices) -> tuple[str, str]:
    """Returns the code of a device that was allowed, and the id of the session that did it."""
    _, session = await grants.issue("session", Known(ANN), SESSION_SECONDS, "")
    device_code, user_code = await devices.begin("a test", "192.0.2.1")
    assert await devices.decide(user_code, session, allow=True)
    return device_code, session.id


async def test_a_device_that_was_allowed_gets_its_token(grants: Grants, devices: Devices) -> None:
    device_code, _ = await allowed(grants, devices)
    given = await devices.poll(device_code)
    assert not isinstance(given, str)
    assert given[1].person == ANN
    assert await devices.poll(device_code) == "expired_token"


async def test_a_device_does_not_outlive_a_logout_everywhere(grants: Grants, devices: Devices) -> None:
    device_code, _ = await allowed(grants, devices)
    await grants.revoke(of_person(ANN), "logout everywhere")
    assert await devices.poll(device_code) == "expired_token"
    assert await grants.listed(of_person(ANN)) == []


async def test_a_device_does_not_outlive_the_session_that_allowed_it(
    grants: Grants, devices: Devices, clock: Clock
) -> None:
    device_code, identifier = await allowed(grants, devices)
    await grants.issue("session", Known(ANN), TOKEN_SECONDS, "another browser")
    await grants.revoke(of_id(identifier), "revoked")
    assert await devices.poll(device_code) == "expired_token"
    device_code, _ = await allowed(grants, devices)
    clock.now += SESSION_SECONDS
    assert await devices.poll(device_code) == "expired_token"


async def test_a_session_that_has_ended_meanwhile_allows_nothing(grants: Grants, devices: Devices) -> None:
    """Another worker may remember it for a moment."""
    _, session = await grants.issue("session", Known(ANN), SESSION_SECONDS, "")
    await grants.revoke(of_person(ANN), "logout everywhere")
    device_code, user_code = await devices.begin("a test", "192.0.2.1")
    await devices.decide(user_code, session, allow=True)
    assert await devices.poll(device_code) == "expired_token"


async def test_a_network_has_only_so_many_devices_waiting(devices: Devices) -> None:
    for number in range(MOST_OF_NETWORK):
        await devices.begin("a test", f"2001:db8:0:1::{number:x}")
    with pytest.raises(TooManyRequests):
        await devices.begin("a test", "2001:db8:0:1:ffff::1")
    _, user_code = await devices.begin("a test", "2001:db8:0:2::1")
    waiting = await devices.find(user_code)
    assert waiting is not None
    assert waiting.address == "2001:db8:0:2::1"
