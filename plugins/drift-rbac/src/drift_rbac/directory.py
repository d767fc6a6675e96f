"""Everything that the tables say, in memory: what is in it, whether it hangs together, and how two differ."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Self, cast

import msgspec

from drift_core.api import Struct
from drift_rbac.builtin import ADMIN, BUILT_IN
from drift_rbac.entities import (
    GLOBAL,
    Assignment,
    Entity,
    EntityT,
    Organization,
    Role,
    Team,
    User,
    scope_organization,
)
from drift_rbac.errors import Conflict, EntityInvalid, EntityUnknown

KINDS: Final[Mapping[str, type[Entity]]] = {
    "organizations": Organization,
    "teams": Team,
    "users": User,
    "roles": Role,
}
"""The name of each kind, which is that of its table and of its part of a document."""


class Difference(Struct, frozen=True):
    """One entity that is made, changed or removed; ``before`` and ``after`` are None where it is not there."""

    kind: str
    key: str
    before: Entity | None
    after: Entity | None


class Directory(Struct, frozen=True):
    """All entities by their keys; of roles only those that are not built in."""

    organizations: Mapping[str, Organization] = {}
    teams: Mapping[str, Team] = {}
    users: Mapping[str, User] = {}
    roles: Mapping[str, Role] = {}
    names: ClassVar[Mapping[type[Entity], str]] = {kind: name for name, kind in KINDS.items()}

    def role(self, name: str) -> Role:
        """Returns a role, built in or not. Raises `EntityUnknown`."""
        return BUILT_IN.get(name) or self.get(Role, name)

    def find_role(self, name: str) -> Role | None:
        """Returns a role, built in or not, or None."""
        return BUILT_IN.get(name) or self.roles.get(name)

    def chain(self, name: str) -> Iterator[Role]:
        """Yields a role and those from which it inherits; ends where one is missing, and where they go in a circle."""
        seen: set[str] = set()
        role = self.find_role(name)
        while role is not None and role.id not in seen:
            seen.add(role.id)
            yield role
            role = None if role.parent_role is None else self.find_role(role.parent_role)

    def of(self, kind: type[EntityT]) -> Mapping[str, EntityT]:
        """Returns all entities of a kind."""
        return cast("Mapping[str, EntityT]", getattr(self, self.names[kind]))

    def get(self, kind: type[EntityT], key: str) -> EntityT:
        """Returns an entity. Raises `EntityUnknown`."""
        found = self.of(kind).get(key)
        if found is None:
            raise EntityUnknown(f"{kind.__name__} {key[:256]!r} is not known")
        return found

    def put(self, *entities: Entity) -> Self:
        """Returns the directory with entities added or replaced."""
        changed: dict[str, dict[str, Entity]] = {}
        for entity in entities:
            name = self.names[type(entity)]
            changed.setdefault(name, dict(getattr(self, name)))[entity.key] = entity
        return msgspec.structs.replace(self, **changed)

    def drop(self, kind: type[Entity], *keys: str) -> Self:
        """Returns the directory without entities of a kind."""
        name = self.names[kind]
        left = {key: entity for key, entity in getattr(self, name).items() if key not in keys}
        return msgspec.structs.replace(self, **{name: left})

    def with_users(self, names: Iterable[str | None]) -> Self:
        """Returns the directory with a user for each name, which an authenticator may know better than we do."""
        return self.put(*(User(id=name) for name in names if name is not None and name not in self.users))

    def admins(self) -> frozenset[str]:
        """Returns the active users who have the role admin everywhere."""
        everywhere = Assignment(ADMIN, GLOBAL)
        return frozenset(name for name, user in self.users.items() if user.active and everywhere in user.direct_roles)

    def teams_of(self, organization: str) -> list[Team]:
        """Returns the teams of an organization."""
        return [team for team in self.teams.values() if team.organization_id == organization]

    def check(self) -> None:
        """Checks that whatever is named is there. Raises `EntityInvalid`, or `Conflict` where there are too many."""
        for organization in self.organizations.values():
            where = f"organizations.{organization.id}"
            self._check_users(where, (*organization.members, *filter(None, (organization.owner_id,))))
            most = organization.settings.max_members
            if most is not None and len(organization.members) > most:
                raise Conflict(f"{where}: has {len(organization.members)} members, and may have {most}")
        for team in self.teams.values():
            where = f"teams.{team.key}"
            if team.organization_id not in self.organizations:
                raise EntityInvalid(f"{where}: there is no organization {team.organization_id!r}")
            self._check_users(where, team.members)
            self._check_roles(where, team.roles)
        for user in self.users.values():
            self._check_roles(f"users.{user.id}", [one.role for one in user.direct_roles])
        for role in self.roles.values():
            self._check_role(role)

    def _check_users(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.users:
                raise EntityInvalid(f"{where}: there is no user {name!r}")

    def _check_roles(self, where: str, names: Iterable[str]) -> None:
        for name in names:
            if self.find_role(name) is None:
                raise EntityInvalid(f"{where}: there is no role {name!r}")

    def _check_role(self, role: Role) -> None:
        where = f"roles.{role.id}"
        if role.id in BUILT_IN or role.system_role:
            raise EntityInvalid(f"{where}: the built-in roles cannot be changed, and no others be made")
        if role.parent_role is not None:
            self._check_roles(where, [role.parent_role])
            *_, last = self.chain(role.id)
            if last.parent_role is not None:
                raise EntityInvalid(f"{where}: inherits from itself")


def differences(before: Directory, after: Directory) -> list[Difference]:
    """Returns what has to be done to come from one directory to another, in the order of kinds and keys."""
    found: list[Difference] = []
    for kind in KINDS:
        old: Mapping[str, Entity] = getattr(before, kind)
        new: Mapping[str, Entity] = getattr(after, kind)
        if old is new:
            continue
        changed = [key for key in {**old, **new} if old.get(key) is not new.get(key)]
        found += [
            Difference(kind, key, old.get(key), new.get(key)) for key in sorted(changed) if old.get(key) != new.get(key)
        ]
    return found


def changed_fields(difference: Difference) -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which an entity differs, before and after, as JSON has them."""
    before: dict[str, Any] = {} if difference.before is None else msgspec.to_builtins(difference.before)
    after: dict[str, Any] = {} if difference.after is None else msgspec.to_builtins(difference.after)
    return {
        name: (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name) and name not in {"created_at", "updated_at"}
    }


