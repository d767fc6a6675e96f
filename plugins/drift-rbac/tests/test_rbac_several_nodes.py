"""Two nodes on one PostgreSQL change one policy, and no change is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest
from drift_rbac.authorizer import Rbac, open_authorizer
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.entities import Assignment, Organization, Role, User
from drift_rbac.errors import Conflict
from drift_rbac.policy import Policy
from msgspec import structs

from drift_core.api import Identity, Records, Scope
from drift_core.conformance import open_records
from drift_core.conformance import services as lent

KNOWN_SECONDS = 1.0
"""How soon what one node has changed has to be known to the other."""

EACH = 8


@pytest.fixture
async def nodes(postgresql_url: str) -> AsyncIterator[Sequence[Rbac]]:
    async with AsyncExitStack() as opened:
        every = [
            await opened.enter_async_context(open_records("rbac", "drift_rbac.migrations", postgresql_url))
            for _ in range(2)
        ]
        yield [
            await opened.enter_async_context(open_authorizer(RbacConfig(), lent("rbac", records=records)))
            for records in every
        ]


async def join(node: Rbac, name: str) -> None:
    """Adds somebody to the organization: a change of a row that all who join change."""

    def edit(policy: Policy) -> Directory:
        directory = policy.directory.put(User(id=name))
        organization = directory.get(Organization, "acme")
        return directory.put(structs.replace(organization, members=tuple(sorted({*organization.members, name}))))

    await node.editor.change(edit, None)


async def test_everybody_who_joins_at_any_node_is_a_member(nodes: Sequence[Rbac]) -> None:
    await nodes[0].editor.change(lambda _: Directory().put(Organization(id="acme")), None)
    names = [f"user{number}" for number in range(EACH)]
    await asyncio.gather(*(join(nodes[place % 2], name) for place, name in enumerate(names)))
    for node in nodes:
        policy = await node.editor.policy()
        assert policy.directory.organizations["acme"].members == tuple(names)
        assert policy.revision == 1 + EACH


class Command:
    """The records of a process that hears of no change, since it answers no request."""

    def __init__(self, records: Records) -> None:
        self.read = records.read
        self.write = records.write

    def version(self) -> bytes:
        return b""


async def test_a_command_changes_what_others_have_changed_meanwhile(postgresql_url: str) -> None:
    async with AsyncExitStack() as opened:
        every = []
        for _ in range(2):
            records = await opened.enter_async_context(open_records("rbac", "drift_rbac.migrations", postgresql_url))
            lending = lent("rbac", records=Command(records))
            every.append(await opened.enter_async_context(open_authorizer(RbacConfig(), lending)))
        await every[0].editor.change(lambda _: Directory().put(Organization(id="acme")), None)
        await asyncio.gather(*(join(node, f"user{place}") for place, node in enumerate(every)))
        assert (await every[0].editor.policy()).directory.organizations["acme"].members == ("user0", "user1")


async def test_the_last_admin_is_not_removed_by_two_at_once(nodes: Sequence[Rbac]) -> None:
    admins = [User(id=name, direct_roles=(Assignment("admin"),)) for name in ("ann", "bob")]
    await nodes[0].editor.change(lambda _: Directory().put(*admins), None)

    def without(name: str) -> object:
        return lambda policy: policy.directory.put(User(id=name))

    done = await asyncio.gather(
        *(node.editor.change(without(user.id), None) for node, user in zip(nodes, admins, strict=True)),
        return_exceptions=True,
    )
    assert [type(one) for one in done if not isinstance(one, list)] == [Conflict]


async def test_a_role_that_one_takes_back_is_gone_at_the_other(nodes: Sequence[Rbac]) -> None:
    one, other = nodes
    ann = Identity("ann", "basic")
    asked = [Scope("repository", "acme/app", "push")]
    given = User(id="ann", direct_roles=(Assignment("developer", "organization:acme"),))
    await one.editor.change(lambda _: Directory().put(given, Organization(id="acme", members=("ann",))), None)
    await asyncio.sleep(KNOWN_SECONDS)
    assert (await other.decide(ann, asked))[0].allowed
    await one.editor.change(lambda policy: policy.directory.put(User(id="ann")), None)
    await asyncio.sleep(KNOWN_SECONDS)
    assert not (await other.decide(ann, asked))[0].allowed


async def test_a_policy_is_of_one_moment(nodes: Sequence[Rbac]) -> None:
    """A role and who has it come and go together: nobody ever sees one without the other."""
    one, other = nodes
    ann = User(id="ann", direct_roles=(Assignment("coming"),))
    going = True

    async def change() -> None:
        for _ in range(3 * EACH):
            await one.editor.change(lambda _: Directory().put(Role(id="coming"), ann), None)
            await one.editor.change(lambda _: Directory(), None)

    async def look() -> int:
        times = 0
        while going:
            found = (await other.editor.policy()).directory
            assert bool(found.roles) == bool(found.users)
            times += 1
        return times

    looking = [asyncio.create_task(look()) for _ in range(2)]
    await change()
    going = False
    assert min(await asyncio.gather(*looking)) > 1
