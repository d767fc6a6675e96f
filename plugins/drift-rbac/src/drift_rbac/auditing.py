"""What the audit trail is told of a change of the policy, by the types of events that the original has."""

from collections.abc import Iterator
from typing import Any

from drift_core.api import AuditEvent, Identity
from drift_rbac.directory import Difference, changed_fields
from drift_rbac.entities import Assignment, Team, User

TYPES = {"organizations": "Organization", "teams": "Team", "users": "User"}
"""How the events of a kind are named; a role is part of the configuration."""


def audit_events(difference: Difference, actor: Identity | None) -> Iterator[AuditEvent]:
    """Yields what happened to one entity, and then each role that it was given or that was taken away."""
    done = "Modified"
    if difference.before is None:
        done = "Created"
    elif difference.after is None:
        done = "Deleted"
    named = TYPES.get(difference.kind)
    resource = named or "Role"
    fields = changed_fields(difference)
    changed = {name: {"before": before, "after": after} for name, (before, after) in fields.items()}
    yield AuditEvent(
        type=f"{named}{done}" if named else "ConfigurationChanged",
        identity=actor,
        resource_type=resource,
        resource_id=difference.key,
        parameters={"operation": done, "changed": changed if done == "Modified" else sorted(changed)},
    )
    before, after = _roles(difference.before), _roles(difference.after)
    for kind, roles in (("RoleRevoked", before - after), ("RoleAssigned", after - before)):
        for role in sorted(roles):
            yield AuditEvent(
                type=kind,
                identity=actor,
                resource_type=resource,
                resource_id=difference.key,
                parameters={"role": role.role, "scope": role.scope},
            )


def _roles(entity: Any) -> set[Assignment]:
    if isinstance(entity, User):
        return set(entity.direct_roles)
    if isinstance(entity, Team):
        return {Assignment(role, f"organization:{entity.organization_id}") for role in entity.roles}
    return set()
