"""What nobody can give, because he does not have it himself, case by case; and beside each, what he can."""

from typing import Any

import pytest
from drift_rbac import edits
from drift_rbac.editing import Edit
from drift_rbac.entities import (
    Assignment,
    Condition,
    Organization,
    Permission,
    Resource,
    Role,
    Settings,
    Team,
    User,
)
from drift_rbac.policy import Policy

from drift_core.api import Denied, Identity, Scope

WITHIN = "organization:acme"
PULL, PUSH = Permission("Repository", "Pull"), Permission("Repository", "Push")
PUBLIC = Settings(allow_public_repos=True, default_visibility="public")


def allowed(policy: Policy, identity: Identity, text: str) -> bool | None:
    return policy.judge(policy.holder(identity), Scope(*text.split(":"))).verdict.allowed


def named(name: str, **login: Any) -> Identity:
    return Identity(name, "test", **login)


def role(name: str, *permissions: tuple[Resource, Any], **fields: Any) -> Role:
    return Role(id=name, permissions=tuple(Permission(*one) for one in permissions), **fields)


def user(name: str, *roles: tuple[str, str], active: bool = True) -> User:
    return User(id=name, direct_roles=tuple(Assignment(*one) for one in roles), active=active)


ALICE = user("alice", ("org-admin", WITHIN))
ACME = Organization(id="acme", members=("alice", "bob"))
BOB = user("bob")


async def gives(rbac: Any, edit: Edit, giver: Identity) -> bool:
    """Returns whether somebody may do an edit, which is not done."""
    try:
        _, found = await rbac.editor.plan(edit, giver)
    except Denied:
        return False
    assert found
    return True


@pytest.mark.parametrize(
    "conditions",
    [
        (Condition("Repository", "*/*"), Condition("Namespace", "acme")),
        (Condition("Repository", "*/*"),),
        (Condition("Namespace", "acme/core"),),
        (Condition("IpRange", "10.0.0.0/8"),),
    ],
)
async def test_everything_under_a_condition(open_policy: Any, conditions: tuple[Condition, ...]) -> None:
    clerk = role("clerk", ("Role", "Admin"), ("User", "ManageRoles"))
    every = Role(id="every", permissions=(Permission("Registry", "Admin", conditions),))
    users = (user("eve", ("clerk", "global")), user("root", ("admin", "global")))
    async with open_policy(ACME, ALICE, BOB, clerk, *users) as rbac:
        assert not await gives(rbac, edits.create(every), named("eve"))
        assert await gives(rbac, edits.create(every), named("root"))
        await rbac.editor.change(edits.create(every), None)
        for scope in ("global", WITHIN, "repository:acme/core/*"):
            assert not await gives(rbac, edits.grant("eve", Assignment("every", scope)), named("eve"))
        assert await gives(rbac, edits.create(role("some", ("Role", "Read"))), named("eve"))


async def test_who_may_not_pull_publishes_nothing(open_policy: Any) -> None:
    editor = role("editor", ("Organization", "Update"))
    eve = user("eve", ("editor", WITHIN), ("push-only", "global"))
    www = Organization(id="acme", members=("alice", "bob"), repositories=("acme/www",))
    published = Organization(id="beta", repositories=("beta/www",), settings=PUBLIC)
    bound = user("max", ("editor", "organization:beta"))
    async with open_policy(www, published, ALICE, BOB, eve, bound, editor, public=("acme/free/*",)) as rbac:

        def changed(key: str, **fields: Any) -> Edit:
            return edits.modify(Organization, key, fields)

        some = Settings(allow_public_repos=True)
        assert not await gives(rbac, changed("acme", settings=PUBLIC), named("eve"))
        assert not await gives(rbac, changed("acme", settings=some), named("eve"))
        assert await gives(rbac, changed("acme", settings=PUBLIC), named("alice"))
        assert await gives(rbac, changed("acme", name="A", repositories=("acme/x",)), named("eve"))
        # What anybody may pull is given to nobody; less may be published by whoever may change it.
        assert await gives(rbac, changed("acme", settings=some, repositories=("acme/free/x",)), named("eve"))
        assert await gives(rbac, changed("beta", settings=some), named("max"))


async def test_who_joins_brings_no_more_than_the_giver_has(open_policy: Any) -> None:
    """By membership alone, roles that name no organization begin to count in it."""
    doorman = role("doorman", ("Organization", "ManageMembers"), ("Team", "ManageMembers"), ("Team", "Update"))
    eve = user("eve", ("doorman", WITHIN), ("developer", "global"))
    other, boss = user("other", ("developer", "global")), user("boss", ("org-admin", "global"))
    team = Team(id="devs", organization_id="acme")
    async with open_policy(ACME, ALICE, BOB, eve, other, boss, doorman, team) as rbac:
        to_acme, to_devs = edits.add_member, edits.add_to_team
        assert allowed(await rbac.policy(), named("eve"), "repository:acme/app:push") is False
        for name in ("eve", "other", "stranger"):
            assert not await gives(rbac, to_acme("acme", name), named("eve")), name
            assert not await gives(rbac, to_devs("acme/devs", name), named("eve")), name
            assert await gives(rbac, to_acme("acme", name), named("alice")), name
            assert await gives(rbac, to_devs("acme/devs", name), named("alice")), name
        # Who is in already gets nothing by it.
        assert await gives(rbac, to_devs("acme/devs", "bob"), named("eve"))
        assert await gives(rbac, to_acme("acme", "boss"), named("alice"))

        groups = edits.modify(Team, "acme/devs", {"groups": ("gh:eve", "gh:all")})
        assert not await gives(rbac, groups, named("eve"))
        assert not await gives(rbac, groups, named("eve", groups=frozenset({"gh:eve"})))
        assert await gives(rbac, groups, named("alice"))
    async with open_policy(ACME, ALICE, BOB, eve, doorman, enable_organization_isolation=False) as rbac:
        assert await gives(rbac, edits.add_member("acme", "eve"), named("eve"))


