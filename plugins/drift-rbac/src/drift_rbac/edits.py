"""Everything that can be done to the policy, by a route or by a command: each function makes one `Edit`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from drift_rbac.builtin import BUILT_IN, OWNER
from drift_rbac.directory import Directory, without_organization, without_role, without_user
from drift_rbac.editing import Edit
from drift_rbac.entities import (
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

Fields = Mapping[str, Any]
"""Values of those fields of an entity that change."""


def _edit(change: Callable[[Directory], Directory]) -> Edit:
    return lambda policy: change(policy.directory)


def create(entity: Entity) -> Edit:
    """Adds an entity, and users whom it names. Raises `Conflict` where it exists.

    The owner of an organization becomes a member of it, who runs it.
    """

    def change(directory: Directory) -> Directory:
        taken = isinstance(entity, Role) and entity.id in BUILT_IN
        if taken or entity.key in directory.of(type(entity)):
            raise Conflict(f"{type(entity).__name__} {entity.key!r} is there already")
        if isinstance(entity, Organization):
            return _owned(_with_named(directory, entity), entity)
        return _with_named(directory, entity).put(entity)

    return _edit(change)


def modify(kind: type[EntityT], key: str, fields: Fields) -> Edit:
    """Changes fields of an entity. Raises `EntityUnknown`, and `EntityInvalid` for values that do not fit."""

    def change(directory: Directory) -> Directory:
        if kind is Role and key in BUILT_IN:
            raise Conflict(f"the role {key!r} is built in")
        entity = changed(directory.get(kind, key), fields)
        if isinstance(entity, Organization):
            return _owned(_with_named(directory, entity), entity)
        return _with_named(directory, entity).put(entity)

    return _edit(change)


def delete(kind: type[Entity], key: str) -> Edit:
    """Removes an entity and what depends on it. Raises `EntityUnknown`, and `Conflict` where it is needed."""

    def change(directory: Directory) -> Directory:
        if kind is Role and key in BUILT_IN:
            raise Conflict(f"the role {key!r} is built in")
        directory.get(kind, key)
        if kind is Organization:
            return without_organization(directory, key)
        if kind is User:
            return without_user(directory, key)
        return without_role(directory, key) if kind is Role else directory.drop(kind, key)

    return _edit(change)


def add_member(organization: str, user: str, roles: Iterable[str] = ()) -> Edit:
    """Makes somebody a member of an organization, with roles for it."""

    def change(directory: Directory) -> Directory:
        found = directory.get(Organization, organization)
        given = _given(
            directory.with_users([user]), user, [Assignment(role, f"organization:{organization}") for role in roles]
        )
        return given.put(changed(found, {"members": _with(found.members, user)}))

    return _edit(change)


def remove_member(organization: str, user: str) -> Edit:
    """Takes from somebody everything that he has in an organization: membership, teams, and roles for it."""

    def change(directory: Directory) -> Directory:
        found = directory.get(Organization, organization)
        teams = [team for team in directory.teams_of(organization) if user in team.members]
        known = directory.users.get(user)
        roles = () if known is None else known.direct_roles
        left = tuple(one for one in roles if scope_organization(one.scope) != organization)
        if user not in found.members and not teams and left == roles:
            raise EntityUnknown(f"{user!r} is no member of {organization}")
        owner = None if found.owner_id == user else found.owner_id
        fewer = changed(found, {"members": _without(found.members, user), "owner_id": owner})
        after = directory.put(fewer, *(changed(team, {"members": _without(team.members, user)}) for team in teams))
        return after if known is None else after.put(changed(known, {"direct_roles": left}))

    return _edit(change)


def add_to_team(team: str, user: str) -> Edit:
    """Makes somebody a member of a team, which is named ``ORGANIZATION/TEAM``."""
    return _edit(
        lambda directory: directory.with_users([user]).put(
            changed(directory.get(Team, team), {"members": _with(directory.get(Team, team).members, user)})
        )
    )


def remove_from_team(team: str, user: str) -> Edit:
    """Takes somebody out of a team. Raises `EntityUnknown` where he is not in it."""

    def change(directory: Directory) -> Directory:
        found = directory.get(Team, team)
        return directory.put(changed(found, {"members": _less(found.members, user, f"no member of {team}")}))

    return _edit(change)


def give_team(team: str, role: str) -> Edit:
    """Gives a role to a team."""

    def change(directory: Directory) -> Directory:
        directory.role(role)
        found = directory.get(Team, team)
        return directory.put(changed(found, {"roles": _with(found.roles, role)}))

    return _edit(change)


def take_from_team(team: str, role: str) -> Edit:
    """Takes a role from a team. Raises `EntityUnknown` where it does not have it."""

    def change(directory: Directory) -> Directory:
        found = directory.get(Team, team)
        return directory.put(changed(found, {"roles": _less(found.roles, role, f"no role of {team}")}))

    return _edit(change)


def grant(user: str, assignment: Assignment) -> Edit:
    """Gives somebody a role within a scope. Raises `EntityUnknown` for an unknown role."""

    def change(directory: Directory) -> Directory:
        directory.role(assignment.role)
        return _given(directory.with_users([user]), user, [assignment])

    return _edit(change)


def revoke(user: str, assignment: Assignment) -> Edit:
    """Takes a role from somebody. Raises `EntityUnknown` where he does not have it within this scope."""

    def change(directory: Directory) -> Directory:
        found = directory.get(User, user)
        if assignment not in found.direct_roles:
            has = [f"{one.role} within {one.scope}" for one in found.direct_roles]
            raise EntityUnknown(f"{user} does not have the role {assignment.role} within {assignment.scope}", has=has)
        left = tuple(one for one in found.direct_roles if one != assignment)
        return directory.put(changed(found, {"direct_roles": left}))

    return _edit(change)


def changed(entity: EntityT, fields: Fields) -> EntityT:
    """Returns an entity with other values of some fields. Raises `EntityInvalid` for values that do not fit."""
    try:
        # Only what is converted is checked.
        return msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(entity, **fields)), type(entity))
    except (ValueError, TypeError) as error:
        raise EntityInvalid(str(error)) from error


def _with_named(directory: Directory, entity: Entity) -> Directory:
    if isinstance(entity, Organization):
        return directory.with_users([*entity.members, entity.owner_id])
    return directory.with_users(entity.members) if isinstance(entity, Team) else directory


def _owned(directory: Directory, organization: Organization) -> Directory:
    owner, before = organization.owner_id, directory.organizations.get(organization.id)
    if owner is None or (before is not None and before.owner_id == owner):
        return directory.put(organization)
    given = _given(directory, owner, [Assignment(OWNER, f"organization:{organization.id}")])
    return given.put(changed(organization, {"members": _with(organization.members, owner)}))


def _given(directory: Directory, user: str, assignments: Iterable[Assignment]) -> Directory:
    found = directory.get(User, user)
    return directory.put(changed(found, {"direct_roles": tuple(sorted({*found.direct_roles, *assignments}))}))


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(sorted({*names, name}))


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(one for one in names if one != name)


def _less(names: tuple[str, ...], name: str, absent: str) -> tuple[str, ...]:
    if name not in names:
        raise EntityUnknown(f"{name!r} is {absent}")
    return _without(names, name)
