"""What was given out ends: by time, by a word, and everywhere at once; and every step is in the audit trail."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_auth_oidc.grants import Grants, named, of_id, of_person
from drift_auth_oidc.person import Known, Person
from drift_auth_oidc.seal import Seal, open_seal
from drift_auth_oidc.tables import grants as table
from sqlalchemy import select

from drift_core.api import AuditEvent, Records
from drift_core.conformance import Trail, open_records

ANN = Person(provider="oidc", subject="1", name="oidc:ann", groups=("developers",))
BOB = Person(provider="oidc", subject="2", name="oidc:bob")
IDLE, LONG = 600.0, 86400.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Witness:
    """Keeps what it is told, and can be out of order."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.broken = False

    def record(self, db: Any, event: AuditEvent) -> None:
        del db
        if self.broken:
            raise RuntimeError("out of order")
        self.events.append(event)

    async def note(self, event: AuditEvent) -> None:
        self.events.append(event)


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("auth-oidc", "drift_auth_oidc.migrations", database_url) as records:
        yield records


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def grants(records: Records, clock: Clock, witness: Witness) -> Grants:
    return Grants(records, await open_seal(records), Trail([witness]), IDLE, clock)


async def test_only_a_hash_of_a_secret_is_kept(grants: Grants, records: Records) -> None:
    secret, _ = await grants.issue("cli", Known(ANN, "gho_secret"), LONG, "a test")
    rows = await records.read(lambda db: [tuple(map(str, row)) for row in db.execute(select(table))])
    assert rows
    assert not [value for row in rows for value in row if secret in value or "gho_secret" in value]


async def test_a_grant_is_good_only_for_its_kind(grants: Grants) -> None:
    secret, grant = await grants.issue("workload", Known(ANN), LONG, "")
    assert await grants.find(secret, ("session", "cli")) is None
    assert await grants.find(secret, ("cli", "workload")) == grant
    assert await grants.find(secret, ("session",)) is None
    assert await grants.find(secret + "x", ("workload",)) is None


@pytest.mark.parametrize("kind", ["session", "cli", "workload"])
async def test_a_grant_ends_when_it_expires(grants: Grants, clock: Clock, kind: Any) -> None:
    secret, _ = await grants.issue(kind, Known(ANN), 300.0, "")
    clock.now += 299
    assert await grants.find(secret, (kind,)) is not None
    clock.now += 1
    assert await grants.find(secret, (kind,)) is None
    assert await grants.listed(of_person(ANN)) == []


async def test_a_session_ends_when_nobody_uses_it(grants: Grants, clock: Clock) -> None:
    secret, _ = await grants.issue("session", Known(ANN), LONG, "")
    for _ in range(5):
        clock.now += IDLE - 1
        assert await grants.find(secret, ("session",)) is not None
    clock.now += IDLE + 1
    assert await grants.find(secret, ("session",)) is None


async def test_a_session_that_another_worker_sees_does_not_end(grants: Grants, records: Records, clock: Clock) -> None:
    other = Grants(records, await open_seal(records), Trail(), IDLE, clock)
    secret, _ = await grants.issue("session", Known(ANN), LONG, "")
    assert await other.find(secret, ("session",)) is not None
    clock.now += IDLE - 1
    assert await grants.find(secret, ("session",)) is not None
    clock.now += IDLE - 1
    assert await other.find(secret, ("session",)) is not None


async def test_a_token_is_not_idle(grants: Grants, clock: Clock) -> None:
    secret, _ = await grants.issue("cli", Known(ANN), LONG, "")
    clock.now += LONG - 1
    assert await grants.find(secret, ("cli",)) is not None


async def test_a_word_ends_what_another_worker_remembers(grants: Grants, records: Records, clock: Clock) -> None:
    other = Grants(records, await open_seal(records), Trail(), IDLE, clock)
    first, grant = await grants.issue("cli", Known(ANN), LONG, "")
    second, _ = await grants.issue("session", Known(ANN), LONG, "")
    of_bob, _ = await grants.issue("session", Known(BOB), LONG, "")
    for secret in (first, second, of_bob):
        assert await other.find(secret, ("cli", "session")) is not None
    await grants.revoke(of_id(grant.id), "a test")
    other._revision._asked = 0.0
    assert await other.find(first, ("cli",)) is None
    assert await other.find(second, ("session",)) is not None
    await grants.revoke(of_person(ANN), "a test")
    other._revision._asked = 0.0
    assert await other.find(second, ("session",)) is None
    assert await other.find(of_bob, ("session",)) is not None


async def test_a_warm_request_asks_no_database(grants: Grants, records: Records, monkeypatch: Any) -> None:
    secret, _ = await grants.issue("cli", Known(ANN), LONG, "")
    await grants.find(secret, ("cli",))

    async def read(_: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(records, "read", read)
    for _ in range(100):
        assert await grants.find(secret, ("cli",)) is not None


async def test_every_step_is_in_the_trail(grants: Grants, witness: Witness) -> None:
    _, session = await grants.issue("session", Known(ANN), LONG, "firefox")
    await grants.issue("cli", Known(ANN), LONG, "drift login")
    await grants.issue("workload", Known(BOB), LONG, "a job")
    await grants.revoke(of_id(session.id), "logout", ANN)
    await grants.revoke(named("oidc:ann"), "revoked by the operator")
    assert [event.type for event in witness.events] == ["Login", "TokenIssued", "TokenIssued", "Logout", "TokenRevoked"]
    assert witness.events[0].identity == ANN.identity()
    assert witness.events[3].identity == ANN.identity()
    assert witness.events[4].parameters["name"] == "oidc:ann"


async def test_what_the_trail_does_not_take_is_not_given(grants: Grants, witness: Witness) -> None:
    secret, grant = await grants.issue("session", Known(ANN), LONG, "")
    witness.broken = True
    with pytest.raises(RuntimeError):
        await grants.issue("cli", Known(BOB), LONG, "")
    with pytest.raises(RuntimeError):
        await grants.revoke(of_id(grant.id), "a test")
    assert await grants.listed(of_person(BOB)) == []
    assert await grants.find(secret, ("session",)) is not None


async def test_all_servers_share_one_seal(records: Records) -> None:
    one, two = await open_seal(records), await open_seal(records)
    assert two.open(one.close(b"content")) == b"content"


def test_a_seal_shows_changes_and_age() -> None:
    clock, key = Clock(), "a" * 43 + "="
    seal = Seal(key, clock)
    closed = seal.close(b"content")
    assert b"content" not in closed.encode()
    assert seal.open(closed, 600) == b"content"
    for wrong in ("", "x", closed[:-1], closed[:20] + ("A" if closed[20] != "A" else "B") + closed[21:], "é" * 100):
        assert seal.open(wrong, 600) is None
        assert seal.open(wrong) is None
    assert Seal("b" * 43 + "=", clock).open(closed) is None
    clock.now += 601
    assert seal.open(closed, 600) is None
    assert seal.open(closed) == b"content"
