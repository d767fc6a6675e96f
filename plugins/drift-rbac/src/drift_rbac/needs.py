"""Which permissions satisfy which scope: the names of Drift's scopes beside those of the original's permissions."""

import re
from collections.abc import Mapping
from typing import Final, get_args

from drift_core.api import CATALOG, Scope
from drift_rbac.entities import Action, Permission, Resource

Need = frozenset[tuple[str, str]]
"""Pairs of resource and action, of which one has to be allowed."""

LISTS: Final = frozenset({CATALOG, Scope("organization", "*", "list"), Scope("role", "*", "list")})
"""Lists that show everybody who is known what he may see."""

PARTS: Final = frozenset({"repository", "image", "tag", "blob", "manifest", "signature"})
"""Kinds of scopes that name a repository."""

ORGANIZED: Final = frozenset({"organization", "team"})
"""Kinds of scopes whose name begins with that of an organization."""

_BOLT: Final = {"write": "update"}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")


def snake(name: str) -> str:
    """Returns ``manage_members`` for ``ManageMembers``."""
    return _WORD.sub("_", name).lower()


def including(resource: str, action: str) -> Need:
    """Returns the pairs of which each includes a permission: what is for a repository is for all of its parts."""
    pairs = {(resource, action)}
    if snake(resource) in PARTS:
        pairs.add(("Repository", action))
    if resource == "Team":
        pairs.add(("Organization", "Admin"))
    return frozenset(pairs)


def _needs() -> dict[tuple[str, str], Need]:
    found: dict[tuple[str, str], Need] = {}
    for resource in get_args(Resource):
        # What other plugins call registry:NAME:ACTION is for admins: `registry.read` was not made for it.
        if resource != "Registry":
            kind = snake(resource)
            found |= {(kind, snake(action)): including(resource, action) for action in get_args(Action)}
            found[kind, "*"] = including(resource, "Admin")
    for action in ("Pull", "Push", "Delete"):
        found["repository", snake(action)] |= {("Image", action)}
    return found


NEEDS: Final[Mapping[tuple[str, str], Need]] = _needs()

ADMINS_ONLY: Final = ("", "")
"""Stands for every scope that is not in `NEEDS`."""


def need_of(scope: Scope) -> tuple[str, str]:
    """Returns kind and action of a scope as `NEEDS` has them, or `ADMINS_ONLY`."""
    kind, action = scope.kind, scope.action
    if kind == "bolt":
        kind, action = ("plugin" if scope.name.startswith("plugin") else "profile"), _BOLT.get(action, action)
    return (kind, action) if (kind, action) in NEEDS else ADMINS_ONLY


def satisfies(permission: Permission, need: Need) -> bool:
    """Returns whether a permission is one of those needed, or includes one of them."""
    resource, action = permission.resource, permission.action
    if (resource, action) == ("Registry", "Admin"):
        return True
    return any(resource == wanted and action in (needed, "Admin") for wanted, needed in need)
