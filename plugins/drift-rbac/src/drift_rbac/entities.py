"""What the policy knows: organizations, teams, users, roles, and the permissions of roles."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from drift_core.api import Struct
from drift_rbac import conditions, globs

Resource = Literal[
    "Registry",
    "Organization",
    "Team",
    "Repository",
    "Image",
    "Tag",
    "Blob",
    "Manifest",
    "Signature",
    "Profile",
    "Plugin",
    "User",
    "Role",
    "Settings",
]
Action = Literal[
    "Read",
    "List",
    "Search",
    "Create",
    "Update",
    "Delete",
    "Pull",
    "Push",
    "Tag",
    "Sign",
    "Admin",
    "ManageMembers",
    "ManageRoles",
    "ManageSettings",
    "Execute",
    "Optimize",
    "Audit",
]

Slug = Annotated[str, Meta(pattern=r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z", max_length=128)]
"""A part of a repository's name (distribution specification, "Pulling manifests"); the id of an organization, too."""

Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f*]{1,255}\Z")]
"""The name of an identity, as an authenticator gives it."""

Text = Annotated[str, Meta(max_length=4096)]
Group = Annotated[str, Meta(min_length=1, max_length=255)]

GLOBAL: Final = "global"

_PATH = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*")


class Condition(Struct, frozen=True, forbid_unknown_fields=True):
    """What has to hold besides; see `conditions` for the forms of ``value``."""

    type_: conditions.Kind
    value: str

    def __post_init__(self) -> None:
        conditions.check(self.type_, self.value)


class Permission(Struct, frozen=True, forbid_unknown_fields=True):
    """Allows an action on a resource where all of its conditions hold; ``Admin`` is every action."""

    resource: Resource
    action: Action
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """The name that the original has for it, such as ``repository.pull``."""
        return f"{self.resource}.{self.action}".lower()


class Assignment(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """A role that a user has, within a scope; see `scope_globs`."""

    role: Slug
    scope: str = GLOBAL

    def __post_init__(self) -> None:
        scope_globs(self.scope)


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """What an organization decides for itself.

    Where ``allow_public_repos`` is true, anybody may pull from what ``repositories`` of the organization names, and
    from all that it has where ``default_visibility`` is public. ``max_members`` is kept to; what else is limited here,
    the storage quota in GB included, is for others to read. ``require_2fa`` is true only where it was kept before it
    was refused.
    """

    require_2fa: bool = False
    allow_public_repos: bool = False
    default_visibility: Literal["private", "public"] = "private"
    max_members: Annotated[int, Meta(ge=1)] | None = None
    max_repositories: Annotated[int, Meta(ge=1)] | None = None
    storage_quota_gb: Annotated[int, Meta(ge=1)] | None = None
    allowed_domains: tuple[Text, ...] = ()
    webhook_url: Text | None = None


class Organization(Struct, frozen=True, forbid_unknown_fields=True):
    """Owns every repository whose first part is its ``id``; ``repositories`` are globs of those that may be public."""

    id: Slug
    name: Text = ""
    description: Text = ""
    owner_id: Name | None = None
    members: tuple[Name, ...] = ()
    repositories: tuple[str, ...] = ()
    settings: Settings = Settings()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_within(self.repositories, self.id)

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.id

    @property
    def public(self) -> tuple[str, ...]:
        """The globs of repositories from which anybody may pull."""
        if not self.settings.allow_public_repos:
            return ()
        return everything_of(self.id) if self.settings.default_visibility == "public" else self.repositories


class Team(Struct, frozen=True, forbid_unknown_fields=True):
    """Some of an organization, and whoever is in one of ``groups``, which an authenticator tells.

    All have ``roles`` for ``repositories``, which are globs; none is everything that the organization has.
    """

    id: Slug
    organization_id: Slug
    name: Text = ""
    description: Text = ""
    members: tuple[Name, ...] = ()
    roles: tuple[Slug, ...] = ()
    repositories: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        _check_within(self.repositories, self.organization_id)

    @property
    def key(self) -> str:
        """What tells it from others."""
        return f"{self.organization_id}/{self.id}"


class User(Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody whom an authenticator names ``id``; who is not ``active`` may do nothing."""

    id: Name
    email: Text = ""
    full_name: Text = ""
    direct_roles: tuple[Assignment, ...] = ()
    attributes: dict[Text, Text] = msgspec.field(default_factory=dict[str, str])
    active: bool = True
    created_at: datetime | None = None

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.id


class Role(Struct, frozen=True, forbid_unknown_fields=True):
    """Permissions within a scope, and those of ``parent_role``; roles are asked in the order of falling priority.

    A ``system_role`` is built in.
    """

    id: Slug
    name: Text = ""
    description: Text = ""
    permissions: tuple[Permission, ...] = ()
    parent_role: Slug | None = None
    scope: str = GLOBAL
    priority: Annotated[int, Meta(ge=0, le=1000)] = 0
    system_role: bool = False
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        scope_globs(self.scope)

    @property
    def key(self) -> str:
        """What tells it from others."""
        return self.id


Entity = Organization | Team | User | Role
EntityT = TypeVar("EntityT", bound=Entity)


def everything_of(organization: str) -> tuple[str, ...]:
    """Returns the globs of all repositories of an organization, or below a namespace, and of what is named like it."""
    return (organization, f"{organization}/*")


def organization_of(name: str) -> str:
    """Returns the first part of the name of a repository, or of a glob, which may be that of an organization."""
    return name.partition("/")[0]


@lru_cache(4096)
def scope_globs(scope: str) -> tuple[str, ...]:
    """Returns the globs of a scope.

    It is ``global``, ``organization:ID``, ``namespace:PATH`` or ``repository:GLOB``. Raises ValueError for another.
    """
    kind, _, value = scope.partition(":")
    if scope == GLOBAL:
        return ("*",)
    if kind == "repository" and globs.is_glob(value):
        return (value,)
    if kind in {"organization", "namespace"} and _PATH.fullmatch(value) and ("/" not in value or kind == "namespace"):
        return everything_of(value)
    message = f"{scope!r} is no scope: global, organization:ID, namespace:PATH or repository:GLOB"
    raise ValueError(message)


def scope_organization(scope: str) -> str | None:
    """Returns the organization that a scope names, or None where it may reach several."""
    first = organization_of(scope.partition(":")[2])
    return first if first and "*" not in first else None


def _check_within(repositories: tuple[str, ...], organization: str) -> None:
    for glob in repositories:
        if not globs.is_glob(glob) or organization_of(glob) != organization:
            message = f"{glob!r} is no glob of repositories of {organization}, such as {organization}/*-api"
            raise ValueError(message)
