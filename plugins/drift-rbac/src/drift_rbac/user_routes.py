"""The routes of users, their roles, and what these permit."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Response, delete, get, post, put
from msgspec import UNSET, Struct, UnsetType

from drift_core.api import Access, Identity, Scope
from drift_rbac import edits
from drift_rbac.answering import Asked, Paging, actor, answer, given, needs, page, read
from drift_rbac.editing import Editor
from drift_rbac.entities import GLOBAL, Assignment, Condition, Name, Text, User, scope_organization
from drift_rbac.errors import EntityInvalid
from drift_rbac.policy import Grant, Policy


class NewUser(Struct, forbid_unknown_fields=True):
    """The body that makes one; ``id`` is the name that an authenticator gives."""

    id: Name
    email: Text = ""
    full_name: Text = ""
    attributes: dict[Text, Text] = msgspec.field(default_factory=dict[str, str])
    active: bool = True


class UserFields(Struct, forbid_unknown_fields=True):
    """The body that changes one: what it does not have stays."""

    email: Text | UnsetType = UNSET
    full_name: Text | UnsetType = UNSET
    attributes: dict[Text, Text] | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class Within(Struct):
    """The query that says where an assignment counted."""

    scope: str = GLOBAL


class ShownUser(User, frozen=True, kw_only=True):
    """A user, with the organizations and teams that he is in."""

    username: str
    organizations: list[str]
    teams: list[str]


class Users(Struct, frozen=True):
    """A page of users."""

    users: list[ShownUser]


class Assignments(Struct, frozen=True):
    """What was assigned to a user."""

    roles: tuple[Assignment, ...]


class Permitted(Struct, frozen=True):
    """What a role permits, where any name of each list in ``within`` is like what is asked for."""

    role: str
    permission: str
    within: list[list[str]]
    conditions: tuple[Condition, ...]


class Permissions(Struct, frozen=True):
    """What a user may do; nothing, unless he is active."""

    active: bool
    organizations: list[str]
    permissions: list[Permitted]


LINES: Final = {"application/jsonl": bytes}
"""What an answer is shown as of which every line is a JSON object."""


class UserRoutes:
    """`/api/users`."""

    def __init__(self, editor: Editor, access: Access) -> None:
        self._editor = editor
        self._access = access

    def handlers(self) -> Sequence[Any]:
        """Returns the handlers."""
        one, named = "/api/users/{user:str}", "{user}"
        lists, reads = Scope("user", "*", "list"), needs("user", "read", named)
        # Which right a role needs is not in the path but in its scope.
        later = Scope("role", "*", "list")
        return [
            get("/api/users", scope=lists, query=Paging, answers=Users)(self.list_all),
            post("/api/users", scope=Scope("user", "*", "create"), body=NewUser, answers=ShownUser)(self.create),
            get("/api/users/export", scope=lists, answers=LINES)(self.export),
            get(one, scope=reads, answers=ShownUser)(self.show),
            put(one, scope=needs("user", "update", named), body=UserFields, answers=ShownUser)(self.modify),
            delete(one, scope=needs("user", "delete", named))(self.remove),
            get(f"{one}/roles", scope=reads, answers=Assignments)(self.list_roles),
            post(f"{one}/roles", scope=later, body=Assignment, answers=Assignments)(self.grant),
            delete(f"{one}/roles/{{role:str}}", scope=later, query=Within)(self.revoke),
            get(f"{one}/permissions", scope=reads, answers=Permissions)(self.permissions),
        ]

    async def list_all(self, request: Asked) -> Response[Any]:
        """Lists users whom the policy knows; an authenticator may know more."""
        policy = await self._editor.policy()
        return page(request, Users, sorted(policy.directory.users), lambda name: _shown(policy, name))

    async def export(self) -> Response[Any]:
        """Returns all users at once, one JSON object a line."""
        policy = await self._editor.policy()
        lines = [msgspec.json.encode(_shown(policy, name)) for name in sorted(policy.directory.users)]
        return Response(b"".join(b"%s\n" % line for line in lines), media_type="application/jsonl")

    async def create(self, request: Asked) -> Response[Any]:
        """Makes a user, who can log in only by what an authenticator knows of him."""
        body = await read(request, NewUser)
        await self._editor.change(edits.create(edits.changed(User(id=body.id), given(body))), actor(request))
        return answer(_shown(await self._editor.policy(), body.id), 201)

    async def show(self, user: str) -> Response[Any]:
        """Shows a user."""
        return answer(_shown(await self._editor.policy(), user))

    async def modify(self, request: Asked, user: str) -> Response[Any]:
        """Changes a user."""
        fields = given(await read(request, UserFields))
        await self._editor.change(edits.modify(User, user, fields), actor(request))
        return answer(_shown(await self._editor.policy(), user))

    async def remove(self, request: Asked, user: str) -> None:
        """Removes a user, who still has the default role if an authenticator knows him."""
        await self._editor.change(edits.delete(User, user), actor(request))

    async def list_roles(self, user: str) -> Response[Any]:
        """Lists what was assigned to a user."""
        return answer(Assignments((await self._editor.policy()).directory.get(User, user).direct_roles))

    async def grant(self, request: Asked, user: str) -> Response[Any]:
        """Assigns a role within a scope, by who manages the roles there and has all that it gives."""
        assignment = await read(request, Assignment)
        named = edits.changed(User(id=user), {}).id
        await self._access.admit(request.auth, [needed(named, assignment)])
        await self._editor.change(edits.grant(named, assignment), actor(request))
        return answer(Assignments((await self._editor.policy()).directory.get(User, named).direct_roles), 201)

    async def revoke(self, request: Asked, user: str, role: str) -> None:
        """Takes away a role within the scope that the query names, else the global one."""
        try:
            assignment = Assignment(role, request.query_params.get("scope", GLOBAL))
        except ValueError as error:
            raise EntityInvalid(str(error)) from error
        await self._access.admit(request.auth, [needed(user, assignment)])
        await self._editor.change(edits.revoke(user, assignment), actor(request))

    async def permissions(self, user: str) -> Response[Any]:
        """Lists what a user may do by stored roles; groups and roles of his login may add to this."""
        policy = await self._editor.policy()
        policy.directory.get(User, user)
        holder = policy.holder(Identity(user, "rbac"))
        permissions = [permitted(grant) for grant in holder.grants]
        return answer(Permissions(holder.active, sorted(holder.organizations), permissions))


def needed(user: str, assignment: Assignment) -> Scope:
    """Returns what somebody needs to give or take an assignment: to manage the roles where it counts."""
    organization = scope_organization(assignment.scope)
    if organization is None:
        return Scope("user", user, "manage_roles")
    return Scope("organization", organization, "manage_roles")


def _shown(policy: Policy, name: str) -> ShownUser:
    user = policy.directory.get(User, name)
    teams = policy.teams_of(Identity(name, "rbac"))
    holder = policy.holder(Identity(name, "rbac"))
    return ShownUser(
        **msgspec.structs.asdict(user),
        username=name,
        organizations=sorted(holder.organizations),
        teams=sorted(team.key for team in teams),
    )


def permitted(grant: Grant) -> Permitted:
    """Returns what one grant permits, as it is answered."""
    within = [list(part.texts) for part in grant.parts]
    return Permitted(grant.role, grant.permission.name, within, grant.permission.conditions)
