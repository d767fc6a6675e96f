"""The pages of the console, asked directly: what they show, what each act changes, and the right that each needs."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from drift_rbac import pages as ours
from drift_rbac.authorizer import Rbac
from drift_rbac.entities import Assignment, Entity, Organization, Permission, Role, Team, User
from drift_rbac.errors import Conflict, EntityInvalid, EntityUnknown
from drift_rbac.pages import pages_over

from drift_core.api import Denied, Identity, Scope, SupportsPages, pages
from drift_core.conformance import MemoryAuthenticator, MemoryIssuer, access_by

from .conftest import OpenPolicy

ROOT = Identity("root", "test")
ENTITIES: tuple[Entity, ...] = (
    User(id="root", direct_roles=(Assignment("admin"),)),
    User(id="ann", email="ann@example.org", direct_roles=(Assignment("org-admin", "organization:acme"),)),
    User(id="bob", full_name="Bob B", direct_roles=(Assignment("developer"),)),
    Organization(id="acme", name="Acme", owner_id="ann", members=("ann", "bob")),
    Organization(id="other", members=()),
    Team(id="core", organization_id="acme", members=("ann",), roles=("viewer",)),
    Role(id="puller", permissions=(Permission("Repository", "Pull"),), description="may pull"),
)


class Console:
    """Asks pages and acts of one policy, in the name of ``root`` unless somebody else is named."""

    def __init__(self, rbac: Rbac) -> None:
        assert isinstance(rbac, SupportsPages)
        self.rbac = rbac
        access = access_by([MemoryAuthenticator({}, MemoryIssuer({}))], [rbac])
        self.pages = {page.path: page for page in pages_over(rbac.editor, access)}
        assert set(self.pages) == {page.path for page in rbac.pages()}

    async def show(self, path: str, parts: Mapping[str, str] | None = None, /, **query: str) -> list[Any]:
        return list(await self.pages[path].show(asked(parts, query=query)))

    async def act(
        self, path: str, act: str, parts: Mapping[str, str] | None = None, /, who: Identity = ROOT, **form: str
    ) -> pages.Done:
        return await self.pages[path].acts[act].do(asked(parts, who, form=form))

    async def get(self, kind: type[Any], key: str) -> Any:
        return (await self.rbac.policy()).directory.get(kind, key)


def asked(
    parts: Mapping[str, str] | None = None,
    who: Identity | None = ROOT,
    query: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> pages.Asked:
    return pages.Asked(who, parts or {}, query or {}, form or {}, "registry.example")


@pytest.fixture
async def console(open_policy: OpenPolicy) -> AsyncIterator[Console]:
    async with open_policy(*ENTITIES) as rbac:
        yield Console(rbac)


def rows(blocks: list[Any], title: str) -> list[Any]:
    (table,) = [one for one in blocks if isinstance(one, pages.Table) and one.title == title]
    return [tuple(map(plain, row)) for row in table.rows]


def plain(cell: Any) -> Any:
    return cell.text if isinstance(cell, pages.Link | pages.State) else cell


def facts(blocks: list[Any]) -> dict[str, Any]:
    (found,) = [one for one in blocks if isinstance(one, pages.Facts)]
    return dict(found.rows)


USER, ORGANIZATION, TEAM, ROLE = (
    "/users/{user}",
    "/organizations/{organization}",
    "/organizations/{organization}/teams/{team}",
    "/roles/{role}",
)
ANN, BOB, ACME = {"user": "ann"}, {"user": "bob"}, {"organization": "acme"}
CORE, PULLER = {"organization": "acme", "team": "core"}, {"role": "puller"}


async def test_users_are_found(console: Console) -> None:
    blocks = await console.show("/users")
    assert [row[0] for row in rows(blocks, "Users")] == ["ann", "bob", "root"]
    assert rows(await console.show("/users", q="BOB b"), "Users") == [
        ("bob", "Bob B", "", "developer", "acme", "active")
    ]
    assert [row[0] for row in rows(await console.show("/users", role="admin"), "Users")] == ["root"]
    assert rows(await console.show("/users", q="nobody"), "Users") == []


async def test_a_long_list_goes_on(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SHOWN", 2)
    blocks = await console.show("/users", q="")
    (table,) = [one for one in blocks if isinstance(one, pages.Table)]
    assert table.more == pages.Link("More", "/users?last=bob")
    assert [row[0] for row in rows(await console.show("/users", last="bob"), "Users")] == ["root"]


async def test_a_user_is_made_changed_suspended_and_removed(console: Console) -> None:
    done = await console.act("/users", "create", id="eve/x", email="e@example.org", full_name="Eve")
    assert done.then == "/users/eve%2Fx"
    eve = {"user": "eve/x"}
    assert (await console.get(User, "eve/x")).email == "e@example.org"
    with pytest.raises(Conflict):
        await console.act("/users", "create", id="eve/x")
    for wrong in ("", "a*b"):
        with pytest.raises(EntityInvalid):
            await console.act("/users", "create", id=wrong)
    await console.act(USER, "change", eve, email="", full_name="Eve E")
    user = await console.get(User, "eve/x")
    assert (user.email, user.full_name) == ("", "Eve E")
    await console.act(USER, "suspend", eve)
    blocks = await console.show(USER, eve)
    assert facts(blocks)["Status"] == pages.State("suspended", "bad")
    assert [one.act for one in blocks if isinstance(one, pages.Form)][-2:] == ["activate", "remove"]
    await console.act(USER, "activate", eve)
    assert (await console.get(User, "eve/x")).active
    assert (await console.act(USER, "remove", eve)).then == "/users"
    with pytest.raises(EntityUnknown):
        await console.show(USER, eve)


async def test_roles_of_a_user(console: Console) -> None:
    await console.act(USER, "grant", BOB, role="puller", scope="organization:acme")
    blocks = await console.show(USER, BOB)
    assert rows(blocks, "Roles that were assigned") == [("developer", "global"), ("puller", "organization:acme")]
    assert ("puller", "repository.pull", "acme, acme/*") in rows(blocks, "What these permit")
    (taking,) = [one for one in blocks if isinstance(one, pages.Form) and one.act == "revoke"]
    assert list(taking.fields[0].choices) == ["developer global", "puller organization:acme"]
    await console.act(USER, "revoke", BOB, assignment="puller organization:acme")
    assert (await console.get(User, "bob")).direct_roles == (Assignment("developer"),)
    for form, error in (
        ({"role": "none", "scope": ""}, EntityUnknown),
        ({"role": "viewer", "scope": "everywhere"}, EntityInvalid),
    ):
        with pytest.raises(error):
            await console.act(USER, "grant", BOB, **form)
    with pytest.raises(EntityUnknown):
        await console.act(USER, "revoke", BOB, assignment="puller organization:acme")


async def test_nobody_gives_what_he_may_not(console: Console) -> None:
    """The form needs a right that all have who are known: which role needs more is asked by the act."""
    ann = Identity("ann", "test")
    for act, form in (("grant", {"role": "viewer"}), ("revoke", {"assignment": "developer global"})):
        with pytest.raises(Denied, match="user:bob:manage_roles"):
            await console.act(USER, act, BOB, who=ann, **form)
    with pytest.raises(Denied):
        await console.act(USER, "grant", BOB, who=ann, role="admin", scope="organization:acme")
    await console.act(USER, "grant", BOB, who=ann, role="viewer", scope="organization:acme")
    assert Assignment("viewer", "organization:acme") in (await console.get(User, "bob")).direct_roles


async def test_organizations_and_members(console: Console) -> None:
    listed = rows(await console.show("/organizations"), "Organizations")
    assert listed == [("acme", "Acme", "ann", 2), ("other", "", None, 0)]
    assert len(rows(await console.show("/organizations", q="ACM"), "Organizations")) == 1
    seen = await console.pages["/organizations"].show(asked(who=Identity("bob", "test")))
    assert [row[0] for row in rows(list(seen), "Organizations")] == ["acme"], "others are not his to read"
    done = await console.act("/organizations", "create", id="new", name="New", description="", owner_id="")
    assert done.then == "/organizations/new"
    assert (await console.get(Organization, "new")).owner_id == "root"
    with pytest.raises(EntityInvalid):
        await console.act("/organizations", "create", id="Upper")

    await console.act(ORGANIZATION, "change", ACME, name="Acme 2", description="d", owner_id="bob")
    acme = await console.get(Organization, "acme")
    assert (acme.name, acme.description, acme.owner_id) == ("Acme 2", "d", "bob")
    await console.act(ORGANIZATION, "add", ACME, user="eve", roles="viewer puller")
    blocks = await console.show(ORGANIZATION, ACME)
    assert ("eve", "puller, viewer") in rows(blocks, "Members")
    assert rows(blocks, "Teams") == [("core", "", 1, "viewer")]
    await console.act(ORGANIZATION, "take_out", ACME, user="eve")
    assert "eve" not in (await console.get(Organization, "acme")).members
    with pytest.raises(EntityUnknown):
        await console.act(ORGANIZATION, "take_out", ACME, user="eve")
    assert (await console.act(ORGANIZATION, "remove", {"organization": "new"})).then == "/organizations"
    with pytest.raises(EntityUnknown):
        await console.show(ORGANIZATION, {"organization": "new"})


async def test_teams(console: Console) -> None:
    done = await console.act(ORGANIZATION, "create_team", ACME, id="web", name="Web")
    assert done.then == "/organizations/acme/teams/web"
    with pytest.raises(EntityUnknown):
        await console.act(ORGANIZATION, "create_team", {"organization": "none"}, id="web")
    await console.act(TEAM, "change", CORE, name="Core", description="", repositories="acme/a acme/b-*")
    await console.act(TEAM, "add", CORE, user="bob")
    await console.act(TEAM, "give", CORE, role="puller")
    blocks = await console.show(TEAM, CORE)
    assert facts(blocks)["For repositories"] == "acme/a, acme/b-*"
    assert rows(blocks, "Members") == [("ann",), ("bob",)]
    assert rows(blocks, "Roles") == [("puller",), ("viewer",)]
    await console.act(TEAM, "take_out", CORE, user="ann")
    await console.act(TEAM, "take", CORE, role="viewer")
    team = await console.get(Team, "acme/core")
    assert (team.members, team.roles, team.name) == (("bob",), ("puller",), "Core")
    with pytest.raises(EntityInvalid):
        await console.act(TEAM, "change", CORE, repositories="other/*")
    assert (await console.act(TEAM, "remove", CORE)).then == "/organizations/acme"
    with pytest.raises(EntityUnknown):
        await console.show(TEAM, CORE)


async def test_roles(console: Console) -> None:
    listed = rows(await console.show("/roles"), "Roles")
    assert {"admin", "developer", "viewer", "puller"} <= {row[0] for row in listed}
    assert ("puller", "may pull", "global", 0, None, None) in listed
    form = {"name": "", "description": "", "parent_role": "puller", "scope": "organization:acme", "priority": "7"}
    await console.act("/roles", "create", id="pusher", **form)
    pusher = {"role": "pusher"}
    await console.act(ROLE, "permit", pusher, resource="Repository", action="Push")
    await console.act(ROLE, "permit", pusher, resource="Image", action="Tag")
    role = await console.get(Role, "pusher")
    assert (role.parent_role, role.scope, role.priority) == ("puller", "organization:acme", 7)
    blocks = await console.show(ROLE, pusher)
    assert rows(blocks, "Permissions") == [("repository.push", ""), ("image.tag", "")]
    (forbid,) = [one for one in blocks if isinstance(one, pages.Form) and one.act == "forbid"]
    assert list(forbid.fields[0].choices) == ["0 repository.push", "1 image.tag"]
    await console.act(ROLE, "forbid", pusher, permission="0 repository.push")
    assert (await console.get(Role, "pusher")).permissions == (Permission("Image", "Tag"),)
    with pytest.raises(EntityInvalid, match="changed meanwhile"):
        await console.act(ROLE, "forbid", pusher, permission="0 repository.push")
    with pytest.raises(EntityInvalid):
        await console.act(ROLE, "permit", pusher, resource="Repository", action="Eat")
    for wrong in ({"priority": "x"}, {"priority": "1001"}, {"scope": "nowhere"}, {"parent_role": "none"}):
        with pytest.raises(EntityInvalid):
            await console.act(ROLE, "change", pusher, **{**form, **wrong})
    await console.act(ROLE, "change", pusher, **{**form, "description": "pushes", "parent_role": ""})
    role = await console.get(Role, "pusher")
    assert (role.description, role.parent_role) == ("pushes", None)
    await console.act(ROLE, "remove", pusher)
    blocks = await console.show(ROLE, {"role": "admin"})
    assert not [one for one in blocks if isinstance(one, pages.Form)], "it is built in"
    with pytest.raises(Conflict):
        await console.act(ROLE, "remove", {"role": "admin"})


async def test_roles_of_organizations_that_one_may_not_read_are_not_shown(open_policy: OpenPolicy) -> None:
    async with open_policy(*ENTITIES, Role(id="secret", scope="organization:other")) as rbac:
        console = Console(rbac)
        for who, shown in ((ROOT, True), (Identity("bob", "test"), False)):
            blocks = list(await console.pages["/roles"].show(asked(who=who)))
            assert ("secret" in [row[0] for row in rows(blocks, "Roles")]) is shown
            assert offered(blocks) is shown
            for path, parts in (
                ("/users", None),
                (USER, {"user": "ann"}),
                (TEAM, {"organization": "acme", "team": "core"}),
                (ROLE, {"role": "puller"}),
            ):
                assert offered(list(await console.pages[path].show(asked(parts, who)))) is shown, path


def offered(blocks: list[Any]) -> bool:
    """Returns whether any of the lists of roles has the secret one."""
    fields = [field for one in blocks if isinstance(one, pages.Form) for field in one.fields]
    return any("secret" in field.choices for field in fields if field.name in ("role", "parent_role"))


MATCHES = [
    ("/users", None, "GET", "/api/users"),
    ("/users", "create", "POST", "/api/users"),
    (USER, None, "GET", "/api/users/{user:str}"),
    (USER, None, "GET", "/api/users/{user:str}/permissions"),
    (USER, "change", "PUT", "/api/users/{user:str}"),
    (USER, "suspend", "PUT", "/api/users/{user:str}"),
    (USER, "activate", "PUT", "/api/users/{user:str}"),
    (USER, "grant", "POST", "/api/users/{user:str}/roles"),
    (USER, "revoke", "DELETE", "/api/users/{user:str}/roles/{role:str}"),
    (USER, "remove", "DELETE", "/api/users/{user:str}"),
    ("/organizations", None, "GET", "/api/organizations"),
    ("/organizations", "create", "POST", "/api/organizations"),
    (ORGANIZATION, None, "GET", "/api/organizations/{organization:str}"),
    (ORGANIZATION, None, "GET", "/api/organizations/{organization:str}/members"),
    (ORGANIZATION, None, "GET", "/api/organizations/{organization:str}/teams"),
    (ORGANIZATION, "change", "PUT", "/api/organizations/{organization:str}"),
    (ORGANIZATION, "add", "POST", "/api/organizations/{organization:str}/members"),
    (ORGANIZATION, "take_out", "DELETE", "/api/organizations/{organization:str}/members/{user:str}"),
    (ORGANIZATION, "create_team", "POST", "/api/organizations/{organization:str}/teams"),
    (ORGANIZATION, "remove", "DELETE", "/api/organizations/{organization:str}"),
    (TEAM, None, "GET", "/api/organizations/{organization:str}/teams/{team:str}"),
    (TEAM, "change", "PUT", "/api/organizations/{organization:str}/teams/{team:str}"),
    (TEAM, "add", "POST", "/api/organizations/{organization:str}/teams/{team:str}/members"),
    (TEAM, "take_out", "DELETE", "/api/organizations/{organization:str}/teams/{team:str}/members/{user:str}"),
    (TEAM, "give", "POST", "/api/organizations/{organization:str}/teams/{team:str}/roles"),
    (TEAM, "take", "DELETE", "/api/organizations/{organization:str}/teams/{team:str}/roles/{role:str}"),
    (TEAM, "remove", "DELETE", "/api/organizations/{organization:str}/teams/{team:str}"),
    ("/roles", None, "GET", "/api/roles"),
    ("/roles", "create", "POST", "/api/roles"),
    (ROLE, None, "GET", "/api/roles/{role:str}"),
    (ROLE, "change", "PUT", "/api/roles/{role:str}"),
    (ROLE, "permit", "PUT", "/api/roles/{role:str}"),
    (ROLE, "forbid", "PUT", "/api/roles/{role:str}"),
    (ROLE, "remove", "DELETE", "/api/roles/{role:str}"),
]
"""Each page and act, and the route that does the same."""

PARTS = {"user": "u", "organization": "o", "team": "t", "role": "r"}


def scope_of(needed: Any) -> Scope:
    scope = needed(PARTS) if callable(needed) else needed
    assert isinstance(scope, Scope)
    return scope


async def test_each_needs_what_its_route_needs(console: Console) -> None:
    handlers = console.rbac.routes()
    for path, act, method, route in MATCHES:
        (handler,) = [one for one in handlers if route in one.paths and method in one.http_methods]
        page = console.pages[path]
        needed = page.needs if act is None else page.acts[act].needs
        assert scope_of(needed) == scope_of(handler.opt["scope"]), (path, act)
    known = {(path, act) for path, act, *_ in MATCHES}
    assert known == {(path, act) for path, page in console.pages.items() for act in (None, *page.acts)}


async def test_those_in_the_menu(console: Console) -> None:
    menu = {path: page.menu for path, page in console.pages.items() if page.menu is not None}
    assert menu == {"/users": "Users", "/organizations": "Organizations", "/roles": "Roles"}