def without_organization(directory: Directory, organization: str) -> Directory:
    """Returns the directory without an organization, its teams, and what was assigned within it.

    Raises `Conflict` where a role is scoped to it.
    """
    bound = [role.id for role in directory.roles.values() if scope_organization(role.scope) == organization]
    if bound:
        raise Conflict(f"the role {bound[0]!r} is for this organization alone; delete it first")
    users = [
        msgspec.structs.replace(user, direct_roles=left)
        for user in directory.users.values()
        for left in [tuple(one for one in user.direct_roles if scope_organization(one.scope) != organization)]
        if left != user.direct_roles
    ]
    teams = [team.key for team in directory.teams_of(organization)]
    return directory.drop(Organization, organization).drop(Team, *teams).put(*users)


def without_user(directory: Directory, name: str) -> Directory:
    """Returns the directory without a user, who is then no member of anything, and owns nothing."""
    organizations = [
        msgspec.structs.replace(
            one,
            members=tuple(member for member in one.members if member != name),
            owner_id=None if one.owner_id == name else one.owner_id,
        )
        for one in directory.organizations.values()
        if name in one.members or one.owner_id == name
    ]
    teams = [
        msgspec.structs.replace(team, members=tuple(member for member in team.members if member != name))
        for team in directory.teams.values()
        if name in team.members
    ]
    return directory.put(*organizations, *teams).drop(User, name)


def without_role(directory: Directory, name: str) -> Directory:
    """Returns the directory without a role. Raises `Conflict` where somebody has it."""
    users = [user.id for user in directory.users.values() if any(one.role == name for one in user.direct_roles)]
    teams = [team.key for team in directory.teams.values() if name in team.roles]
    roles = [role.id for role in directory.roles.values() if role.parent_role == name]
    if users or teams or roles:
        raise Conflict("the role is in use", users=users[:10], teams=teams[:10], roles=roles[:10])
    return directory.drop(Role, name)
