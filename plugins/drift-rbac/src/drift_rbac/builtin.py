"""The roles that every registry has, and what a scope needs of them."""

from collections.abc import Mapping

from drift_rbac.entities import Permission, Role

ADMIN = "admin"
OWNER = "org-admin"

CROSSING = frozenset({ADMIN, "cross-org-viewer"})
"""Roles that reach into organizations of which one is no member."""

ALIASES: Mapping[str, str] = {"read-only": "viewer", "read-write": "developer"}
"""What the login guides of the original call some roles."""


def _role(name: str, priority: int, description: str, *permissions: tuple[str, str]) -> Role:
    return Role(
        id=name,
        name=name,
        description=description,
        permissions=tuple(Permission(resource, action) for resource, action in permissions),  # type: ignore[arg-type]
        priority=priority,
        system_role=True,
    )


_LOOK = (("Registry", "Read"), ("Organization", "Read"), ("Team", "Read"))
_PULL, _PUSH = ("Repository", "Pull"), ("Repository", "Push")
_BOLT = (("Profile", "Read"), ("Plugin", "Read"))
_BOLT_PUSH = (("Profile", "Update"), ("Plugin", "Update"))

BUILT_IN: Mapping[str, Role] = {
    role.id: role
    for role in (
        _role(ADMIN, 100, "May do everything", ("Registry", "Admin")),
        _role(
            OWNER,
            90,
            "Runs an organization: its members, teams and repositories",
            *_LOOK,
            ("Organization", "Admin"),
            ("Team", "Admin"),
            ("Repository", "Admin"),
        ),
        _role(
            "team-lead",
            70,
            "Chooses the members of teams, and pushes",
            *_LOOK,
            ("Team", "ManageMembers"),
            _PULL,
            _PUSH,
            ("Image", "Tag"),
        ),
        _role("ci-bot", 60, "A program that builds and pushes", _PULL, _PUSH, ("Image", "Tag")),
        _role("developer", 50, "Pulls and pushes", *_LOOK, _PULL, _PUSH, ("Image", "Tag"), *_BOLT, *_BOLT_PUSH),
        _role("push-only", 40, "Pushes, and sees nothing", _PUSH),
        _role("contributor", 30, "Pulls and pushes images, but no profiles and plugins", *_LOOK, _PULL, _PUSH, *_BOLT),
        _role("cross-org-viewer", 20, "Pulls from every organization", *_LOOK, _PULL, *_BOLT),
        _role("viewer", 10, "Pulls", *_LOOK, _PULL, *_BOLT),
    )
}
"""By name. They cannot be changed."""