async def test_a_group_is_no_way_around_managing_members(open_policy: Any) -> None:
    lead = role("lead", ("Team", "Admin"), ("Repository", "Admin"), ("Organization", "Read"))
    team = Team(id="devs", organization_id="acme")
    groups = edits.modify(Team, "acme/devs", {"groups": ("gh:all",)})
    eve = user("eve", ("lead", WITHIN))
    async with open_policy(ACME, ALICE, BOB, eve, lead, team) as rbac:
        assert not await gives(rbac, groups, named("eve"))
        assert await gives(rbac, edits.add_to_team("acme/devs", "zoe"), named("eve"))
    # Nor is it where the giver could do that, but what the group has by default is more than he has.
    doorman = role("lead", ("Organization", "ManageMembers"))
    async with open_policy(ACME, ALICE, BOB, eve, doorman, team) as rbac:
        assert not await gives(rbac, groups, named("eve"))
    async with open_policy(ACME, ALICE, BOB, eve, doorman, team, default_role="") as rbac:
        assert await gives(rbac, groups, named("eve"))
        mine = named("eve", groups=frozenset({"gh:all"}), roles=frozenset({"viewer"}))
        assert not await gives(rbac, groups, mine)


@pytest.mark.parametrize("held", ["r", "child", "scoped", "team"])
async def test_a_role_gives_where_it_is_held(open_policy: Any, held: str) -> None:
    """Eve may push everywhere but in acme, and to push there she would change a role that somebody has there."""
    entities: list[Any] = [ACME, ALICE, BOB, role("editor", ("Role", "Update")), Role(id="r", permissions=(PULL,))]
    entities += [Role(id="child", parent_role="r"), Role(id="scoped", parent_role="r", scope=WITHIN)]
    mine = [("developer", "global"), ("editor", "global")]
    if held == "team":
        entities.append(Team(id="devs", organization_id="acme", roles=("child",)))
    elif held != "scoped":
        mine.append((held, WITHIN))
    # "scoped" is held by nobody here: a login may name it.
    if held != "scoped":
        entities = [one for one in entities if one.key != "scoped"]
    async with open_policy(*entities, user("eve", *mine), user("root", ("admin", "global"))) as rbac:
        more = edits.modify(Role, "r", {"permissions": (PULL, PUSH)})
        assert not await gives(rbac, more, named("eve"))
        assert await gives(rbac, more, named("root"))
        # What it has given before is not given by this.
        assert await gives(rbac, edits.modify(Role, "r", {"description": "x"}), named("eve"))


async def test_a_role_that_nobody_has_in_an_organization(open_policy: Any) -> None:
    eve = user("eve", ("developer", "global"), ("editor", "global"))
    editor, changed = role("editor", ("Role", "Update")), Role(id="r", permissions=(PULL,))
    async with open_policy(ACME, ALICE, BOB, eve, editor, changed, user("x", ("r", "global"))) as rbac:
        more = edits.modify(Role, "r", {"permissions": (PULL, PUSH)})
        assert await gives(rbac, more, named("eve"))


async def test_who_is_made_active_again_is_given_what_he_has(open_policy: Any) -> None:
    clerk = role("clerk", ("User", "Update"), ("User", "Delete"), ("Repository", "Pull"))
    asleep = [
        user("was-admin", ("admin", "global"), active=False),
        user("was-owner", ("org-admin", WITHIN), active=False),
        user("in-team", active=False),
        user("root", active=False),
        user("member", ("clerk", "global"), active=False),
        user("nobody", active=False),
    ]
    acme = Organization(id="acme", members=("alice", "bob", "member"))
    devs = Team(id="devs", organization_id="acme", members=("in-team",), roles=("developer",), groups=("g",))
    async with open_policy(
        acme, ALICE, BOB, devs, clerk, user("eve", ("clerk", "global")), *asleep, admins=("root", "boss")
    ) as rbac:

        def woken(name: str) -> Edit:
            return edits.modify(User, name, {"active": True})

        for name in ("was-admin", "was-owner", "in-team", "root", "member"):
            assert not await gives(rbac, woken(name), named("eve")), name
            assert await gives(rbac, woken(name), named("boss")), name
        assert await gives(rbac, woken("nobody"), named("eve"))
        assert await gives(rbac, edits.modify(User, "was-admin", {"email": "x@example.org"}), named("eve"))
        # Whoever is deleted is active too, and the configuration makes this one an admin.
        assert not await gives(rbac, edits.delete(User, "root"), named("eve"))
        assert await gives(rbac, edits.delete(User, "was-admin"), named("eve"))
