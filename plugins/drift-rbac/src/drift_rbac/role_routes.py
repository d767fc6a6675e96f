"""The routes of roles."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar import Response, delete, get, post, put
from msgspec import UNSET, Meta, Struct, UnsetType

from drift_core.api import Identity, Scope
from drift_rbac import edits
from drift_rbac.answering import Asked, Paging, actor, answer, given, needs, page, read
from drift_rbac.builtin import BUILT_IN
from drift_rbac.editing import Editor
from drift_rbac.entities import GLOBAL, Permission, Role, Slug, Text, scope_organization
from drift_rbac.policy import Policy

Priority = Annotated[int, Meta(ge=0, le=1000)]


class NewRole(Struct, forbid_unknown_fields=True):
    """The body that makes one."""

    id: Slug
    name: Text = ""
    description: Text = ""
    permissions: tuple[Permission, ...] = ()
    parent_role: Slug | None = None
    scope: str = GLOBAL
    priority: Priority = 0


class RoleFields(Struct, forbid_unknown_fields=True):
    """The body that changes one: what it does not have stays."""

    name: Text | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    permissions: tuple[Permission, ...] | UnsetType = UNSET
    parent_role: Slug | UnsetType | None = UNSET
    scope: str | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET


class Roles(Struct, frozen=True):
    """A page of roles."""

    roles: list[Role]


class RoleRoutes:
    """`/api/roles`."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    def handlers(self) -> Sequence[Any]:
        """Returns the handlers."""
        one, named = "/api/roles/{role:str}", "{role}"
        return [
            get("/api/roles", scope=Scope("role", "*", "list"), query=Paging, answers=Roles)(self.list_all),
            post("/api/roles", scope=Scope("role", "*", "create"), body=NewRole, answers=Role)(self.create),
            get(one, scope=needs("role", "read", named), answers=Role)(self.show),
            put(one, scope=needs("role", "update", named), body=RoleFields, answers=Role)(self.modify),
            delete(one, scope=needs("role", "delete", named))(self.remove),
        ]

    async def list_all(self, request: Asked) -> Response[Any]:
        """Lists the roles, but for those of organizations that the sender may not read."""
        policy, identity = await self._editor.policy(), actor(request)
        every = {**policy.directory.roles, **BUILT_IN}
        keys = [name for name in sorted(every) if identity is None or seen(policy, identity, every[name])]
        return page(request, Roles, keys, every.__getitem__)

    async def create(self, request: Asked) -> Response[Any]:
        """Makes a role, which gives no more than the sender has."""
        body = await read(request, NewRole)
        role = edits.changed(Role(id=body.id), given(body))
        await self._editor.change(edits.create(role), actor(request))
        return answer(await self._get(role.id), 201)

    async def show(self, role: str) -> Response[Any]:
        """Shows a role."""
        return answer(await self._get(role))

    async def modify(self, request: Asked, role: str) -> Response[Any]:
        """Changes a role that is not built in."""
        fields = given(await read(request, RoleFields))
        await self._editor.change(edits.modify(Role, role, fields), actor(request))
        return answer(await self._get(role))

    async def remove(self, request: Asked, role: str) -> None:
        """Removes a role that nobody has."""
        await self._editor.change(edits.delete(Role, role), actor(request))

    async def _get(self, role: str) -> Role:
        return (await self._editor.policy()).directory.role(role)


def seen(policy: Policy, identity: Identity, role: Role) -> bool:
    """Says whether somebody is shown a role: not that of an organization that he may not read."""
    organization = scope_organization(role.scope)
    needed = Scope("organization", organization or "*", "read" if organization else "list")
    return bool(policy.judge(policy.holder(identity), needed).verdict.allowed)
