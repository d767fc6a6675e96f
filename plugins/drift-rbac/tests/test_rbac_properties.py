"""For random policies: the decision is that of a slow reference, batches are their singles, and lists show the same."""

import json
from datetime import time
from fnmatch import fnmatchcase
from time import perf_counter
from typing import Any

import msgspec
import pytest
from drift_rbac.conditions import Moment
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.document import from_text, to_document, to_toml
from drift_rbac.entities import (
    Assignment,
    Condition,
    Organization,
    Permission,
    Role,
    Settings,
    Team,
    User,
)
from drift_rbac.globs import Globs, common
from drift_rbac.policy import Policy
from hypothesis import given, settings
from hypothesis import strategies as st

from drift_core.api import Identity, Scope

from . import reference

ORGANIZATIONS = ("acme", "acme-labs", "beta")
FIRST = (*ORGANIZATIONS, "free")
NAMES = tuple(f"{first}{rest}" for first in FIRST for rest in ("", "/app", "/app-api", "/core/db", "/core/db-api"))
USERS = ("alice", "bob", "carol")
GROUPS = ("gh:devs", "gh:ops")
CUSTOM = ("r0", "r1", "r2", "r3")
SCOPES = (
    "global",
    "organization:acme",
    "organization:beta",
    "namespace:acme/core",
    "namespace:free",
    "repository:acme/app",
    "repository:*-api",
    "repository:a*/core/*",
    "repository:beta/*",
)
GLOBS = ("*", "acme/*", "*-api", "*/core/*", "ac*", "free/app", "*a*b*")
ADDRESSES = ("10.1.2.3", "192.168.0.1", "2001:db8::1", "pipe", None)
CONDITIONS = st.sampled_from(
    [
        Condition("TimeRange", "09:00-17:00"),
        Condition("TimeRange", "22:00-06:00"),
        Condition("IpRange", "10.0.0.0/8"),
        Condition("IpRange", "2001:db8::/32"),
        Condition("Attribute", "level=Executive"),
        Condition("Tag", "v*"),
        Condition("Tag", "!latest"),
        Condition("Repository", "*-api"),
        Condition("Repository", "acme/*"),
        Condition("Namespace", "acme/core"),
    ]
)
PERMISSIONS = st.builds(
    Permission,
    st.sampled_from(["Registry", "Repository", "Repository", "Image", "Organization"]),
    st.sampled_from(["Pull", "Pull", "Push", "Delete", "Admin", "Read"]),
    st.lists(CONDITIONS, max_size=2).map(tuple),
)
ROLE_NAMES = st.sampled_from([*CUSTOM, "admin", "developer", "viewer", "cross-org-viewer", "ci-bot", "push-only"])
# Three of five are there, so that some is inherited and none has everything.
ASSIGNMENTS = st.lists(st.builds(Assignment, ROLE_NAMES, st.sampled_from(SCOPES)), max_size=3).map(tuple)


