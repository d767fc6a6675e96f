"""Logins, personal tokens and robots: what they are limited to, when they end, and what ends with them."""

import asyncio
import time
from base64 import b64encode
from typing import Any

import pytest
from drift_auth_token import opaque, tables
from drift_auth_token.asked import parse
from drift_auth_token.authenticator import TokenAuthenticator
from drift_auth_token.grants import Grant, NameTaken, TooMany, begin, begin_robot
from drift_auth_token.identity import TokenIdentity
from sqlalchemy import select, update

from drift_core.api import Credentials, Denied, Identity, Records, Scope, Unauthorized
from drift_core.conformance import MemoryAuditor

from .conftest import REVOKED_SECONDS, Opening, authorized, bearer

pytestmark = pytest.mark.anyio

ALICE = Identity("alice", "basic", frozenset({"dev"}), frozenset({"writer"}))
PULL = frozenset({Scope("repository", "team/*", "pull")})


def password(name: str, token: str) -> Credentials:
    return authorized(f"Basic {b64encode(f'{name}:{token}'.encode()).decode()}")


async def pat(authenticator: TokenAuthenticator, identity: Identity = ALICE, **others: Any) -> tuple[Grant, str]:
    grant = begin("pat", identity, **others)
    return grant, await authenticator.service.grant(grant, identity)


async def who(authenticator: TokenAuthenticator, credentials: Credentials) -> TokenIdentity:
    identity = await authenticator.authenticate(credentials)
    assert identity is not None
    return identity


async def gone(authenticator: TokenAuthenticator, credentials: Credentials) -> bool:
    try:
        return await authenticator.authenticate(credentials) is None
    except Unauthorized:
        return True


async def test_a_personal_token_is_its_owner_within_its_limit(opened: TokenAuthenticator) -> None:
    limited = Identity("alice", "basic", ALICE.groups, ALICE.roles, PULL)
    _, token = await pat(opened, limited)
    for credentials in (password("alice", token), bearer(token)):
        found = await who(opened, credentials)
        assert (found.name, found.source, found.groups, found.roles, found.scopes) == (
            *("alice", "token", ALICE.groups, ALICE.roles),
            PULL,
        )


async def test_nothing_of_a_token_is_kept_but_its_hash(opened: TokenAuthenticator, records: Records) -> None:
    _, token = await pat(opened)
    _, issued, refresh = await opened.service.login(ALICE)
    rows = await records.read(lambda db: str([tuple(row) for row in db.execute(select(tables.grants))]))
    for text in (token, refresh):
        secret = text.split("_")[-1]
        assert secret not in rows
        assert secret[:64] not in rows
    assert issued.token not in rows


def test_a_typing_error_is_found_by_the_checksum() -> None:
    token, secret = opaque.make("pat", "0123456789abcdef")
    assert opaque.parse(token) == opaque.Opaque("pat", "0123456789abcdef", secret)
    for place in range(len(token)):
        assert opaque.parse(f"{token[:place]}{'0' if token[place] != '0' else '1'}{token[place + 1 :]}") is None
    for text in ("", token[:-1], f"{token}0", f" {token}", f"{token}\n", token.upper()):
        assert opaque.parse(text) is None


async def test_a_robot_has_a_name_that_nobody_else_has(opened: TokenAuthenticator) -> None:
    robot = begin_robot(Identity("ci", "token", roles=frozenset({"pusher"}), scopes=PULL))
    token = await opened.service.grant(robot, ALICE)
    found = await who(opened, password("robot$ci", token))
    assert (found.name, found.roles, found.scopes) == ("robot$ci", {"pusher"}, PULL)
    assert await gone(opened, password("ci", token))
    with pytest.raises(NameTaken):
        await opened.service.grant(begin_robot(Identity("ci", "token", scopes=PULL)), ALICE)
    await opened.service.grants.revoke(robot, ALICE)
    await opened.service.grant(begin_robot(Identity("ci", "token", scopes=PULL)), ALICE)


@pytest.mark.parametrize("name", ["", "A", "a b", "a:b", "a$b", "-a", "a" * 128])
def test_a_robot_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a robot"):
        begin_robot(Identity(name, "token", scopes=PULL))


@pytest.mark.parametrize("scopes", [None, frozenset[Scope]()])
def test_a_robot_without_a_limit_is_refused(scopes: frozenset[Scope] | None) -> None:
    with pytest.raises(ValueError, match="at least one scope"):
        begin_robot(Identity("ci", "token", scopes=scopes))


