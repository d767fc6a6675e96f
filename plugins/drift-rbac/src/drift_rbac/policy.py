"""Decides, from memory alone: what somebody holds is worked out once, and looked through for each question."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from drift_core.api import Identity, Scope, Struct, Verdict, Visible
from drift_rbac.builtin import ADMIN, ALIASES, CROSSING
from drift_rbac.conditions import Moment, Test, fits_tag, has_attribute, moment, test, zone
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.entities import (
    GLOBAL,
    Permission,
    Role,
    Team,
    User,
    everything_of,
    organization_of,
    scope_globs,
)
from drift_rbac.globs import Globs, common
from drift_rbac.needs import LISTS, NEEDS, ORGANIZED, PARTS, including, need_of, satisfies, snake

MOST_HOLDERS: Final = 10_000
"""Identities of which is kept what they hold, about 2 KiB each."""

MOST_GLOBS: Final = 200
"""Most globs for a query of the catalogue; who would need more has it filtered page by page."""

EVERYWHERE: Final = ("*",)
PULL: Final = ("repository", "pull")
PLACED: Final = PARTS | ORGANIZED
"""Kinds of what lies in an organization."""

ANONYMOUS = Verdict(None, "nobody is known, and this is not public")
PUBLIC = Verdict(True, "it is public")
INACTIVE = Verdict(False, "the user is not active")
LISTED = Verdict(True, "the list shows what may be seen")
ONESELF = Verdict(True, "everybody may read of himself")


class Judgement(Struct, frozen=True):
    """A verdict, and the grant that allows; None where none does, or none is needed."""

    verdict: Verdict
    grant: "Grant | None" = None


class Grant:
    """One permission of one role, within a scope, as somebody holds it.

    A name has to match each of ``parts``. ``explicit`` says that the scope names the organization, or that the role
    crosses organizations. ``tests`` are TimeRange and IpRange, ``tags`` and ``attributes`` the conditions of that kind.
    """

    __slots__ = ("attributes", "explicit", "flat", "judgement", "parts", "permission", "role", "tags", "tests")

    def __init__(self, role: str, permission: Permission, parts: Iterable[tuple[str, ...]], *, explicit: bool) -> None:
        by_kind: dict[str, list[str]] = {}
        for condition in permission.conditions:
            by_kind.setdefault(condition.type_, []).append(condition.value)
        globs = [*parts, *((glob,) for glob in by_kind.get("Repository", ()))]
        globs += [everything_of(path) for path in by_kind.get("Namespace", ())]
        every = list(dict.fromkeys(part for part in globs if part != EVERYWHERE)) or [EVERYWHERE]
        self.role = role
        self.permission = permission
        self.explicit = explicit
        self.parts = tuple(Globs(part) for part in every)
        self.flat = _flattened(every)
        self.tests: tuple[Test, ...] = tuple(
            test(kind, value) for kind in ("TimeRange", "IpRange") for value in by_kind.get(kind, ())
        )
        self.tags = tuple(by_kind.get("Tag", ()))
        self.attributes = tuple(by_kind.get("Attribute", ()))
        self.judgement = Judgement(Verdict(True, f"the role {role} allows {permission.name}"), self)

    def matches(self, name: str) -> bool:
        """Returns whether the grant is about a name; a glob as name asks about all that it matches."""
        # A loop, which costs a third of what `all` does.
        for part in self.parts:  # noqa: SIM110
            if not part.match(name):
                return False
        return True

    def holds(self, now: Callable[[], Moment], tag: str | None = None) -> bool:
        """Returns whether the conditions hold; those on tags count only where a tag is given."""
        if tag is not None and not all(fits_tag(value, tag) for value in self.tags):
            return False
        if not self.tests:
            return True
        present = now()
        return all(one(present) for one in self.tests)

    def gives(self) -> bool:
        """Returns whether it allows anything: what lies in no organization is held everywhere, or not at all."""
        # What satisfies every need, under whatever conditions, is also something in an organization.
        placed = snake(self.permission.resource) in PLACED or satisfies(self.permission, frozenset())
        return (placed and self.flat != ()) or self.matches("*")

    def dynamic(self) -> set[tuple[str, str]]:
        """Returns the conditions that are not about names of repositories."""
        return {(one.type_, one.value) for one in self.permission.conditions if one.type_ not in NAMING}


NAMING: Final = frozenset({"Repository", "Namespace"})


class Holder:
    """What one identity holds, roles of higher priority first; ``organizations`` are those of which it is a member."""

    __slots__ = ("_needed", "active", "grants", "name", "organizations")

    def __init__(self, name: str, grants: Sequence[Grant], organizations: frozenset[str], *, active: bool) -> None:
        self.name = name
        self.active = active
        self.organizations = organizations
        self.grants = tuple(grants)
        self._needed: dict[tuple[str, str], tuple[Grant, ...]] = {}

    def allowing(self, need: tuple[str, str]) -> tuple[Grant, ...]:
        """Returns the grants that satisfy a key of `NEEDS`, or `ADMINS_ONLY`."""
        found = self._needed.get(need)
        if found is None:
            wanted = NEEDS.get(need, frozenset())
            found = tuple(grant for grant in self.grants if satisfies(grant.permission, wanted))
            self._needed[need] = found
        return found


class Policy:
    """The directory at one revision, ready to be asked."""

    def __init__(self, directory: Directory, config: RbacConfig, revision: int = 0) -> None:
        self.directory = directory
        self.revision = revision
        self.config = config
        self.isolated = config.enable_organization_isolation
        self._zone = zone(config.timezone)
        self._public = Globs(config.public)
        self._published = {one.id: Globs(one.public) for one in directory.organizations.values() if one.public}
        self._teams_by_user: dict[str, list[Team]] = {}
        self._teams_by_group: dict[str, list[Team]] = {}
        self._organizations_by_user: dict[str, set[str]] = {}
        for organization in directory.organizations.values():
            for member in organization.members:
                self._organizations_by_user.setdefault(member, set()).add(organization.id)
        for team in directory.teams.values() if config.enable_team_based_access else ():
            for member in team.members:
                self._teams_by_user.setdefault(member, []).append(team)
            for group in team.groups:
                self._teams_by_group.setdefault(group, []).append(team)
        conditions = (
            one for role in directory.roles.values() for right in role.permissions for one in right.conditions
        )
        self.has_tag_conditions = any(condition.type_ == "Tag" for condition in conditions)
        self._grants: dict[tuple[str, tuple[str, ...]], list[Grant]] = {}
        self._holders: dict[object, Holder] = {}
        self._began = time.monotonic()
        self.known_holders = 0
        self.new_holders = 0

    def now(self) -> Moment:
        """Returns the moment of the request that the running task answers."""
        return moment(self._zone)

    def holder(self, identity: Identity) -> Holder:
        """Returns what an identity holds."""
        key = (identity.name, identity.roles, identity.groups)
        found = self._holders.get(key)
        if found is not None and time.monotonic() - self._began < self.config.cache_ttl_seconds:
            self.known_holders += 1
            return found
        self.new_holders += 1
        if found is not None or len(self._holders) >= MOST_HOLDERS:
            self._holders.clear()
            self._began = time.monotonic()
        found = self._holders[key] = self.held(identity, self.directory.users.get(identity.name))
        return found

    def held(self, identity: Identity, user: User | None) -> Holder:
        """Works out what an identity holds of whom the directory knows ``user``, None being nothing."""
        teams = self.teams_of(identity)
        held: list[tuple[Role, tuple[str, ...]]] = []
        for assignment in () if user is None else user.direct_roles:
            held += self._holding(assignment.role, scope_globs(assignment.scope))
        for mapped in sorted(identity.roles):
            held += self._holding(ALIASES.get(mapped, mapped), EVERYWHERE)
        if identity.name in self.config.admins:
            held += self._holding(ADMIN, EVERYWHERE)
        if not any(scope == EVERYWHERE and role.scope == GLOBAL for role, scope in held):
            held += self._holding(self.config.default_role, EVERYWHERE)
        for team in teams:
            scope = team.repositories or everything_of(team.organization_id)
            for name in team.roles:
                held += self._holding(name, scope)
        held.sort(key=lambda one: (-one[0].priority, one[0].id, one[1]))
        attributes = {} if user is None else user.attributes
        grants = [
            grant
            for role, scope in dict.fromkeys(held)
            for grant in self.grants_of(role.id, scope)
            if self._fits(grant, attributes)
        ]
        organizations = self._organizations_by_user.get(identity.name, set()) | {team.organization_id for team in teams}
        return Holder(identity.name, grants, frozenset(organizations), active=user is None or user.active)

    def judge(
        self,
        holder: Holder | None,
        scope: Scope,
        now: Callable[[], Moment] | None = None,
        tag: str | None = None,
    ) -> Judgement:
        """Decides one scope; ``holder`` None is an anonymous request. Where a tag is given, it has to be allowed."""
        if holder is not None:
            if not holder.active:
                return _INACTIVE
            outside, asked = self._place(holder, scope)
            for grant in holder.allowing(need_of(scope)):
                if outside and not grant.explicit:
                    continue
                # Most have no conditions, and what is asked of every request is not called for them.
                plain = tag is None and not grant.tests
                if grant.matches(asked) and (plain or grant.holds(now or self.now, tag)):
                    return grant.judgement
        else:
            outside = False
        return self._without_role(holder, scope, outside=outside)

    def _place(self, holder: Holder, scope: Scope) -> tuple[bool, str]:
        """Returns whether a scope lies in an organization of which somebody is no member, and what has to match it."""
        name = scope.name
        if scope.kind in PARTS:
            if not self.isolated:
                return False, name
            organization = name.partition("/")[0]
            known = organization in self.directory.organizations
            return known and organization not in holder.organizations, name
        if scope.kind in ORGANIZED and name != "*":
            # Whether there is such an organization is not for everybody to know.
            organization = name.partition("/")[0]
            return self.isolated and organization not in holder.organizations, f"{organization}/*"
        return False, "*"

    def _without_role(self, holder: Holder | None, scope: Scope, *, outside: bool) -> Judgement:
        """Decides what no role allows."""
        if scope.kind == "repository" and scope.action == "pull" and self.is_public(scope.name):
            return _PUBLIC
        if holder is None:
            return _ANONYMOUS
        if scope in LISTS:
            return _LISTED
        if scope.kind == "user" and scope.action == "read" and scope.name == holder.name:
            return _ONESELF
        if outside:
            organization = organization_of(scope.name)
            return Judgement(Verdict(False, f"{holder.name} is no member of the organization {organization}"))
        return Judgement(Verdict(None, f"no role of {holder.name} allows {scope}"))

    def conditional(self, holder: Holder, scope: Scope) -> Grant | None:
        """Returns the first grant that allows a scope whenever its conditions hold, or None."""
        outside, asked = self._place(holder, scope)
        grants = holder.allowing(need_of(scope))
        return next((grant for grant in grants if (grant.explicit or not outside) and grant.matches(asked)), None)

    def is_public(self, repository: str) -> bool:
        """Returns whether anybody may pull from a repository."""
        published = self._published.get(organization_of(repository))
        return self._public.match(repository) or (published is not None and published.match(repository))

    def visible(self, identity: Identity | None) -> Visible:
        """Returns for which repositories `judge` allows, or denies, a pull at this moment; see `SupportsVisibility`."""
        public = [*self._public.texts, *(glob for globs in self._published.values() for glob in globs.texts)]
        if identity is None:
            return _seen(public)
        holder = self.holder(identity)
        if not holder.active:
            return Visible((), ("*",))
        grants = [grant for grant in holder.allowing(PULL) if grant.holds(self.now)]
        allowed = [glob for grant in grants for glob in _texts(grant)]
        if not self.isolated:
            return _seen([*allowed, *public])
        explicit = [glob for grant in grants if grant.explicit for glob in _texts(grant)]
        if "*" in explicit:
            return _seen(explicit)
        closed = [one for one in self.directory.organizations if one not in holder.organizations]
        denied = [glob for one in closed for glob in everything_of(one)]
        return _seen([*allowed, *public], denied, [*explicit, *public])

    def grants_of(self, role: str, scope: tuple[str, ...]) -> list[Grant]:
        """Returns what a role gives whoever has it within some globs."""
        found = self._grants.get((role, scope))
        if found is None:
            found = self._grants[role, scope] = list(self._granted(role, scope))
        return found

    def exceeded(self, holder: Holder, grants: Iterable[Grant]) -> Grant | None:
        """Returns the first of some grants that allows what the holder may not do himself, or None."""
        every = (grant for grant in grants if grant.gives())
        return next((one for one in every if not any(self._includes(holder, own, one) for own in holder.grants)), None)

    def organizations_seen(self, holder: Holder) -> list[str]:
        """Returns the organizations of which the holder may read, in order; asks about no others than necessary."""
        every = self.directory.organizations
        grants = holder.allowing(("organization", "read"))
        if any(grant.matches("*") and (grant.explicit or not self.isolated) for grant in grants):
            near = set(every)
        else:
            scoped = {organization_of(glob) for grant in grants for part in grant.parts for glob in part.texts}
            near = (holder.organizations | scoped) & set(every)
        return [one for one in sorted(near) if self.judge(holder, Scope("organization", one, "read")).verdict.allowed]

    def teams_of(self, identity: Identity) -> list[Team]:
        """Returns the teams of which an identity is a member, itself or by one of its groups."""
        teams = list(self._teams_by_user.get(identity.name, ()))
        teams += [team for group in sorted(identity.groups) for team in self._teams_by_group.get(group, ())]
        return list({team.key: team for team in teams}.values())

    def _holding(self, name: str, scope: tuple[str, ...]) -> list[tuple[Role, tuple[str, ...]]]:
        role = self.directory.find_role(name)
        return [] if role is None else [(role, scope)]

    def _granted(self, name: str, scope: tuple[str, ...]) -> Iterable[Grant]:
        parts = [scope]
        for role in self.directory.chain(name):
            parts = [*parts, scope_globs(role.scope)]
            explicit = role.id in CROSSING or any(_names_organization(part) for part in parts)
            for permission in role.permissions:
                yield Grant(name, permission, parts, explicit=explicit)

    def _fits(self, grant: Grant, attributes: dict[str, str]) -> bool:
        if not grant.attributes:
            return True
        return self.config.enable_attribute_based_access and all(
            has_attribute(value, attributes) for value in grant.attributes
        )

    def _includes(self, holder: Holder, own: Grant, other: Grant) -> bool:
        """Returns whether a grant of the holder allows all that another grant does."""
        need = including(other.permission.resource, other.permission.action)
        if not satisfies(own.permission, need) or not own.dynamic() <= other.dynamic():
            return False
        for text in _texts(other):
            organization = organization_of(text)
            inside = (
                not self.isolated or organization in holder.organizations
                if "*" not in organization
                else not other.explicit
            )
            if not own.matches(text) or not (own.explicit or inside):
                return False
        return True


_ANONYMOUS, _PUBLIC, _INACTIVE = Judgement(ANONYMOUS), Judgement(PUBLIC), Judgement(INACTIVE)
_LISTED, _ONESELF = Judgement(LISTED), Judgement(ONESELF)


def _names_organization(globs: tuple[str, ...]) -> bool:
    return all("*" not in organization_of(glob) for glob in globs)


def _flattened(parts: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """Returns globs that match what each of the parts matches, or None where this is too much work."""
    flat: tuple[str, ...] | None = parts[0]
    for part in parts[1:]:
        flat = None if flat is None or len(flat) * len(part) > MOST_GLOBS else common(flat, part)
    return flat


def _texts(grant: Grant) -> tuple[str, ...]:
    """Returns globs that match at least what a grant is about, and nothing else unless they are intricate."""
    return grant.parts[0].texts if grant.flat is None else grant.flat


def _seen(allowed: Iterable[str], denied: Iterable[str] = (), despite: Iterable[str] = ()) -> Visible:
    """Returns globs for a query; where they are too many, only what leaves out nothing."""
    every, closed, spared = (tuple(dict.fromkeys(globs)) for globs in (allowed, denied, despite))
    if "*" in every:
        every = EVERYWHERE
    if len(every) > MOST_GLOBS or len(closed) > 2 * MOST_GLOBS or len(spared) > MOST_GLOBS:
        return Visible(EVERYWHERE if len(every) > MOST_GLOBS else every)
    return Visible(every, closed, spared if closed else ())
