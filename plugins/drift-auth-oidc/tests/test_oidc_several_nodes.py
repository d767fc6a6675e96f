"""Two nodes on one PostgreSQL: a login or a device that is used at both is used once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from drift_auth_oidc import tables
from drift_auth_oidc.devices import MOST_OF_NETWORK, Devices
from drift_auth_oidc.grants import Grants, of_id, of_person
from drift_auth_oidc.logins import Logins
from drift_auth_oidc.person import Known, Person
from drift_auth_oidc.seal import open_seal

from drift_core.api import Records, TooManyRequests, Unauthorized
from drift_core.conformance import Trail, open_records
from tests.server import Server

ANN = Person(provider="oidc", subject="1", name="oidc:ann")
DAY, HOUR = 86400.0, 3600.0
KNOWN_SECONDS = 1.0
"""How soon what one node has revoked has to be gone at the other."""


@pytest.fixture
async def both(postgresql_url: str) -> AsyncIterator[Sequence[Records]]:
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(open_records("auth-oidc", "drift_auth_oidc.migrations", postgresql_url))
            for _ in range(2)
        ]


@pytest.fixture
async def nodes(both: Sequence[Records]) -> Sequence[Grants]:
    """They start at once, and make the key of the seal."""
    seals = await asyncio.gather(*(open_seal(records) for records in both))
    return [Grants(records, seal, Trail(), HOUR) for records, seal in zip(both, seals, strict=True)]


@pytest.fixture
def devices(nodes: Sequence[Grants], both: Sequence[Records]) -> Sequence[Devices]:
    return [Devices(records, grants, DAY) for records, grants in zip(both, nodes, strict=True)]


async def test_what_one_seals_the_other_opens(nodes: Sequence[Grants]) -> None:
    sealed = Known(ANN, "a token of the provider")
    secret, _ = await nodes[0].issue("session", sealed, DAY, "")
    grant = await nodes[1].find(secret, ("session",))
    assert grant is not None
    assert nodes[1].opened(grant.sealed) == sealed.access_token


async def test_a_login_comes_back_once(nodes: Sequence[Grants], both: Sequence[Records]) -> None:
    seal = await open_seal(both[0])
    logins = [Logins({}, grants, records, seal) for records, grants in zip(both, nodes, strict=True)]
    for number in range(5):
        used = await asyncio.gather(
            *(one._use(f"state {number}") for one in (*logins, *logins)), return_exceptions=True
        )
        assert [type(one) for one in used if one is not None] == [Unauthorized] * 3


def test_a_login_that_is_begun_at_one_ends_at_the_other(
    provider: Any, lab: Any, postgresql_url: str, tmp_path: Path
) -> None:
    settings = [f"metadata.url={postgresql_url}", f"storage.path={tmp_path / 'blobs'}", *lab.settings(provider)]
    with (
        Server(tmp_path / "one", *settings, workers=1) as one,
        Server(tmp_path / "other", *settings, workers=1) as other,
    ):
        person = lab.wanderer(one.url)
        back = person.to_callback("/auth/oidc", "ann")
        begun = {"drift-login": person.client.cookies["drift-login"]}
        elsewhere = back.replace(one.url, other.url)
        assert person.client.get(elsewhere).status_code == 303
        cookies = {"drift-session": person.session()}
        for node in (one, other):
            assert person.client.get(f"{node.url}/auth/user").json()["name"] == "oidc:ann"
        # Whoever has stolen what the browser brought back comes too late, at every node.
        for url in (back, elsewhere):
            assert "used already" in httpx.get(url, cookies=begun).text
        csrf = person.csrf()
        assert person.client.post(f"{other.url}/auth/logout", headers={"x-csrf-token": csrf}).status_code == 200
        time.sleep(KNOWN_SECONDS)
        for node in (one, other):
            assert httpx.get(f"{node.url}/auth/user", cookies=cookies).status_code == 401
        person.client.close()


async def test_a_device_gets_one_token(nodes: Sequence[Grants], devices: Sequence[Devices]) -> None:
    _, session = await nodes[0].issue("session", Known(ANN), DAY, "")
    for number in range(5):
        device_code, user_code = await devices[0].begin("a test", f"192.0.2.{number}")
        decided = await asyncio.gather(*(one.decide(user_code, session, allow=True) for one in (*devices, *devices)))
        assert decided.count(True) == 1
        given = await asyncio.gather(*(one.poll(device_code) for one in (*devices, *devices)))
        assert len([one for one in given if not isinstance(one, str)]) == 1
    assert len(await nodes[1].listed(of_person(ANN))) == 1 + 5


async def test_a_network_has_only_so_many_devices_waiting_at_all_nodes(devices: Sequence[Devices]) -> None:
    begun = (devices[place % 2].begin("a test", "192.0.2.1") for place in range(MOST_OF_NETWORK + 6))
    found = await asyncio.gather(*begun, return_exceptions=True)
    assert [type(one) for one in found].count(TooManyRequests) == 6


async def test_what_is_revoked_at_one_is_gone_at_the_other_and_counted(
    nodes: Sequence[Grants], both: Sequence[Records]
) -> None:
    one, other = nodes
    issued = [await one.issue("cli", Known(ANN), DAY, "a test") for _ in range(6)]
    for secret, _ in issued:
        assert await other.find(secret, ("cli",)) is not None
    before = await both[0].read(tables.counter)
    await asyncio.gather(
        *(nodes[place % 2].revoke(of_id(grant.id), "revoked") for place, (_, grant) in enumerate(issued))
    )
    assert await both[0].read(tables.counter) == before + len(issued)
    await asyncio.sleep(KNOWN_SECONDS)
    for secret, _ in issued:
        for node in nodes:
            assert await node.find(secret, ("cli",)) is None


async def test_a_label_is_kept_without_what_cannot_be_shown(
    nodes: Sequence[Grants], devices: Sequence[Devices]
) -> None:
    _, user_code = await devices[0].begin("a\0\x1b[31mb" + "c" * 300, "192.0.2.1")
    waiting = await devices[1].find(user_code)
    assert waiting is not None
    assert waiting.label == "a[31mb" + "c" * 247
    _, grant = await nodes[0].issue("session", Known(ANN), DAY, "a\0b")
    assert grant.label == "ab"