def some(values: Any, most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


@st.composite
def organizations(draw: Any, name: str) -> Organization:
    public = st.builds(
        Settings,
        allow_public_repos=st.booleans(),
        default_visibility=st.sampled_from(["private", "private", "public"]),
    )
    globs = some([f"{name}/app", f"{name}/*-api"])
    return Organization(id=name, members=draw(some(USERS)), repositories=draw(globs), settings=draw(public))


@st.composite
def teams(draw: Any, organization: str, name: str) -> Team:
    return Team(
        id=name,
        organization_id=organization,
        members=draw(some(USERS)),
        groups=draw(some(GROUPS)),
        roles=draw(st.lists(ROLE_NAMES, max_size=2).map(tuple)),
        repositories=draw(some([f"{organization}/*-api", f"{organization}/core/*"])),
    )


@st.composite
def directories(draw: Any) -> Directory:
    present = draw(some(ORGANIZATIONS, 3))
    every: list[Any] = [draw(organizations(name)) for name in present]
    every += [draw(teams(name, team)) for name in present for team in draw(some(["one", "two"]))]
    every += [
        User(
            id=name,
            direct_roles=draw(ASSIGNMENTS),
            attributes=draw(st.sampled_from([{}, {"level": "Executive"}])),
            active=draw(st.sampled_from([True] * 5 + [False])),
        )
        for name in draw(some(USERS, 3))
    ]
    every += [
        Role(
            id=name,
            permissions=draw(st.lists(PERMISSIONS, max_size=3).map(tuple)),
            parent_role=draw(st.sampled_from([None, *CUSTOM[place + 1 :], "viewer", "cross-org-viewer"])),
            scope=draw(st.sampled_from([*["global"] * 5, *SCOPES])),
            priority=draw(st.integers(0, 200)),
        )
        for place, name in enumerate(CUSTOM)
    ]
    return Directory().put(*every)


CONFIGS = st.builds(
    RbacConfig,
    default_role=st.sampled_from(["viewer", "", "no-such-role", "r0"]),
    enable_organization_isolation=st.sampled_from([True, True, False]),
    enable_team_based_access=st.sampled_from([True, True, False]),
    enable_attribute_based_access=st.booleans(),
    admins=some(USERS, 1),
    public=some(["free/*", "acme/app", "*/core/*"], 1),
)
IDENTITIES = st.none() | st.builds(
    Identity,
    st.sampled_from([*USERS, "dave"]),
    st.just("test"),
    some(GROUPS).map(frozenset),
    st.lists(st.sampled_from(["read-only", "read-write", "push-only", "admin", "r1", "unknown"]), max_size=1).map(
        frozenset
    ),
)
MOMENTS = st.builds(Moment, st.times().map(lambda one: one.replace(microsecond=0)), st.sampled_from(ADDRESSES))
SCOPED = [Scope("repository", name, action) for name in NAMES for action in ("pull", "push", "delete")]
EXAMPLES = settings(max_examples=300, deadline=None)


def slow(
    directory: Directory, config: RbacConfig, identity: Identity | None, scope: Scope, at: Moment, tag: str | None
) -> bool | None:
    address = None if at.address == "pipe" else at.address
    return reference.decide(directory, config, identity, scope.name, scope.action, at.time, address, tag)


@EXAMPLES
@given(directories(), CONFIGS, IDENTITIES, MOMENTS, st.sampled_from([None, "v1", "latest", "nightly"]))
def test_decisions_are_those_of_the_reference(
    directory: Directory, config: RbacConfig, identity: Identity | None, at: Moment, tag: str | None
) -> None:
    policy = Policy(directory, config)
    holder = None if identity is None else policy.holder(identity)
    for scope in SCOPED:
        judged = policy.judge(holder, scope, lambda: at, tag)
        assert judged.verdict.allowed is slow(directory, config, identity, scope, at, tag), scope
        assert judged.verdict.reason


@EXAMPLES
@given(directories(), CONFIGS, IDENTITIES, MOMENTS)
def test_what_is_visible_is_what_may_be_pulled(
    directory: Directory, config: RbacConfig, identity: Identity | None, at: Moment
) -> None:
    policy = Policy(directory, config)
    policy.now = lambda: at  # type: ignore[method-assign]
    seen = policy.visible(identity)

    def fits(globs: tuple[str, ...], name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in globs)

    for name in NAMES:
        shown = fits(seen.allowed, name) and (not fits(seen.denied, name) or fits(seen.despite, name))
        pulled = slow(directory, config, identity, Scope("repository", name, "pull"), at, None)
        assert shown is (pulled is True), name


@EXAMPLES
@given(directories(), CONFIGS, IDENTITIES, st.sampled_from(USERS), st.data())
def test_what_denies_only_takes_away(
    directory: Directory, config: RbacConfig, identity: Identity | None, name: str, data: Any
) -> None:
    """Who is no longer active, and an organization that becomes isolated, get nobody anything."""
    user = directory.users.get(name, User(id=name))
    stricter = [
        Policy(directory.put(msgspec.structs.replace(user, active=False)), config),
        Policy(directory, msgspec.structs.replace(config, enable_organization_isolation=True)),
    ]
    if config.enable_organization_isolation:
        # As far as it is nobody's, and was none before.
        new = data.draw(st.sampled_from([*FIRST]))
        if new not in directory.organizations:
            stricter.append(Policy(directory.put(Organization(id=new)), config))
    before = Policy(directory, config)
    at = Moment(time(12), "10.1.2.3")
    for policy in stricter:
        for scope in SCOPED:
            was, now = (
                one.judge(None if identity is None else one.holder(identity), scope, lambda: at).verdict.allowed
                for one in (before, policy)
            )
            assert now is not True or was is True, scope
            assert was is not False or now is False, scope


@EXAMPLES
@given(directories(), CONFIGS, st.lists(IDENTITIES, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_the_order_of_questions_does_not_matter(
    directory: Directory, config: RbacConfig, identities: list[Identity | None], random: Any
) -> None:
    """What was worked out for one question is right for the next, of the same sender and of others."""
    at = Moment(time(12), "10.1.2.3")
    shared = Policy(directory, config)
    questions = [(identity, scope) for identity in identities for scope in SCOPED]
    random.shuffle(questions)
    for identity, scope in questions[:60]:
        fresh = Policy(directory, config)
        one, other = (
            policy.judge(None if identity is None else policy.holder(identity), scope, lambda: at).verdict
            for policy in (shared, fresh)
        )
        assert one == other


@EXAMPLES
@given(directories(), st.text(), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_a_document_says_all(directory: Directory, text: str, attributes: dict[str, str]) -> None:
    free = Organization(id="free", name=text, settings=Settings(max_members=3, allowed_domains=(text,)))
    every = directory.put(free, User(id="eve", full_name=text, attributes=attributes, active=False))
    assert from_text(to_toml(every)) == every
    assert from_text(json.dumps(to_document(every)), as_json=True) == every


@EXAMPLES
@given(st.text("ab/*", min_size=1, max_size=8), st.text("ab/*", min_size=1, max_size=8), st.data())
def test_what_globs_have_in_common(one: str, other: str, data: Any) -> None:
    found = common((one,), (other,))
    assert found is not None
    for name in data.draw(st.lists(st.text("ab/", max_size=8), min_size=20, max_size=20)):
        both = fnmatchcase(name, one) and fnmatchcase(name, other)
        assert Globs(found).match(name) is both
        assert Globs([one]).match(name) is fnmatchcase(name, one)


@pytest.mark.parametrize("length", [1, 50, 120])
def test_hostile_globs_take_no_time(length: int) -> None:
    one, other = f"*{'a' * length}*{'a' * length}", f"{'a' * length}*{'a' * length}*"
    began = perf_counter()
    common((one[:255],), (other[:255],))
    Globs([f"*{'a' * length}*b"]).match("a" * 255)
    assert perf_counter() - began < 1.0
