"""The routes of organizations and their members."""

from collections.abc import Sequence
from typing import Any

from litestar import Response, delete, get, post, put
from msgspec import UNSET, Struct, UnsetType

from drift_core.api import Scope
from drift_rbac import edits
from drift_rbac.answering import Asked, Paging, actor, answer, given, needs, page, read
from drift_rbac.directory import Directory
from drift_rbac.editing import Editor
from drift_rbac.entities import Name, Organization, Settings, Slug, Text


class NewOrganization(Struct, forbid_unknown_fields=True):
    """The body that makes one; the owner is who makes it, unless it says so."""

    id: Slug
    name: Text = ""
    description: Text = ""
    owner_id: Name | None = None
    members: tuple[Name, ...] = ()
    repositories: tuple[str, ...] = ()
    settings: Settings = Settings()


class OrganizationFields(Struct, forbid_unknown_fields=True):
    """The body that changes one: what it does not have stays."""

    name: Text | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    owner_id: Name | UnsetType | None = UNSET
    repositories: tuple[str, ...] | UnsetType = UNSET
    settings: Settings | UnsetType = UNSET


class NewMember(Struct, forbid_unknown_fields=True):
    """The body that adds a member; ``roles`` are for the organization."""

    user_id: Name
    roles: tuple[Slug, ...] = ()


class MemberRoles(Struct, forbid_unknown_fields=True):
    """The body that adds the member whom the path names."""

    roles: tuple[Slug, ...] = ()


class Organizations(Struct, frozen=True):
    """A page of organizations."""

    organizations: list[Organization]


class Member(Struct, frozen=True):
    """A member, with the roles for this organization alone."""

    user_id: str
    roles: list[str]


class Members(Struct, frozen=True):
    """A page of members."""

    members: list[Member]


class OrganizationRoutes:
    """`/api/organizations`, but for teams."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def handlers(self) -> Sequence[Any]:
        """Returns the handlers."""
        every, one = "/api/organizations", "/api/organizations/{organization:str}"
        members = f"{one}/members"
        creates, reads = Scope("organization", "*", "create"), needs("organization", "read", "{organization}")
        updates = needs("organization", "update", "{organization}")
        manages = needs("organization", "manage_members", "{organization}")
        return [
            get(every, scope=Scope("organization", "*", "list"), query=Paging, answers=Organizations)(self.list_all),
            post(every, scope=creates, body=NewOrganization, answers=Organization)(self.create),
            get(one, scope=reads, answers=Organization)(self.show),
            put(one, scope=updates, body=OrganizationFields, answers=Organization)(self.modify),
            delete(one, scope=needs("organization", "delete", "{organization}"))(self.remove),
            get(members, scope=reads, query=Paging, answers=Members)(self.list_members),
            post(members, scope=manages, body=NewMember, answers=Member)(self.add_member),
            put(f"{members}/{{user:str}}", scope=manages, body=MemberRoles, answers=Member)(self.set_member),
            delete(f"{members}/{{user:str}}", scope=manages)(self.remove_member),
        ]

    async def list_all(self, request: Asked) -> Response[Any]:
        """Lists the organizations that the sender may read."""
        policy = await self._editor.policy()
        identity = actor(request)
        every = policy.directory.organizations
        keys = sorted(every) if identity is None else policy.organizations_seen(policy.holder(identity))
        return page(request, Organizations, keys, every.__getitem__)

    async def create(self, request: Asked) -> Response[Any]:
        """Makes an organization, which from then on owns every repository below its name."""
        body, sender = await read(request, NewOrganization), actor(request)
        owner = body.owner_id or (None if sender is None else sender.name)
        fields = {**given(body), "owner_id": owner, "members": tuple(sorted(set(body.members)))}
        organization = edits.changed(Organization(id=body.id), fields)
        await self._editor.change(edits.create(organization), sender)
        return answer(await self._get(body.id), 201)

    async def show(self, organization: str) -> Response[Any]:
        """Shows an organization."""
        return answer(await self._get(organization))

    async def modify(self, request: Asked, organization: str) -> Response[Any]:
        """Changes an organization."""
        fields = given(await read(request, OrganizationFields))
        await self._editor.change(edits.modify(Organization, organization, fields), actor(request))
        return answer(await self._get(organization))

    async def remove(self, request: Asked, organization: str) -> None:
        """Removes an organization; its repositories then belong to none."""
        await self._editor.change(edits.delete(Organization, organization), actor(request))

    async def list_members(self, request: Asked, organization: str) -> Response[Any]:
        """Lists members, with their roles for this organization alone."""
        directory = await self._directory()
        members = directory.get(Organization, organization).members
        return page(request, Members, sorted(members), lambda name: _member(directory, organization, name))

    async def add_member(self, request: Asked, organization: str) -> Response[Any]:
        """Adds a member."""
        body = await read(request, NewMember)
        await self._editor.change(edits.add_member(organization, body.user_id, body.roles), actor(request))
        return answer(_member(await self._directory(), organization, body.user_id), 201)

    async def set_member(self, request: Asked, organization: str, user: str) -> Response[Any]:
        """Adds a member whom the path names; the body may be left out."""
        body = await read(request, MemberRoles) if await request.body() else MemberRoles()
        await self._editor.change(edits.add_member(organization, user, body.roles), actor(request))
        return answer(_member(await self._directory(), organization, user))

    async def remove_member(self, request: Asked, organization: str, user: str) -> None:
        """Takes from somebody all that he has in the organization."""
        await self._editor.change(edits.remove_member(organization, user), actor(request))

    async def _directory(self) -> Directory:
        return (await self._editor.policy()).directory

    async def _get(self, organization: str) -> Organization:
        return (await self._directory()).get(Organization, organization)


def _member(directory: Directory, organization: str, name: str) -> Member:
    user = directory.users.get(name)
    scope = f"organization:{organization}"
    roles = () if user is None else user.direct_roles
    return Member(name, [one.role for one in roles if one.scope == scope])
