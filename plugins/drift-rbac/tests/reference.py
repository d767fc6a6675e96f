"""The rules of docs/explanation/authorization.md, said again, slowly and one after the other."""

from datetime import time
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

from drift_rbac.builtin import BUILT_IN
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.entities import Permission, Role

from drift_core.api import Identity

SATISFYING = {
    "pull": {("Repository", "Pull"), ("Image", "Pull")},
    "push": {("Repository", "Push"), ("Image", "Push")},
    "delete": {("Repository", "Delete"), ("Image", "Delete")},
}
FULL = {("Repository", "Admin"), ("Image", "Admin"), ("Registry", "Admin")}


def within(scope: str, name: str) -> bool:
    kind, _, value = scope.partition(":")
    if kind == "global":
        return True
    if kind == "repository":
        return fnmatchcase(name, value)
    return name == value or name.startswith(f"{value}/")


def names_organization(scope: str) -> bool:
    return scope != "global" and "*" not in scope.partition(":")[2].partition("/")[0]


def ancestry(directory: Directory, name: str) -> list[Role]:
    found: list[Role] = []
    current: str | None = name
    while current is not None:
        role = BUILT_IN.get(current) or directory.roles.get(current)
        if role is None or role in found:
            break
        found.append(role)
        current = role.parent_role
    return found


def holds(
    permission: Permission,
    repository: str,
    attributes: dict[str, str],
    config: RbacConfig,
    at: time,
    address: str | None,
    tag: str | None,
) -> bool:
    for condition in permission.conditions:
        kind, value = condition.type_, condition.value
        if kind == "Repository":
            fine = fnmatchcase(repository, value)
        elif kind == "Namespace":
            fine = within(f"namespace:{value}", repository)
        elif kind == "Attribute":
            name, wanted = value.split("=", 1)
            fine = config.enable_attribute_based_access and attributes.get(name) == wanted
        elif kind == "IpRange":
            fine = address is not None and ip_address(address) in ip_network(value)
        elif kind == "TimeRange":
            begin, end = (time.fromisoformat(part) for part in value.split("-"))
            minutes = [one.hour * 60 + one.minute for one in (begin, end, at)]
            length = (minutes[1] - minutes[0]) % (24 * 60)
            fine = (minutes[2] - minutes[0]) % (24 * 60) < length
        else:
            negative = value.startswith("!")
            fine = tag is None or fnmatchcase(tag, value.lstrip("!")) != negative
        if not fine:
            return False
    return True


def decide(  # noqa: C901, PLR0912 - one rule after the other
    directory: Directory,
    config: RbacConfig,
    identity: Identity | None,
    repository: str,
    action: str,
    at: time,
    address: str | None,
    tag: str | None = None,
) -> bool | None:
    """Returns the decision about a right on a repository."""
    home = repository.partition("/")[0]
    organization = directory.organizations.get(home)
    public = any(fnmatchcase(repository, glob) for glob in config.public)
    if organization is not None and organization.settings.allow_public_repos:
        public = public or organization.settings.default_visibility == "public"
        public = public or any(fnmatchcase(repository, glob) for glob in organization.repositories)
    readable = public and action == "pull"
    if identity is None:
        return True if readable else None
    user = directory.users.get(identity.name)
    if user is not None and not user.active:
        return False

    # Each: the role's name, and the scopes in all of which the repository has to be; a team has several of its own.
    held: list[tuple[str, list[str]]] = [(one.role, [one.scope]) for one in (user.direct_roles if user else ())]
    mapped = {"read-only": "viewer", "read-write": "developer"}
    held += [(mapped.get(role, role), ["global"]) for role in identity.roles]
    held += [("admin", ["global"])] if identity.name in config.admins else []

    def is_global(name: str, scopes: list[str]) -> bool:
        chain = ancestry(directory, name)
        return bool(chain) and scopes == ["global"] and chain[0].scope == "global"

    if not any(is_global(*one) for one in held):
        held.append((config.default_role, ["global"]))
    member = organization is not None and identity.name in organization.members
    for team in directory.teams.values() if config.enable_team_based_access else ():
        if identity.name in team.members or identity.groups & set(team.groups):
            member = member or team.organization_id == home
            globs = [f"repository:{glob}" for glob in team.repositories]
            for role in team.roles:
                held += [(role, [scope]) for scope in globs or [f"organization:{team.organization_id}"]]
    stranger = config.enable_organization_isolation and organization is not None and not member

    for name, scopes in held:
        reach = list(scopes)
        for role in ancestry(directory, name):
            reach.append(role.scope)
            crossing = role.id in {"admin", "cross-org-viewer"} or any(names_organization(scope) for scope in reach)
            if (stranger and not crossing) or not all(within(scope, repository) for scope in reach):
                continue
            for permission in role.permissions:
                pair = (permission.resource, permission.action)
                attributes = user.attributes if user else {}
                if pair in SATISFYING[action] | FULL and holds(
                    permission, repository, attributes, config, at, address, tag
                ):
                    return True
    if readable:
        return True
    return False if stranger else None
