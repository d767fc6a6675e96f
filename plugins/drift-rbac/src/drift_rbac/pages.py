"""The pages of the console: users, organizations, teams and roles, with what the routes can do to them.

Each act is the same edit as that of a route, and needs the same right.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args
from urllib.parse import quote, urlencode

from drift_core.api import Access, Denied, Identity, Scope, pages
from drift_rbac import edits
from drift_rbac.answering import needs
from drift_rbac.builtin import BUILT_IN
from drift_rbac.directory import Directory
from drift_rbac.editing import Edit, Editor
from drift_rbac.entities import (
    GLOBAL,
    Action,
    Assignment,
    Organization,
    Permission,
    Resource,
    Role,
    Team,
    User,
)
from drift_rbac.errors import EntityInvalid
from drift_rbac.policy import Policy
from drift_rbac.role_routes import seen
from drift_rbac.user_routes import Permitted, needed, permitted

T = TypeVar("T")

SHOWN: Final = 100
"""Rows of a table; a list goes on behind the last one, of what belongs to one entity the first are shown."""

LISTS_ROLES: Final = Scope("role", "*", "list")
ACTIVE: Final = pages.State("active", "good")
SUSPENDED: Final = pages.State("suspended", "bad")


def pages_over(editor: Editor, access: Access) -> Sequence[pages.Page]:
    """Returns the pages."""
    users, organizations, teams, roles = _Users(editor, access), _Organizations(editor), _Teams(editor), _Roles(editor)
    return [*users.offered(), *organizations.offered(), *teams.offered(), *roles.offered()]


class _Part:
    """What the pages of every kind of entity do alike."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    async def _directory(self) -> Directory:
        return (await self._editor.policy()).directory

    async def _done(self, asked: pages.Asked, edit: Edit, message: str, then: str | None = None) -> pages.Done:
        """Makes a change in the name of who asks. Raises what `Editor.change` does."""
        await self._editor.change(edit, asked.identity)
        return pages.Done(message, then=then)


