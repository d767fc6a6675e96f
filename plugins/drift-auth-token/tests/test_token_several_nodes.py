"""Two nodes on one PostgreSQL race for what may happen once, and obey what the other one has taken back."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from drift_auth_token import grants as grants_module
from drift_auth_token import tables
from drift_auth_token.authenticator import TokenAuthenticator, open_authenticator
from drift_auth_token.config import TokenConfig
from drift_auth_token.grants import NameTaken, TooMany, begin, begin_robot
from sqlalchemy import select

from drift_core.api import Denied, Identity, Records, Scope, Unauthorized
from drift_core.conformance import open_records
from tests.services.postgresql import Postgresql

from .conftest import REVOKED_SECONDS, bearer, lent

pytestmark = pytest.mark.anyio

ALICE = Identity("alice", "basic")
PULL = frozenset({Scope("repository", "team/*", "pull")})


@pytest.fixture
async def both(postgresql_url: str) -> AsyncIterator[Sequence[Records]]:
    async with AsyncExitStack() as opened:
        yield [
            await opened.enter_async_context(open_records("auth-token", "drift_auth_token.migrations", postgresql_url))
            for _ in range(2)
        ]


@pytest.fixture
async def nodes(both: Sequence[Records]) -> AsyncIterator[Sequence[TokenAuthenticator]]:
    """They start at once."""
    async with AsyncExitStack() as opened:
        opening = (opened.enter_async_context(open_authenticator(TokenConfig(), lent(records))) for records in both)
        yield await asyncio.gather(*opening)


async def outcomes(*work: Awaitable[object]) -> list[object]:
    """Returns what each has returned, or the class of what it has raised."""
    return [
        type(one) if isinstance(one, BaseException) else one
        for one in await asyncio.gather(*work, return_exceptions=True)
    ]


async def refused(nodes: Iterable[TokenAuthenticator], *tokens: str) -> None:
    """Waits for as long as a revocation may take, and then for nothing."""
    await asyncio.sleep(REVOKED_SECONDS)
    for node in nodes:
        for token in tokens:
            with pytest.raises(Unauthorized):
                await node.authenticate(bearer(token))


async def test_nodes_that_start_at_once_have_one_key(nodes: Sequence[TokenAuthenticator]) -> None:
    one, other = [await node.service.published() for node in nodes]
    assert one == other
    assert len(one) == 1


async def test_a_key_is_replaced_for_all(nodes: Sequence[TokenAuthenticator]) -> None:
    one, other = nodes
    issued = await one.service.access(ALICE, [])
    assert await other.authenticate(bearer(issued.token)) is not None
    await one.service.keys.rotate(forget=True)
    await refused(nodes, issued.token)
    fresh = await other.service.access(ALICE, [])
    assert await one.authenticate(bearer(fresh.token)) is not None


async def test_a_refresh_token_is_renewed_by_one_of_all_who_show_it(nodes: Sequence[TokenAuthenticator]) -> None:
    for _ in range(5):
        identity, _, refresh = await nodes[0].service.login(ALICE)
        found = await outcomes(*(node.service.renew(refresh) for node in (*nodes, *nodes)))
        assert found.count(Unauthorized) == 3
        # Somebody has stolen it: the login is over for everybody.
        assert await nodes[1].service.grants.living(identity.grant) is None


async def test_what_was_granted_at_one_is_used_and_revoked_at_the_other(nodes: Sequence[TokenAuthenticator]) -> None:
    one, other = nodes
    personal, robot = begin("pat", ALICE), begin_robot(Identity("ci", "token", scopes=PULL))
    tokens = [await one.service.grant(personal, ALICE), await one.service.grant(robot, ALICE)]
    identity, login, _ = await one.service.login(ALICE)
    tokens.append(login.token)
    for node in nodes:
        for token in tokens:
            assert await node.authenticate(bearer(token)) is not None
    for grant in (personal.id, robot.id, identity.grant):
        found = await other.service.grants.find(grant)
        assert found is not None
        await other.service.grants.revoke(found, ALICE)
    await refused(nodes, *tokens)


async def test_nothing_is_left_of_what_was_made_while_its_maker_was_revoked(
    nodes: Sequence[TokenAuthenticator], both: Sequence[Records]
) -> None:
    one, other = nodes
    for _ in range(5):
        maker, _, _ = await one.service.login(ALICE)
        made = (other.service.grant(begin("pat", maker), maker) for _ in range(8))
        await outcomes(one.service.grants.revoke_all("alice", None), *made)
        left = await both[0].read(lambda db: db.execute(select(tables.grants.c.id)).scalars().all())
        assert left == []


async def test_each_revocation_is_counted(nodes: Sequence[TokenAuthenticator], both: Sequence[Records]) -> None:
    before = await both[0].read(tables.revision)
    made = [begin("pat", ALICE) for _ in range(10)]
    await asyncio.gather(*(nodes[0].service.grant(grant, ALICE) for grant in made))
    await asyncio.gather(*(nodes[place % 2].service.grants.revoke(grant, None) for place, grant in enumerate(made)))
    assert await both[1].read(tables.revision) == before + len(made)


async def test_a_name_is_given_to_one_robot(nodes: Sequence[TokenAuthenticator]) -> None:
    robots = [begin_robot(Identity("ci", "token", scopes=PULL)) for _ in range(6)]
    found = await outcomes(*(nodes[place % 2].service.grant(robot, ALICE) for place, robot in enumerate(robots)))
    assert found.count(NameTaken) == len(robots) - 1


async def test_nobody_has_more_tokens_than_allowed(
    nodes: Sequence[TokenAuthenticator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grants_module, "MAX_OF_ONE", 4)
    made = (nodes[place % 2].service.grant(begin("pat", ALICE), ALICE) for place in range(12))
    found = await outcomes(*made)
    assert found.count(TooMany) == 8
    assert len(await nodes[0].service.grants.listed("pat", "alice")) == 4


async def test_uses_that_nodes_note_at_once(nodes: Sequence[TokenAuthenticator]) -> None:
    made = [begin("pat", ALICE) for _ in range(20)]
    await asyncio.gather(*(nodes[0].service.grant(grant, ALICE) for grant in made))
    uses = {grant.id: time.time() for grant in made}
    backwards = dict(reversed(uses.items()))
    await asyncio.gather(
        *(node.service.grants.note_uses(order) for node in nodes for order in (uses, backwards) for _ in range(3))
    )
    assert {grant.used for grant in await nodes[1].service.grants.listed("pat")} == set(uses.values())


async def test_what_no_database_keeps_is_refused_or_left_out(opened: TokenAuthenticator) -> None:
    grants = opened.service.grants
    await opened.service.grant(begin("docker", ALICE, title="a\0b" + "c" * 300), ALICE)
    assert [grant.title for grant in await grants.listed("docker")] == ["ab" + "c" * 253]
    for name in ("x" * 256, "a\0b"):
        with pytest.raises(Denied):
            await opened.service.login(Identity(name, "basic"))
    assert await grants.find("\0") is None


async def test_a_page_of_robots_is_in_binary_order_in_whatever_language(postgresql: Postgresql) -> None:
    database = f"drift_{uuid4().hex[:12]}"
    english = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    postgresql.execute(f"CREATE DATABASE {database} TEMPLATE template0 {english}")
    names = ["a-b", "a.b", "a_b", "aa", "a", "b"]
    async with (
        open_records("auth-token", "drift_auth_token.migrations", postgresql.url(database)) as records,
        open_authenticator(TokenConfig(), lent(records)) as opened,
    ):
        for name in names:
            await opened.service.grant(begin_robot(Identity(name, "token", scopes=PULL)), ALICE)
        listed = [str(grant.shown()["name"]) for grant in await opened.service.grants.robots("", 10)]
        assert listed == sorted(names)
        assert [grant.shown()["name"] for grant in await opened.service.grants.robots(listed[2], 2)] == listed[3:5]