async def test_what_is_revoked_is_refused_by_another_worker(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        grant, token = await pat(one)
        identity, issued, refresh = await one.service.login(ALICE)
        everything = [password("alice", token), bearer(token), bearer(issued.token)]
        for credentials in everything:
            await who(other, credentials)
        await one.service.grants.revoke(grant, ALICE)
        login = await one.service.grants.find(identity.grant)
        assert login is not None
        await one.service.grants.revoke(login, ALICE)
        await asyncio.sleep(REVOKED_SECONDS)
        for worker in (one, other):
            assert all([await gone(worker, credentials) for credentials in everything])
        with pytest.raises(Unauthorized):
            await other.service.renew(refresh)


async def test_an_access_token_ends_with_the_token_by_which_it_was_got(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        grant, token = await pat(one)
        access = await one.service.access(await who(one, bearer(token)), parse(["repository:team/app:pull"]))
        offline = await one.service.offline(await who(one, bearer(token)), "docker")
        assert offline is not None
        assert (await who(other, bearer(access.token))).name == "alice"
        assert (await other.service.redeem_offline(offline)).name == "alice"
        await one.service.grants.revoke(grant, ALICE)
        await asyncio.sleep(REVOKED_SECONDS)
        assert await gone(other, bearer(access.token))
        with pytest.raises(Unauthorized):
            await other.service.redeem_offline(offline)


async def test_everything_below_a_token_ends_with_it(opened: TokenAuthenticator, records: Records) -> None:
    grant, token = await pat(opened)
    login, issued, _ = await opened.service.login(await who(opened, bearer(token)))
    await opened.service.offline(login, "docker")
    await pat(opened, Identity("bob", "basic"))
    await opened.service.grants.revoke(grant, ALICE)
    left = await records.read(lambda db: db.execute(select(tables.grants.c.name)).scalars().all())
    assert left == ["bob"]
    await asyncio.sleep(REVOKED_SECONDS)
    assert await gone(opened, bearer(issued.token))


async def test_no_token_outlives_the_one_that_it_was_made_by(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened, expires=time.time() + 100)
    holder = await who(opened, bearer(token))
    access = await opened.service.access(holder, [])
    assert access.seconds <= 100
    again = await opened.service.access(await who(opened, bearer(access.token)), [])
    assert again.seconds <= access.seconds
    login, issued, refresh = await opened.service.login(holder)
    assert issued.seconds <= 100
    assert login.expires is not None
    assert login.expires <= time.time() + 100
    assert (await opened.service.renew(refresh))[1].seconds <= 100


async def test_who_has_only_an_access_token_gets_nothing_that_lasts(opened: TokenAuthenticator) -> None:
    access = await opened.service.access(ALICE, parse(["repository:team/app:pull"]))
    holder = await who(opened, bearer(access.token))
    assert await opened.service.offline(holder, "docker") is None
    assert opened.service.person(holder) is None


CERTIFICATE = Identity("cert:ann", "certificate", delegated=True)


async def test_who_has_a_credential_of_another_that_ends_gets_nothing_that_lasts(opened: TokenAuthenticator) -> None:
    assert await opened.service.offline(CERTIFICATE, "docker") is None
    assert opened.service.person(CERTIFICATE) is None
    with pytest.raises(Denied):
        await opened.service.login(CERTIFICATE)
    access = await opened.service.access(CERTIFICATE, [])
    assert access.seconds <= 300
    assert (await who(opened, bearer(access.token))).delegated


async def test_every_token_but_that_of_a_login_by_password_is_delegated(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened)
    robot = await opened.service.grant(begin_robot(Identity("ci", "token", scopes=PULL)), ALICE)
    _, by_token, refresh = await opened.service.login(await who(opened, bearer(token)))
    _, renewed, _ = await opened.service.renew(refresh)
    access = await opened.service.access(ALICE, [])
    for text in (token, robot, by_token.token, renewed.token, access.token):
        assert (await who(opened, bearer(text))).delegated
    login, by_password, _ = await opened.service.login(ALICE)
    assert not login.delegated
    assert not (await who(opened, bearer(by_password.token))).delegated


async def test_nothing_is_made_by_a_grant_that_was_revoked(opened: TokenAuthenticator, records: Records) -> None:
    """Who it is was found out before, or is remembered until the revocation is noticed."""
    made, token = await pat(opened)
    by_token = await who(opened, bearer(token))
    await opened.service.grants.revoke(made, ALICE)
    by_login, _, _ = await opened.service.login(ALICE)
    person = opened.service.person(by_login)
    assert person is not None
    await opened.service.grants.revoke_all("alice", "admin")
    robot = Identity("ci", "token", scopes=PULL)
    for making in (
        opened.service.offline(by_token, "docker"),
        opened.service.login(by_token),
        opened.service.grant(begin_robot(robot, maker=by_token), by_token),
        opened.service.grant(begin("pat", person), by_login),
        opened.service.grant(begin_robot(robot, maker=person), by_login),
        # A parent counts whoever asks.
        opened.service.grant(begin("docker", by_token), None),
    ):
        with pytest.raises(Unauthorized, match="revoked"):
            await making
    assert await records.read(lambda db: db.execute(select(tables.grants)).all()) == []


async def test_nothing_is_made_by_a_grant_that_has_expired(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened, expires=time.time() + 0.3)
    holder = await who(opened, bearer(token))
    await asyncio.sleep(0.4)
    with pytest.raises(Unauthorized, match="revoked"):
        await opened.service.offline(holder, "docker")


async def test_who_came_by_a_token_is_no_person(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened)
    login, _, _ = await opened.service.login(await who(opened, bearer(token)))
    assert opened.service.person(await who(opened, bearer(token))) is None
    assert opened.service.person(login) is None
    person, _, _ = await opened.service.login(ALICE)
    assert opened.service.person(person) == ALICE


async def test_expired(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened, expires=time.time() + 0.5)
    await who(opened, bearer(token))
    await asyncio.sleep(0.6)
    assert await gone(opened, bearer(token))


async def test_a_refresh_token_is_good_once(opened: TokenAuthenticator, heard: MemoryAuditor) -> None:
    _, first, refresh = await opened.service.login(ALICE)
    _, second, renewed = await opened.service.renew(refresh)
    assert (await who(opened, bearer(second.token))).name == "alice"
    with pytest.raises(Unauthorized):
        await opened.service.renew(refresh)
    # One of the two who hold it has stolen it: neither goes on.
    await asyncio.sleep(REVOKED_SECONDS)
    with pytest.raises(Unauthorized):
        await opened.service.renew(renewed)
    assert await gone(opened, bearer(first.token))
    assert await gone(opened, bearer(second.token))
    assert heard.types() == ["Login", "TokenIssued", "TokenRefreshed", "TokenRevoked"]
    assert heard.events[-1].reason == "a refresh token was used twice"


async def test_a_guess_at_a_refresh_token_ends_nothing(opened: TokenAuthenticator) -> None:
    login, _, refresh = await opened.service.login(ALICE)
    with pytest.raises(Unauthorized):
        await opened.service.renew(opaque.make("refresh", login.grant)[0])
    await opened.service.renew(refresh)


async def test_of_many_who_renew_at_once_one_does(opening: Opening) -> None:
    async with opening() as one, opening() as other:
        _, _, refresh = await one.service.login(ALICE)
        tries = [worker.service.renew(refresh) for worker in (one, other) * 5]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(not isinstance(result, Unauthorized) for result in results) == 1


async def test_a_refresh_token_of_docker_is_good_many_times(opened: TokenAuthenticator) -> None:
    offline = await opened.service.offline(ALICE, "docker")
    assert offline is not None
    for _ in range(3):
        assert (await opened.service.redeem_offline(offline)).groups == ALICE.groups
    with pytest.raises(Unauthorized):
        await opened.service.renew(offline)


async def test_a_refresh_token_opens_nothing_itself(opened: TokenAuthenticator) -> None:
    _, _, refresh = await opened.service.login(ALICE)
    offline = await opened.service.offline(ALICE, "docker")
    for token in (refresh, str(offline)):
        assert await gone(opened, bearer(token))
        assert await gone(opened, password("alice", token))


async def test_a_user_has_a_bounded_number_of_tokens(
    opened: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_auth_token.grants.MAX_OF_ONE", 3)
    for _ in range(3):
        await pat(opened)
    with pytest.raises(TooMany):
        await pat(opened)
    await pat(opened, Identity("bob", "basic"))


async def test_the_oldest_logins_make_room(
    opened: TokenAuthenticator, heard: MemoryAuditor, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_auth_token.grants.MAX_OF_ONE", 2)
    oldest, _, refresh = await opened.service.login(ALICE)
    below = await opened.service.offline(oldest, "docker")
    others = [await opened.service.login(ALICE) for _ in range(2)]
    await opened.service.login(Identity("bob", "basic"))
    assert below is not None
    for ended in (opened.service.renew(refresh), opened.service.redeem_offline(below)):
        with pytest.raises(Unauthorized):
            await ended
    for _, _, newer in others:
        await opened.service.renew(newer)
    (event,) = [event for event in heard.events if event.type == "TokenRevoked"]
    assert (event.resource_id, event.username) == (oldest.grant, "alice")
    for _ in range(5):
        last = await opened.service.offline(ALICE, "docker")
    assert (await opened.service.redeem_offline(str(last))).name == "alice"
    kinds = await records.read(lambda db: db.execute(select(tables.grants.c.kind)).scalars().all())
    assert sorted(kinds) == ["docker", "docker", "login", "login", "login"]


async def test_with_a_token_nobody_ends_the_logins_of_its_owner(
    opened: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_auth_token.grants.MAX_OF_ONE", 2)
    _, token = await pat(opened)
    _, _, refresh = await opened.service.login(ALICE)
    for _ in range(4):
        await opened.service.login(await who(opened, bearer(token)))
    await opened.service.renew(refresh)


async def test_a_bounded_number_of_used_refresh_tokens_is_kept(
    opened: TokenAuthenticator, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_auth_token.grants.MAX_SPENT", 2)
    _, _, first = await opened.service.login(ALICE)
    used = [first]
    for _ in range(4):
        used.append((await opened.service.renew(used[-1]))[2])
    assert len(await records.read(lambda db: db.execute(select(tables.spent)).all())) == 2
    # The oldest opens nothing, but ends nothing either; one that is remembered ends the login.
    with pytest.raises(Unauthorized):
        await opened.service.renew(used[0])
    used.append((await opened.service.renew(used[-1]))[2])
    for stolen in (used[-3], used[-1]):
        with pytest.raises(Unauthorized):
            await opened.service.renew(stolen)


async def test_everything_of_a_user_is_revoked_at_once(opened: TokenAuthenticator) -> None:
    _, token = await pat(opened)
    _, issued, _ = await opened.service.login(ALICE)
    _, other = await pat(opened, Identity("bob", "basic"))
    assert await opened.service.grants.revoke_all("alice", "admin") == 2
    await asyncio.sleep(REVOKED_SECONDS)
    assert await gone(opened, bearer(token))
    assert await gone(opened, bearer(issued.token))
    assert (await who(opened, bearer(other))).name == "bob"


async def test_the_last_use_is_kept(opened: TokenAuthenticator) -> None:
    grant, token = await pat(opened)
    assert (await opened.service.grants.listed("pat"))[0].used is None
    began = time.time()
    for _ in range(2):
        await who(opened, bearer(token))
    await opened.flush()
    (found,) = await opened.service.grants.listed("pat", "alice")
    assert found.id == grant.id
    assert found.used is not None
    assert began <= found.used <= time.time()


async def test_what_has_expired_is_forgotten(opened: TokenAuthenticator, records: Records) -> None:
    await pat(opened)
    _, _, refresh = await opened.service.login(ALICE)
    await opened.service.renew(refresh)
    await records.write(
        lambda db: db.execute(update(tables.grants).where(tables.grants.c.kind == "login").values(expires=1.0))
    )
    await opened.service.upkeep()
    kinds = await records.read(lambda db: db.execute(select(tables.grants.c.kind)).scalars().all())
    assert kinds == ["pat"]
    assert await records.read(lambda db: db.execute(select(tables.spent)).all()) == []


async def test_a_token_that_is_known_asks_no_database(
    opened: TokenAuthenticator, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await pat(opened)
    _, issued, _ = await opened.service.login(ALICE)
    everything = [bearer(token), password("alice", token), bearer(issued.token)]
    await asyncio.sleep(0.3)
    first = [await who(opened, credentials) for credentials in everything]

    async def read(_: object) -> None:
        pytest.fail("the database was asked")

    monkeypatch.setattr(records, "read", read)
    for _ in range(100):
        assert [await who(opened, credentials) for credentials in everything] == first


async def test_what_is_remembered_is_bounded(opened: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_auth_token.authenticator.KNOWN", 10)
    for _ in range(30):
        issued = await opened.service.access(ALICE, [])
        await who(opened, bearer(issued.token))
    assert len(opened._known) == 10


async def test_a_revocation_while_a_token_is_checked_counts(
    opened: TokenAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found good just before it was revoked, and remembered just after, it would stay good until it expires."""
    grant, token = await pat(opened)
    redeem = opened.service.grants.redeem

    async def slowly(*arguments: Any) -> Grant | None:
        found = await redeem(*arguments)
        await asyncio.sleep(1)
        return found

    monkeypatch.setattr(opened.service.grants, "redeem", slowly)
    checked = asyncio.create_task(who(opened, bearer(token)))
    await asyncio.sleep(0.3)
    await opened.service.grants.revoke(grant, ALICE)
    await asyncio.sleep(0.3)
    await opened.authenticate(bearer((await opened.service.access(ALICE, [])).token))
    await checked
    assert await gone(opened, bearer(token))
