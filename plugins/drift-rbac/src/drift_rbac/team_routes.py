"""The routes of the teams of an organization."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, delete, get, post, put
from msgspec import UNSET, Struct, UnsetType

from drift_rbac import edits
from drift_rbac.answering import Asked, Paging, actor, answer, given, needs, page, read
from drift_rbac.editing import Editor
from drift_rbac.entities import Group, Name, Organization, Slug, Team, Text


class NewTeam(Struct, forbid_unknown_fields=True):
    """The body that makes one."""

    id: Slug
    name: Text = ""
    description: Text = ""
    members: tuple[Name, ...] = ()
    roles: tuple[Slug, ...] = ()
    repositories: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


class TeamFields(Struct, forbid_unknown_fields=True):
    """The body that changes one: what it does not have stays."""

    name: Text | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    repositories: tuple[str, ...] | UnsetType = UNSET
    groups: tuple[Group, ...] | UnsetType = UNSET


class TeamMember(Struct, forbid_unknown_fields=True):
    """A member, also as the body that adds one."""

    user_id: Name


class TeamRole(Struct, forbid_unknown_fields=True):
    """The body that gives a role."""

    role: Slug


class Teams(Struct, frozen=True):
    """A page of teams."""

    teams: list[Team]


class TeamMembers(Struct, frozen=True):
    """A page of members."""

    members: list[TeamMember]


class TeamRoles(Struct, frozen=True):
    """The roles of a team."""

    roles: tuple[Slug, ...]


class TeamRoutes:
    """`/api/organizations/{organization}/teams`."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def handlers(self) -> Sequence[Any]:
        """Returns the handlers."""
        every = "/api/organizations/{organization:str}/teams"
        one = f"{every}/{{team:str}}"
        members, roles = f"{one}/members", f"{one}/roles"
        named = "{organization}/{team}"
        reads, manages = needs("team", "read", named), needs("team", "manage_members", named)
        gives, listed = needs("team", "manage_roles", named), needs("organization", "read", "{organization}")
        creates = needs("team", "create", "{organization}/")
        return [
            get(every, scope=listed, query=Paging, answers=Teams)(self.list_all),
            post(every, scope=creates, body=NewTeam, answers=Team)(self.create),
            get(one, scope=reads, answers=Team)(self.show),
            put(one, scope=needs("team", "update", named), body=TeamFields, answers=Team)(self.modify),
            delete(one, scope=needs("team", "delete", named))(self.remove),
            get(members, scope=reads, query=Paging, answers=TeamMembers)(self.list_members),
            post(members, scope=manages, body=TeamMember, answers=TeamMember)(self.add_member),
            put(f"{members}/{{user:str}}", scope=manages, answers=TeamMember)(self.set_member),
            delete(f"{members}/{{user:str}}", scope=manages)(self.remove_member),
            get(roles, scope=reads, answers=TeamRoles)(self.list_roles),
            post(roles, scope=gives, body=TeamRole, answers=TeamRoles)(self.give),
            delete(f"{roles}/{{role:str}}", scope=gives)(self.take),
        ]

    async def list_all(self, request: Asked, organization: str) -> Response[Any]:
        """Lists the teams of an organization."""
        directory = (await self._editor.policy()).directory
        directory.get(Organization, organization)
        teams = {team.id: team for team in directory.teams_of(organization)}
        return page(request, Teams, sorted(teams), teams.__getitem__)

    async def create(self, request: Asked, organization: str) -> Response[Any]:
        """Makes a team."""
        body = await read(request, NewTeam)
        fields = {**given(body), "members": tuple(sorted(set(body.members)))}
        empty = Team(id=body.id, organization_id=organization)
        await self._editor.change(edits.create(edits.changed(empty, fields)), actor(request))
        return answer(await self._get(organization, body.id), 201)

    async def show(self, organization: str, team: str) -> Response[Any]:
        """Shows a team."""
        return answer(await self._get(organization, team))

    async def modify(self, request: Asked, organization: str, team: str) -> Response[Any]:
        """Changes a team."""
        fields = given(await read(request, TeamFields))
        await self._editor.change(edits.modify(Team, f"{organization}/{team}", fields), actor(request))
        return answer(await self._get(organization, team))

    async def remove(self, request: Asked, organization: str, team: str) -> None:
        """Removes a team."""
        await self._editor.change(edits.delete(Team, f"{organization}/{team}"), actor(request))

    async def list_members(self, request: Asked, organization: str, team: str) -> Response[Any]:
        """Lists members, but for those whom a group brings."""
        members = (await self._get(organization, team)).members
        return page(request, TeamMembers, sorted(members), TeamMember)

    async def add_member(self, request: Asked, organization: str, team: str) -> Response[Any]:
        """Adds a member."""
        user = (await read(request, TeamMember)).user_id
        return await self._added(request, f"{organization}/{team}", user, 201)

    async def set_member(self, request: Asked, organization: str, team: str, user: str) -> Response[Any]:
        """Adds a member whom the path names."""
        return await self._added(request, f"{organization}/{team}", user, 200)

    async def remove_member(self, request: Asked, organization: str, team: str, user: str) -> None:
        """Removes a member."""
        await self._editor.change(edits.remove_from_team(f"{organization}/{team}", user), actor(request))

    async def list_roles(self, organization: str, team: str) -> Response[Any]:
        """Lists the roles of a team."""
        return answer(TeamRoles((await self._get(organization, team)).roles))

    async def give(self, request: Asked, organization: str, team: str) -> Response[Any]:
        """Gives a role to a team."""
        role = (await read(request, TeamRole)).role
        await self._editor.change(edits.give_team(f"{organization}/{team}", role), actor(request))
        return answer(TeamRoles((await self._get(organization, team)).roles), 201)

    async def take(self, request: Asked, organization: str, team: str, role: str) -> None:
        """Takes a role from a team."""
        await self._editor.change(edits.take_from_team(f"{organization}/{team}", role), actor(request))

    async def _added(self, request: Asked, team: str, user: str, status: int) -> Response[Any]:
        await self._editor.change(edits.add_to_team(team, user), actor(request))
        return answer(TeamMember(user), status)

    async def _get(self, organization: str, team: str) -> Team:
        return (await self._editor.policy()).directory.get(Team, f"{organization}/{team}")