class _Users(_Part):
    def __init__(self, editor: Editor, access: Access) -> None:
        super().__init__(editor)
        self._access = access

    def offered(self) -> Sequence[pages.Page]:
        updates = needs("user", "update", "{user}")
        acts = {
            "change": pages.Act(self.change, updates),
            "suspend": pages.Act(self.suspend, updates),
            "activate": pages.Act(self.activate, updates),
            # Which right a role needs is not in the path but in its scope.
            "grant": pages.Act(self.grant, LISTS_ROLES),
            "revoke": pages.Act(self.revoke, LISTS_ROLES),
            "remove": pages.Act(self.remove, needs("user", "delete", "{user}")),
        }
        create = {"create": pages.Act(self.create, Scope("user", "*", "create"))}
        lists = Scope("user", "*", "list")
        return [
            pages.Page("/users", "Users", self.list_all, "Users", lists, create),
            pages.Page("/users/{user}", "User", self.show, None, needs("user", "read", "{user}"), acts),
        ]

    async def list_all(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy = await self._editor.policy()
        wanted, role = asked.query.get("q", "").strip().casefold(), asked.query.get("role", "")
        users = policy.directory.users
        names = [name for name in sorted(users) if _matches(users[name], wanted, role)]
        shown, more = _part(asked, "/users", names)
        columns = ("User", "Name", "Email", "Roles", "Organizations", "Status")
        rows = [_user(policy, users[name]) for name in shown]
        return (
            _search(asked, pages.Field("role", "Role", "choice", role, ("", *_role_names(policy, asked)))),
            pages.Table("Users", columns, rows, "Nobody is known. Who logs in needs no entry here.", more),
            pages.Form("Make a user", "Make", (_ID, *_ABOUT_USER), "create"),
        )

    async def create(self, asked: pages.Asked) -> pages.Done:
        name = _text(asked, "id")
        user = edits.changed(User(id=name), _given(asked, "email", "full_name"))
        return await self._done(asked, edits.create(user), f"{name} is known now.", _path("users", name))

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy = await self._editor.policy()
        user = policy.directory.get(User, asked.path["user"])
        holder, identity = policy.holder(Identity(user.id, "rbac")), Identity(user.id, "rbac")
        teams = ", ".join(sorted(team.key for team in policy.teams_of(identity)))
        facts: list[tuple[str, pages.Cell]] = [
            ("User", user.id),
            ("Name", user.full_name),
            ("Email", user.email),
            ("Status", ACTIVE if user.active else SUSPENDED),
            ("Organizations", ", ".join(sorted(holder.organizations))),
            ("Teams", teams),
            *((f"Attribute {name}", value) for name, value in sorted(user.attributes.items())[:SHOWN]),
        ]
        roles = [(_link(one.role, "roles", one.role), one.scope) for one in user.direct_roles[:SHOWN]]
        rights = [_right(permitted(grant)) for grant in holder.grants[:SHOWN]]
        values = (_field("email", "Email", user.email), _field("full_name", "Name", user.full_name))
        role = pages.Field("role", "Role", "choice", choices=_role_names(policy, asked))
        scope = pages.Field("scope", "Within", value=GLOBAL, hint="global, organization:ID, namespace:PATH, ...")
        held = [f"{one.role} {one.scope}" for one in user.direct_roles[:SHOWN]]
        way = ("Suspend", "suspend") if user.active else ("Activate", "activate")
        return (
            pages.Facts("User", facts),
            pages.Table("Roles that were assigned", ("Role", "Within"), roles, "None was."),
            pages.Table("What these permit", ("Role", "Permission", "Within"), rights, "Nothing."),
            pages.Form("Change", "Change", values, "change"),
            pages.Form("Assign a role", "Assign", (role, scope), "grant"),
            *((_choosing("Take a role away", "assignment", held, "revoke"),) if held else ()),
            pages.Form(f"{way[0]} this user", way[0], act=way[1], danger=user.active),
            pages.Form("Remove this user", "Remove", act="remove", danger=True),
        )

    async def change(self, asked: pages.Asked) -> pages.Done:
        edit = edits.modify(User, asked.path["user"], _given(asked, "email", "full_name"))
        return await self._done(asked, edit, "The user is changed.")

    async def suspend(self, asked: pages.Asked) -> pages.Done:
        edit = edits.modify(User, asked.path["user"], {"active": False})
        return await self._done(asked, edit, "The user may do nothing any more.")

    async def activate(self, asked: pages.Asked) -> pages.Done:
        edit = edits.modify(User, asked.path["user"], {"active": True})
        return await self._done(asked, edit, "The user has again what was assigned.")

    async def grant(self, asked: pages.Asked) -> pages.Done:
        user, given = asked.path["user"], _assignment(_text(asked, "role"), _text(asked, "scope") or GLOBAL)
        await self._admit(asked, user, given)
        return await self._done(asked, edits.grant(user, given), f"{user} has the role {given.role}.")

    async def revoke(self, asked: pages.Asked) -> pages.Done:
        user, (role, _, scope) = asked.path["user"], _text(asked, "assignment").partition(" ")
        taken = _assignment(role, scope or GLOBAL)
        await self._admit(asked, user, taken)
        return await self._done(asked, edits.revoke(user, taken), f"{user} has no longer the role {role}.")

    async def remove(self, asked: pages.Asked) -> pages.Done:
        edit = edits.delete(User, asked.path["user"])
        return await self._done(asked, edit, f"{asked.path['user']} is removed.", "/users")

    async def _admit(self, asked: pages.Asked, user: str, assignment: Assignment) -> None:
        """Raises `Denied` unless who asks manages the roles where this one counts."""
        scope = needed(user, assignment)
        if not all(await self._access.verdicts(asked.identity, [scope])):
            raise Denied(f"this needs {scope}")


class _Organizations(_Part):
    def offered(self) -> Sequence[pages.Page]:
        named = "{organization}"
        manages = needs("organization", "manage_members", named)
        acts = {
            "change": pages.Act(self.change, needs("organization", "update", named)),
            "add": pages.Act(self.add, manages),
            "take_out": pages.Act(self.take_out, manages),
            "create_team": pages.Act(self.create_team, needs("team", "create", "{organization}/")),
            "remove": pages.Act(self.remove, needs("organization", "delete", named)),
        }
        create = {"create": pages.Act(self.create, Scope("organization", "*", "create"))}
        lists, reads = Scope("organization", "*", "list"), needs("organization", "read", named)
        return [
            pages.Page("/organizations", "Organizations", self.list_all, "Organizations", lists, create),
            pages.Page("/organizations/{organization}", "Organization", self.show, None, reads, acts),
        ]

    async def list_all(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy = await self._editor.policy()
        every, wanted = policy.directory.organizations, asked.query.get("q", "").strip().casefold()
        # As the route: those that who asks may read.
        may = every if asked.identity is None else policy.organizations_seen(policy.holder(asked.identity))
        names = [name for name in sorted(may) if wanted in f"{name}\n{every[name].name}".casefold()]
        shown, more = _part(asked, "/organizations", names)
        rows = [
            (_link(name, "organizations", name), every[name].name, every[name].owner_id, len(every[name].members))
            for name in shown
        ]
        columns = ("Organization", "Name", "Owner", "Members")
        return (
            _search(asked),
            pages.Table("Organizations", columns, rows, "There is none.", more),
            pages.Form("Make an organization", "Make", (_ID, *_ABOUT, _OWNER), "create"),
        )

    async def create(self, asked: pages.Asked) -> pages.Done:
        name, sender = _text(asked, "id"), asked.identity
        owner = _text(asked, "owner_id") or (None if sender is None else sender.name)
        fields = {**_given(asked, "name", "description"), "owner_id": owner}
        made = edits.changed(Organization(id=name), fields)
        return await self._done(asked, edits.create(made), f"{name} is made.", _path("organizations", name))

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        directory = await self._directory()
        found = directory.get(Organization, asked.path["organization"])
        settings = found.settings
        facts: list[tuple[str, pages.Cell]] = [
            ("Organization", found.id),
            ("Name", found.name),
            ("Description", found.description),
            ("Owner", found.owner_id),
            ("Anybody may pull", ", ".join(found.public) or "nothing"),
            ("Most members", settings.max_members),
        ]
        if settings.require_2fa:
            facts.append(("Two factors", "asked for, and not enforced: only a login provider can ask for them"))
        shown, more = _part(asked, _path("organizations", found.id), sorted(found.members))
        members = [(_link(name, "users", name), _roles_within(directory, name, found.id)) for name in shown]
        teams = sorted(directory.teams_of(found.id), key=lambda team: team.id)[:SHOWN]
        rows = [(_team_link(team), team.name, len(team.members), ", ".join(team.roles)) for team in teams]
        values = (_field("name", "Name", found.name), _field("description", "Description", found.description))
        add = (_USER, _field("roles", "Roles for it", "", "with spaces between"))
        return (
            pages.Facts("Organization", facts),
            pages.Table("Members", ("Member", "Roles for it"), members, "It has none.", more),
            pages.Table("Teams", ("Team", "Name", "Members", "Roles"), rows, "It has none."),
            pages.Form("Change", "Change", (*values, _field("owner_id", "Owner", found.owner_id or "")), "change"),
            pages.Form("Add a member", "Add", add, "add"),
            pages.Form("Take out a member", "Take out", (_USER,), "take_out", danger=True),
            pages.Form("Make a team", "Make", (_ID, *_ABOUT), "create_team"),
            pages.Form("Remove the organization, with its teams", "Remove", act="remove", danger=True),
        )

    async def change(self, asked: pages.Asked) -> pages.Done:
        fields = {**_given(asked, "name", "description"), "owner_id": _text(asked, "owner_id") or None}
        edit = edits.modify(Organization, asked.path["organization"], fields)
        return await self._done(asked, edit, "The organization is changed.")

    async def add(self, asked: pages.Asked) -> pages.Done:
        user, roles = _text(asked, "user"), _text(asked, "roles").split()
        edit = edits.add_member(asked.path["organization"], user, roles)
        return await self._done(asked, edit, f"{user} is a member.")

    async def take_out(self, asked: pages.Asked) -> pages.Done:
        user = _text(asked, "user")
        edit = edits.remove_member(asked.path["organization"], user)
        return await self._done(asked, edit, f"{user} has nothing in the organization any more.")

    async def create_team(self, asked: pages.Asked) -> pages.Done:
        organization, name = asked.path["organization"], _text(asked, "id")
        (await self._directory()).get(Organization, organization)
        team = edits.changed(Team(id=name, organization_id=organization), _given(asked, "name", "description"))
        then = _path("organizations", organization, "teams", name)
        return await self._done(asked, edits.create(team), f"The team {name} is made.", then)

    async def remove(self, asked: pages.Asked) -> pages.Done:
        name = asked.path["organization"]
        message = f"{name} is removed; its repositories belong to none."
        return await self._done(asked, edits.delete(Organization, name), message, "/organizations")


class _Teams(_Part):
    def offered(self) -> Sequence[pages.Page]:
        named = "{organization}/{team}"
        manages, gives = needs("team", "manage_members", named), needs("team", "manage_roles", named)
        acts = {
            "change": pages.Act(self.change, needs("team", "update", named)),
            "add": pages.Act(self.add, manages),
            "take_out": pages.Act(self.take_out, manages),
            "give": pages.Act(self.give, gives),
            "take": pages.Act(self.take, gives),
            "remove": pages.Act(self.remove, needs("team", "delete", named)),
        }
        path, reads = "/organizations/{organization}/teams/{team}", needs("team", "read", named)
        return [pages.Page(path, "Team", self.show, None, reads, acts)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy = await self._editor.policy()
        team = policy.directory.get(Team, _key(asked))
        facts: list[tuple[str, pages.Cell]] = [
            ("Team", team.id),
            ("Organization", _link(team.organization_id, "organizations", team.organization_id)),
            ("Name", team.name),
            ("Description", team.description),
            ("For repositories", ", ".join(team.repositories[:SHOWN]) or "all of the organization"),
            ("Also whoever is in", ", ".join(team.groups[:SHOWN])),
        ]
        path = _path("organizations", team.organization_id, "teams", team.id)
        shown, more = _part(asked, path, sorted(team.members))
        members = [(_link(name, "users", name),) for name in shown]
        roles = [(_link(name, "roles", name),) for name in team.roles[:SHOWN]]
        role = pages.Field("role", "Role", "choice", choices=_role_names(policy, asked))
        values = (
            _field("name", "Name", team.name),
            _field("description", "Description", team.description),
            _field("repositories", "For repositories", " ".join(team.repositories), "globs, with spaces between"),
        )
        return (
            pages.Facts("Team", facts),
            pages.Table("Members", ("Member",), members, "It has none.", more),
            pages.Table("Roles", ("Role",), roles, "It has none."),
            pages.Form("Change", "Change", values, "change"),
            pages.Form("Add a member", "Add", (_USER,), "add"),
            pages.Form("Take out a member", "Take out", (_USER,), "take_out", danger=True),
            pages.Form("Give a role", "Give", (role,), "give"),
            *((_choosing("Take a role away", "role", team.roles[:SHOWN], "take"),) if team.roles else ()),
            pages.Form("Remove the team", "Remove", act="remove", danger=True),
        )

    async def change(self, asked: pages.Asked) -> pages.Done:
        repositories = tuple(_text(asked, "repositories").split())
        fields = {**_given(asked, "name", "description"), "repositories": repositories}
        return await self._done(asked, edits.modify(Team, _key(asked), fields), "The team is changed.")

    async def add(self, asked: pages.Asked) -> pages.Done:
        user = _text(asked, "user")
        return await self._done(asked, edits.add_to_team(_key(asked), user), f"{user} is in the team.")

    async def take_out(self, asked: pages.Asked) -> pages.Done:
        user = _text(asked, "user")
        return await self._done(
            asked, edits.remove_from_team(_key(asked), user), f"{user} is not in the team any more."
        )

    async def give(self, asked: pages.Asked) -> pages.Done:
        role = _text(asked, "role")
        return await self._done(asked, edits.give_team(_key(asked), role), f"The team has the role {role}.")

    async def take(self, asked: pages.Asked) -> pages.Done:
        role = _text(asked, "role")
        return await self._done(asked, edits.take_from_team(_key(asked), role), f"The team has no longer {role}.")

    async def remove(self, asked: pages.Asked) -> pages.Done:
        then = _path("organizations", asked.path["organization"])
        return await self._done(asked, edits.delete(Team, _key(asked)), "The team is removed.", then)


class _Roles(_Part):
    def offered(self) -> Sequence[pages.Page]:
        updates = needs("role", "update", "{role}")
        acts = {
            "change": pages.Act(self.change, updates),
            "permit": pages.Act(self.permit, updates),
            "forbid": pages.Act(self.forbid, updates),
            "remove": pages.Act(self.remove, needs("role", "delete", "{role}")),
        }
        create = {"create": pages.Act(self.create, Scope("role", "*", "create"))}
        reads = needs("role", "read", "{role}")
        return [
            pages.Page("/roles", "Roles", self.list_all, "Roles", LISTS_ROLES, create),
            pages.Page("/roles/{role}", "Role", self.show, None, reads, acts),
        ]

    async def list_all(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy, wanted = await self._editor.policy(), asked.query.get("q", "").strip().casefold()
        every = {**policy.directory.roles, **BUILT_IN}
        names = [name for name in sorted(every) if wanted in name.casefold() and _may_see(policy, asked, every[name])]
        shown, more = _part(asked, "/roles", names)
        rows = [
            (
                _link(name, "roles", name),
                every[name].description,
                every[name].scope,
                every[name].priority,
                every[name].parent_role,
                pages.State("built in") if name in BUILT_IN else None,
            )
            for name in shown
        ]
        columns = ("Role", "Description", "Within", "Priority", "Inherits from", "")
        new = (_ID, *_ABOUT, *_role_fields(policy, asked, Role(id="")))
        return (
            _search(asked),
            pages.Table("Roles", columns, rows, "There is none.", more),
            pages.Form("Make a role", "Make", new, "create"),
        )

    async def create(self, asked: pages.Asked) -> pages.Done:
        name = _text(asked, "id")
        role = edits.changed(Role(id=name), _role_values(asked))
        return await self._done(asked, edits.create(role), f"The role {name} is made.", _path("roles", name))

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        policy = await self._editor.policy()
        role = policy.directory.role(asked.path["role"])
        facts: list[tuple[str, pages.Cell]] = [
            ("Role", role.id),
            ("Name", role.name),
            ("Description", role.description),
            ("Within", role.scope),
            ("Priority", role.priority),
            ("Inherits from", None if role.parent_role is None else _link(role.parent_role, "roles", role.parent_role)),
        ]
        rows = [
            (one.name, ", ".join(f"{condition.type_} {condition.value}" for condition in one.conditions))
            for one in role.permissions[:SHOWN]
        ]
        blocks: list[pages.Block] = [
            pages.Facts("Role", facts),
            pages.Table("Permissions", ("Permission", "Where"), rows, "It has none of its own."),
        ]
        if role.id in BUILT_IN:
            return [*blocks, pages.Text("This role is built in, and cannot be changed.")]
        values = (_field("name", "Name", role.name), _field("description", "Description", role.description))
        resource = pages.Field("resource", "Resource", "choice", choices=get_args(Resource))
        action = pages.Field("action", "Action", "choice", choices=get_args(Action))
        numbered = [f"{place} {one.name}" for place, one in enumerate(role.permissions[:SHOWN])]
        return [
            *blocks,
            pages.Form("Change", "Change", (*values, *_role_fields(policy, asked, role)), "change"),
            pages.Form("Add a permission", "Add", (resource, action), "permit"),
            *((_choosing("Take a permission out", "permission", numbered, "forbid"),) if numbered else ()),
            pages.Form("Remove the role", "Remove", act="remove", danger=True),
        ]

    async def change(self, asked: pages.Asked) -> pages.Done:
        edit = edits.modify(Role, asked.path["role"], _role_values(asked))
        return await self._done(asked, edit, "The role is changed.")

    async def permit(self, asked: pages.Asked) -> pages.Done:
        new = Permission(_text(asked, "resource"), _text(asked, "action"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - checked when it is put into the role
        return await self._done(asked, _permitting(asked.path["role"], lambda known: (*known, new)), "It is permitted.")

    async def forbid(self, asked: pages.Asked) -> pages.Done:
        place, _, name = _text(asked, "permission").partition(" ")

        def without(known: Sequence[Permission]) -> tuple[Permission, ...]:
            found = [one for number, one in enumerate(known) if (str(number), one.name) == (place, name)]
            if not found:
                raise EntityInvalid(f"the role has no permission {name!r} there; it was changed meanwhile")
            return tuple(one for one in known if one is not found[0])

        return await self._done(asked, _permitting(asked.path["role"], without), f"The role permits {name} no more.")

    async def remove(self, asked: pages.Asked) -> pages.Done:
        edit = edits.delete(Role, asked.path["role"])
        return await self._done(asked, edit, f"The role {asked.path['role']} is removed.", "/roles")


_ID: Final = pages.Field("id", "Id", required=True)
_USER: Final = pages.Field("user", "User", required=True)
_OWNER: Final = pages.Field("owner_id", "Owner", hint="you, unless somebody is named")
_ABOUT: Final = (pages.Field("name", "Name"), pages.Field("description", "Description"))
_ABOUT_USER: Final = (pages.Field("email", "Email"), pages.Field("full_name", "Name"))


def _permitting(role: str, change: Callable[[Sequence[Permission]], tuple[Permission, ...]]) -> Edit:
    """Returns the edit of a role's permissions, as they are when it is made."""

    def edit(policy: Policy) -> Directory:
        permissions = change(policy.directory.role(role).permissions)
        return edits.modify(Role, role, {"permissions": permissions})(policy)

    return edit


def _role_fields(policy: Policy, asked: pages.Asked, role: Role) -> Sequence[pages.Field]:
    # What it inherits from is kept by a form that changes something else.
    parents = {"", role.parent_role or "", *_role_names(policy, asked)} - ({role.id} if role.id else set())
    return (
        pages.Field("parent_role", "Inherits from", "choice", role.parent_role or "", sorted(parents)),
        _field("scope", "Within", role.scope, "global, organization:ID, namespace:PATH or repository:GLOB"),
        pages.Field("priority", "Priority", "number", str(role.priority), hint="0 to 1000; higher is asked first"),
    )


def _role_values(asked: pages.Asked) -> Mapping[str, Any]:
    priority = _text(asked, "priority") or "0"
    if not (priority.isascii() and priority.isdecimal() and len(priority) <= 4):  # noqa: PLR2004 - of 1000
        raise EntityInvalid("priority: it is a number from 0 to 1000")
    return {
        **_given(asked, "name", "description"),
        "parent_role": _text(asked, "parent_role") or None,
        "scope": _text(asked, "scope") or GLOBAL,
        "priority": int(priority),
    }


def _may_see(policy: Policy, asked: pages.Asked, role: Role) -> bool:
    return asked.identity is None or seen(policy, asked.identity, role)


def _role_names(policy: Policy, asked: pages.Asked) -> Sequence[str]:
    """Returns the roles that somebody is shown, as the list of them does."""
    every = {**policy.directory.roles, **BUILT_IN}
    return sorted(name for name, role in every.items() if _may_see(policy, asked, role))


def _assignment(role: str, scope: str) -> Assignment:
    try:
        return Assignment(role, scope)
    except ValueError as error:
        raise EntityInvalid(str(error)) from error


def _matches(user: User, wanted: str, role: str) -> bool:
    found = wanted in f"{user.id}\n{user.full_name}\n{user.email}".casefold()
    return found and (not role or any(one.role == role for one in user.direct_roles))


def _user(policy: Policy, user: User) -> Sequence[pages.Cell]:
    organizations = policy.holder(Identity(user.id, "rbac")).organizations
    return (
        _link(user.id, "users", user.id),
        user.full_name,
        user.email,
        ", ".join(one.role if one.scope == GLOBAL else f"{one.role} ({one.scope})" for one in user.direct_roles[:10]),
        ", ".join(sorted(organizations)[:10]),
        ACTIVE if user.active else SUSPENDED,
    )


def _right(right: Permitted) -> Sequence[pages.Cell]:
    return right.role, right.permission, " and ".join(", ".join(part) for part in right.within)


def _roles_within(directory: Directory, name: str, organization: str) -> str:
    user = directory.users.get(name)
    roles = () if user is None else user.direct_roles
    return ", ".join(one.role for one in roles if one.scope == f"organization:{organization}")


def _part(asked: pages.Asked, path: str, names: Sequence[str]) -> tuple[Sequence[str], pages.Link | None]:
    """Returns the names behind the last one that was shown, and what leads to those behind them."""
    last = asked.query.get("last", "")
    after = [name for name in names if name > last][: SHOWN + 1]
    if len(after) <= SHOWN:
        return after, None
    query = {**{name: value for name, value in asked.query.items() if value}, "last": after[SHOWN - 1]}
    return after[:SHOWN], pages.Link("More", f"{path}?{urlencode(query, quote_via=quote)}")


def _search(asked: pages.Asked, *further: pages.Field) -> pages.Form:
    return pages.Form("Find", "Search", (_field("q", "Name", asked.query.get("q", "")), *further))


def _choosing(title: str, name: str, choices: Sequence[str], act: str) -> pages.Form:
    field = pages.Field(name, title, "choice", choices=choices, required=True)
    return pages.Form(title, "Take away", (field,), act, danger=True)


def _field(name: str, label: str, value: str = "", hint: str = "") -> pages.Field:
    return pages.Field(name, label, value=value, hint=hint)


def _given(asked: pages.Asked, *names: str) -> dict[str, Any]:
    return {name: _text(asked, name) for name in names if name in asked.form}


def _text(asked: pages.Asked, name: str) -> str:
    return asked.form.get(name, "").strip()


def _key(asked: pages.Asked) -> str:
    return f"{asked.path['organization']}/{asked.path['team']}"


def _path(*parts: str) -> str:
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _link(text: str, *parts: str) -> pages.Link:
    return pages.Link(text, _path(*parts))


def _team_link(team: Team) -> pages.Link:
    return _link(team.id, "organizations", team.organization_id, "teams", team.id)
