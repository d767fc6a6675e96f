"""Why something is allowed or refused, and which rights nobody needs."""

from datetime import time

import msgspec

from drift_core.api import Identity, Scope, Struct
from drift_rbac.builtin import BUILT_IN
from drift_rbac.conditions import Moment
from drift_rbac.entities import Assignment, scope_globs
from drift_rbac.errors import EntityInvalid
from drift_rbac.needs import snake
from drift_rbac.policy import Policy


class Circumstances(Struct, frozen=True):
    """From which address, when in the zone of the policy, and about which tag somebody asks; None is left open."""

    ip: str | None = None
    time: str | None = None
    tag: str | None = None


class Explanation(Struct, frozen=True):
    """A decision; ``applied_roles`` and ``applied_permissions`` are what allows it, empty where nothing does."""

    allowed: bool
    reason: str
    applied_roles: tuple[str, ...] = ()
    applied_permissions: tuple[str, ...] = ()


class Superfluous(Struct, frozen=True):
    """An assignment that adds nothing."""

    user_id: str
    role: str
    scope: str


class Unused(Struct, frozen=True):
    """``roles`` that nobody has, and ``assignments`` that add nothing to what the user has by other roles."""

    roles: list[str]
    assignments: list[Superfluous]


def explain(
    policy: Policy,
    identity: Identity | None,
    resource: str,
    action: str,
    resource_id: str,
    circumstances: Circumstances,
) -> Explanation:
    """Returns the decision that a request would get. Raises `EntityInvalid` for a time that is none."""
    present = policy.now()
    try:
        at = present.time if circumstances.time is None else time.fromisoformat(circumstances.time)
    except ValueError as error:
        raise EntityInvalid(f"{circumstances.time!r} is no time such as 09:30") from error
    moment = Moment(at, circumstances.ip)
    holder = None if identity is None else policy.holder(identity)
    scope = Scope(snake(resource), resource_id or "*", snake(action))
    if resource == "Registry" and action in {"Read", "List", "Search"} and resource_id in {"", "*"}:
        scope = Scope("registry", "catalog", "*")
    judged = policy.judge(holder, scope, lambda: moment, circumstances.tag)
    reason = judged.verdict.reason
    if judged.grant is None:
        waiting = None if holder is None or judged.verdict.allowed else policy.conditional(holder, scope)
        if waiting is not None and holder is not None and holder.active:
            conditions = ", ".join(f"{kind} {value}" for kind, value in sorted(waiting.dynamic()))
            reason = f"the role {waiting.role} allows {waiting.permission.name}, but only if {conditions}"
        return Explanation(bool(judged.verdict.allowed), reason)
    permissions = (judged.grant.permission.name,)
    return Explanation(True, reason, (judged.grant.role,), permissions)


def unused(policy: Policy) -> Unused:
    """Returns rights that could be taken away without anybody noticing, by what is stored."""
    directory = policy.directory
    held = {one.role for user in directory.users.values() for one in user.direct_roles}
    held |= {role for team in directory.teams.values() for role in team.roles} | {policy.config.default_role}
    inherited = {parent.id for name in held for parent in directory.chain(name)}
    roles = sorted({*directory.roles, *BUILT_IN} - held - inherited)
    assignments = [
        Superfluous(name, one.role, one.scope)
        for name, user in sorted(directory.users.items())
        for one in user.direct_roles
        if _superfluous(policy, name, one)
    ]
    return Unused(roles, assignments)


def _superfluous(policy: Policy, name: str, assignment: Assignment) -> bool:
    user = policy.directory.users[name]
    left = tuple(one for one in user.direct_roles if one != assignment)
    holder = policy.held(Identity(name, "rbac"), msgspec.structs.replace(user, direct_roles=left))
    return policy.exceeded(holder, policy.grants_of(assignment.role, scope_globs(assignment.scope))) is None
