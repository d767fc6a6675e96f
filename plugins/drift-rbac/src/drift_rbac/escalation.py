"""What a change gives to anybody, so that nobody can give more than he has."""

from collections.abc import Iterable, Iterator

from drift_core.api import Denied, Identity
from drift_rbac.builtin import ADMIN, BUILT_IN
from drift_rbac.directory import Difference, Directory
from drift_rbac.entities import Organization, Permission, Role, Team, User, everything_of, scope_globs
from drift_rbac.policy import EVERYWHERE, Grant, Policy

_PULL = Permission("Repository", "Pull")
_MANAGE_MEMBERS = Permission("Organization", "ManageMembers")


def check_giving(giver: Identity, policy: Policy, after: Directory, found: Iterable[Difference]) -> None:
    """Raises `Denied` where a change gives something that the giver may not do himself, by ``policy``, before it.

    An attribute may be what a condition asks for: only who may do everything sets one.
    """
    holder = policy.holder(giver)
    then = Policy(after, policy.config)
    for difference in found:
        exceeded = policy.exceeded(holder, _given(giver, policy, then, difference))
        if exceeded is not None:
            globs = exceeded.parts[0].texts if exceeded.flat is None else exceeded.flat
            raise Denied(
                f"this gives more than {giver.name} may do: {exceeded.permission.name}",
                role=exceeded.role,
                permission=exceeded.permission.name,
                within=list(globs),
            )


def _given(giver: Identity, policy: Policy, then: Policy, difference: Difference) -> Iterator[Grant]:
    before, after = difference.before, difference.after
    if isinstance(after, User):
        yield from _to_user(then, before if isinstance(before, User) else User(id=after.id), after)
    elif isinstance(before, User):
        # Who is deleted may log in again, as somebody unknown.
        yield from _to_user(then, before, User(id=before.id, attributes=before.attributes))
    elif isinstance(after, Team):
        old_team = before if isinstance(before, Team) else Team(id=after.id, organization_id=after.organization_id)
        yield from _to_team(then, old_team, after)
        names = set(after.members) - set(old_team.members)
        yield from _to_members(giver, policy, then, after.organization_id, names, set(after.groups))
    elif isinstance(after, Organization):
        published = tuple(glob for glob in after.public if not policy.is_public(glob))
        if published:
            yield Grant("", _PULL, [published], explicit=True)
        old_members = before.members if isinstance(before, Organization) else ()
        yield from _to_members(giver, policy, then, after.id, set(after.members) - set(old_members))
    elif isinstance(after, Role):
        yield from then.grants_of(after.id, EVERYWHERE)
        yield from _to_holders(policy, then, after.id)


def _to_user(then: Policy, old: User, after: User) -> Iterator[Grant]:
    """Yields what a user gets; who is made active again gets all that he has, but for the default role."""
    if after.attributes != old.attributes:
        yield from then.grants_of(ADMIN, EVERYWHERE)
    woken = after.active and not old.active
    new = [one for one in after.direct_roles if woken or one not in old.direct_roles]
    grants = [grant for one in new for grant in then.grants_of(one.role, scope_globs(one.scope))]
    yield from grants
    if woken:
        identity = Identity(after.id, "rbac")
        for organization in then.holder(identity).organizations:
            yield from _counting(grants, organization)
        for team in then.teams_of(identity):
            yield from _of_team(then, team, team.roles)
        if after.id in then.config.admins:
            yield from then.grants_of(ADMIN, EVERYWHERE)


def _to_team(then: Policy, old: Team, after: Team) -> Iterator[Grant]:
    """Yields what those get by the roles of a team who are in it, or come into it."""
    groups = set(after.groups) - set(old.groups)
    if groups:
        # Nobody here knows who is in a group, and all of it becomes members of the organization.
        yield Grant("", _MANAGE_MEMBERS, [everything_of(after.organization_id)], explicit=True)
    more = groups or set(after.members) - set(old.members) or after.repositories != old.repositories
    yield from _of_team(then, after, [role for role in after.roles if more or role not in old.roles])


def _of_team(then: Policy, team: Team, roles: Iterable[str]) -> Iterator[Grant]:
    scope = team.repositories or everything_of(team.organization_id)
    for role in roles:
        yield from then.grants_of(role, scope)


def _to_members(
    giver: Identity, policy: Policy, then: Policy, organization: str, names: Iterable[str], groups: Iterable[str] = ()
) -> Iterator[Grant]:
    """Yields what those get who become members: what they have without naming the organization counts there."""
    if not policy.isolated:
        return
    # The giver may be one of them, with roles and groups that only his login knows.
    joining = [giver, *(Identity(name, "rbac") for name in sorted(names))]
    joining += [Identity("", "rbac", frozenset({group})) for group in sorted(groups)]
    for identity in joining:
        holder = then.holder(identity)
        if organization in holder.organizations - policy.holder(identity).organizations:
            yield from _counting(holder.grants, organization)


def _to_holders(policy: Policy, then: Policy, changed: str) -> Iterator[Grant]:
    """Yields what a changed role newly gives those who have it, or a role that inherits from it, where they have it."""
    directory = then.directory
    heirs = {
        name for name in (*BUILT_IN, *directory.roles) if any(role.id == changed for role in directory.chain(name))
    }
    held = {(name, EVERYWHERE) for name in heirs}
    for user in directory.users.values():
        held |= {(one.role, scope_globs(one.scope)) for one in user.direct_roles if one.role in heirs}
    for team in directory.teams.values():
        scope = team.repositories or everything_of(team.organization_id)
        held |= {(name, scope) for name in team.roles if name in heirs}
    for name, scope in sorted(held):
        known = {_content(grant) for grant in policy.grants_of(name, scope)}
        yield from (grant for grant in then.grants_of(name, scope) if _content(grant) not in known)


def _counting(grants: Iterable[Grant], organization: str) -> Iterator[Grant]:
    """Yields, of what counts only for members of an organization, the part that lies in it."""
    for grant in grants:
        if not grant.explicit:
            parts = [*(part.texts for part in grant.parts), everything_of(organization)]
            yield Grant(grant.role, grant.permission, parts, explicit=True)


def _content(grant: Grant) -> tuple[Permission, tuple[tuple[str, ...], ...], bool]:
    return grant.permission, tuple(part.texts for part in grant.parts), grant.explicit
