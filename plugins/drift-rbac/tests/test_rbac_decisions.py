"""What the rules say case by case, what the audit trail is told, and how changes meet."""

import asyncio
from typing import Any

import pytest
from drift_rbac import edits
from drift_rbac.authorizer import open_authorizer
from drift_rbac.config import RbacConfig
from drift_rbac.directory import Directory
from drift_rbac.editing import Editor
from drift_rbac.entities import Assignment, Condition, Organization, Permission, Role, Settings, Team, User
from drift_rbac.errors import Conflict, EntityInvalid
from drift_rbac.policy import Policy

from drift_core.api import CATALOG, EVERYTHING, Change, Credentials, Denied, Identity, Scope, Services, StartError
from drift_core.asking import answer

ACME = Organization(id="acme", members=("alice", "tess"))
ALICE = User(id="alice", direct_roles=(Assignment("org-admin", "organization:acme"),))
GUEST = User(id="guest", direct_roles=(Assignment("developer", "repository:acme/app"),))
ROAMER = User(id="roamer", direct_roles=(Assignment("cross-org-viewer"), Assignment("developer")))
NARROW = Role(id="narrow", permissions=(Permission("Repository", "Push"),), scope="repository:free/x")
NAMESAKE = User(id="namesake", direct_roles=(Assignment("org-admin", "repository:acme"),))
CLERKS = Role(id="clerks", permissions=(Permission("User", "Update"),))
CLERK = User(id="clerk", direct_roles=(Assignment("clerks", "repository:a*"),))
PULLERS = Role(id="pullers", parent_role="cross-org-viewer", permissions=(Permission("Repository", "Push"),))
BASE = (
    ACME,
    ALICE,
    GUEST,
    ROAMER,
    NAMESAKE,
    NARROW,
    CLERKS,
    CLERK,
    PULLERS,
    User(id="tess"),
    User(id="gone", active=False),
)


def right(text: str) -> Scope:
    return Scope(*text.split(":"))


def decided(policy: Policy, name: str | None, text: str, **identity: Any) -> bool | None:
    holder = None if name is None else policy.holder(Identity(name, "test", **identity))
    return policy.judge(holder, right(text)).verdict.allowed


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        # The default role: outside of organizations, and for members within.
        ("stranger", "repository:free/x:pull", True),
        ("stranger", "repository:free/x:push", None),
        ("stranger", "repository:acme/app:pull", False),
        ("stranger", "repository:acme:pull", False),
        ("stranger", "repository:acme-labs/app:pull", True),
        ("tess", "repository:acme/app:pull", True),
        ("tess", "repository:acme/app:push", None),
        # A guest has what was granted, and nothing else of the organization.
        ("guest", "repository:acme/app:push", True),
        ("guest", "repository:acme/other:pull", False),
        ("guest", "repository:free/x:pull", True),
        # Of two global roles only the one that crosses organizations counts in them.
        ("roamer", "repository:acme/app:pull", True),
        ("roamer", "repository:acme/app:push", False),
        ("roamer", "repository:free/x:push", True),
        # Who runs an organization runs what is in it.
        ("alice", "repository:acme/app:delete", True),
        ("alice", "organization:acme:manage_roles", True),
        ("alice", "team:acme/devs:delete", True),
        ("alice", "team:acme/:create", True),
        ("alice", "organization:beta:read", False),
        ("alice", "organization:*:create", None),
        ("alice", "repository:free/x:delete", None),
        ("alice", "user:bob:read", None),
        # A right on a repository is none on its organization.
        ("guest", "organization:acme:read", False),
        ("guest", "organization:acme:update", False),
        ("namesake", "repository:acme:delete", True),
        ("namesake", "organization:acme:update", False),
        ("namesake", "team:acme/devs:update", False),
        ("clerk", "user:alice:update", None),
        # Lists, oneself, Bolt, and what is nobody's here.
        ("stranger", str(CATALOG), True),
        ("stranger", "organization:*:list", True),
        ("stranger", "user:stranger:read", True),
        ("stranger", "user:stranger:update", None),
        ("stranger", "bolt:profiles:read", True),
        ("stranger", "bolt:plugins:write", None),
        ("roamer", "bolt:plugins:write", True),
        ("roamer", "bolt:plugins:delete", None),
        ("stranger", "registry:users:read", None),
        ("stranger", "weather:tomorrow:change", None),
        ("stranger", str(EVERYTHING), None),
        ("root", "weather:tomorrow:change", True),
        ("root", "registry:users:read", True),
        ("root", "repository:acme/app:*", True),
        ("alice", "repository:acme/app:*", True),
        ("guest", "repository:acme/app:*", False),
        ("root", str(EVERYTHING), True),
        # Who is not active may do nothing, not even what anybody may.
        ("gone", "repository:free/x:pull", False),
        ("gone", "repository:library/x:pull", False),
        ("gone", str(CATALOG), False),
        # Nobody.
        (None, "repository:library/x:pull", True),
        (None, "repository:library/x:push", None),
        (None, "repository:free/x:pull", None),
        (None, str(CATALOG), None),
    ],
)
def test_decision(name: str | None, text: str, expected: bool | None) -> None:
    config = RbacConfig(admins=("root",), public=("library/*",))
    assert decided(Policy(Directory().put(*BASE), config), name, text) is expected


def test_only_a_global_role_takes_the_place_of_the_default_role() -> None:
    directory = Directory().put(*BASE)
    for assignment, pulls in (
        (Assignment("push-only"), None),
        (Assignment("push-only", "namespace:free"), True),
        (Assignment("narrow"), True),
        (Assignment("developer", "organization:acme"), True),
    ):
        policy = Policy(directory.put(User(id="x", direct_roles=(assignment,))), RbacConfig())
        assert decided(policy, "x", "repository:free/x:pull") is pulls
    policy = Policy(directory, RbacConfig())
    for role, pulls in (("push-only", None), ("read-only", True), ("no-such-role", True)):
        assert decided(policy, "x", "repository:free/x:pull", roles=frozenset({role})) is pulls


def test_a_role_crosses_with_what_it_inherits_from_one_that_crosses() -> None:
    directory = Directory().put(*BASE, User(id="x", direct_roles=(Assignment("pullers"),)))
    policy = Policy(directory, RbacConfig())
    assert decided(policy, "x", "repository:acme/app:pull") is True
    assert decided(policy, "x", "repository:acme/app:push") is False
    assert decided(policy, "x", "repository:free/app:push") is True


def test_an_organization_decides_what_is_public() -> None:
    for settings, repositories, expected in (
        (Settings(), ("acme/www",), [False, False]),
        (Settings(default_visibility="public"), ("acme/www",), [False, False]),
        (Settings(allow_public_repos=True), ("acme/www",), [True, False]),
        (Settings(allow_public_repos=True, default_visibility="public"), (), [True, True]),
    ):
        acme = Organization(id="acme", settings=settings, repositories=repositories)
        policy = Policy(Directory().put(acme), RbacConfig())
        names = ("acme/www", "acme/app")
        assert [decided(policy, "x", f"repository:{name}:pull") for name in names] == expected
        assert [decided(policy, None, f"repository:{name}:pull") or False for name in names] == expected


def test_what_is_kept_of_a_holder_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_rbac.policy.MOST_HOLDERS", 3)
    policy = Policy(Directory(), RbacConfig(cache_ttl_seconds=1000))
    one = policy.holder(Identity("one", "test"))
    assert policy.holder(Identity("one", "test")) is one
    assert policy.holder(Identity("one", "test", roles=frozenset({"admin"}))) is not one
    for number in range(10):
        policy.holder(Identity(str(number), "test"))
        assert len(policy._holders) <= 3
    kept = policy.holder(Identity("one", "test"))
    policy._began -= 1001
    assert policy.holder(Identity("one", "test")) is not kept


async def test_the_address_of_the_request_counts(open_policy: Any) -> None:
    office = Role(
        id="office",
        permissions=(Permission("Repository", "Push", (Condition("IpRange", "10.0.0.0/8"),)),),
    )
    async with open_policy(office, User(id="x", direct_roles=(Assignment("office"),))) as rbac:
        for address, expected in (("10.9.9.9", True), ("192.0.2.1", None), ("", None)):

            async def asked(address: str = address) -> Any:
                answer(Credentials(None, (), address))
                (verdict,) = await rbac.decide(Identity("x", "test"), [right("repository:a:push")])
                return verdict.allowed

            assert await asyncio.create_task(asked()) is expected
        (outside,) = await rbac.decide(Identity("x", "test"), [right("repository:a:push")])
        assert outside.allowed is None


async def test_a_gate_without_conditions_on_tags_asks_for_nothing(open_policy: Any) -> None:
    change = Change(action="manifest.push", repository="acme/app", tags=("v1",), identity=Identity("x", "test"))
    async with open_policy(ACME, User(id="alice"), User(id="tess")) as rbac:
        await rbac.admit(change)
    tagged = Role(id="t", permissions=(Permission("Repository", "Push", (Condition("Tag", "v2"),)),))
    user = User(id="x", direct_roles=(Assignment("t"),))
    async with open_policy(tagged, user) as rbac:
        with pytest.raises(Denied):
            await rbac.admit(change)
        # Another policy must have allowed these: there is no role of ours that does.
        await rbac.admit(Change(action="manifest.push", repository="a", tags=("v1",), identity=Identity("y", "test")))
        await rbac.admit(Change(action="manifest.push", repository="acme/app", identity=Identity("x", "test")))
        await rbac.admit(Change(action="manifest.pull", repository="acme/app", tags=("v1",)))


async def test_changes_at_once_are_all_kept(open_policy: Any, services: Services) -> None:
    """Also those of another process, which has read an older state."""
    async with open_policy(ACME, User(id="alice"), User(id="tess")) as rbac:
        other = Editor(RbacConfig(), services)
        names = [f"user{number}" for number in range(12)]
        every = [edits.add_member("acme", name) for name in names]
        await asyncio.gather(
            *(editor.change(edit, None) for editor, edit in zip([rbac.editor, other] * 6, every, strict=True))
        )
        policy = await rbac.editor.policy()
        assert policy.directory.organizations["acme"].members == tuple(sorted(["alice", "tess", *names]))
        assert set(policy.directory.users) == {"alice", "tess", *names}


async def test_the_last_admin_stays(open_policy: Any) -> None:
    admin = Assignment("admin")
    two = [User(id=name, direct_roles=(admin,)) for name in ("a", "b")]
    async with open_policy(*two) as rbac:
        await rbac.editor.change(edits.revoke("a", admin), None)
        for edit in (
            edits.revoke("b", admin),
            edits.delete(User, "b"),
            edits.modify(User, "b", {"active": False}),
            lambda _: Directory(),
        ):
            with pytest.raises(Conflict, match="nobody would be left"):
                await rbac.editor.change(edit, None)
    async with open_policy(*two, admins=("root",)) as rbac:
        await rbac.editor.change(lambda _: Directory(), None)


async def test_what_hangs_together_stays_together(open_policy: Any) -> None:
    bound = Role(id="bound", scope="organization:acme")
    team = Team(id="devs", organization_id="acme", members=("tess",), roles=("bound",))
    async with open_policy(*BASE, bound, team) as rbac:

        async def fails(edit: Any, error: type[Exception], match: str) -> None:
            with pytest.raises(error, match=match):
                await rbac.editor.change(edit, None)

        await fails(edits.delete(Role, "bound"), Conflict, "in use")
        await fails(edits.delete(Organization, "acme"), Conflict, "bound")
        await fails(edits.modify(Organization, "acme", {"settings": Settings(max_members=1)}), Conflict, "may have 1")
        await fails(edits.modify(Team, "acme/devs", {"repositories": ("beta/x",)}), EntityInvalid, "beta/x")
        await fails(lambda policy: policy.directory.drop(User, "tess"), EntityInvalid, "no user 'tess'")
        await rbac.editor.change(edits.take_from_team("acme/devs", "bound"), None)
        await rbac.editor.change(edits.delete(Role, "bound"), None)
        await rbac.editor.change(edits.delete(User, "tess"), None)
        directory = (await rbac.editor.policy()).directory
        assert directory.teams["acme/devs"].members == ()
        assert directory.organizations["acme"].members == ("alice",)
        await rbac.editor.change(edits.delete(Organization, "acme"), None)
        directory = (await rbac.editor.policy()).directory
        assert not directory.teams
        assert directory.users["guest"].direct_roles == ()
        assert directory.users["roamer"].direct_roles == ROAMER.direct_roles


async def test_the_audit_trail_is_told_of_changes(open_policy: Any, kept: Any) -> None:
    root = Identity("root", "test")
    async with open_policy(*BASE) as rbac:

        async def told(edit: Any) -> list[tuple[str, str]]:
            kept.events.clear()
            await rbac.editor.change(edit, root, trusted=True)
            assert all(event.identity == root for event in kept.events)
            return [(event.type, event.resource_id) for event in kept.events]

        beta = Organization(id="beta", owner_id="zoe")
        created = [("OrganizationCreated", "beta"), ("UserCreated", "zoe"), ("RoleAssigned", "zoe")]
        assert await told(edits.create(beta)) == created
        assert await told(edits.create(Team(id="t", organization_id="beta"))) == [("TeamCreated", "beta/t")]
        assert await told(edits.give_team("beta/t", "viewer")) == [
            ("TeamModified", "beta/t"),
            ("RoleAssigned", "beta/t"),
        ]
        assert await told(edits.revoke("zoe", Assignment("org-admin", "organization:beta"))) == [
            ("UserModified", "zoe"),
            ("RoleRevoked", "zoe"),
        ]
        assert kept.events[1].parameters == {"role": "org-admin", "scope": "organization:beta"}
        assert await told(edits.modify(Organization, "beta", {"name": "B"})) == [("OrganizationModified", "beta")]
        assert kept.events[0].parameters["changed"] == {"name": {"before": "", "after": "B"}}
        assert await told(edits.modify(Organization, "beta", {"name": "B"})) == []
        assert await told(edits.create(Role(id="mine"))) == [("ConfigurationChanged", "mine")]
        deleted = [("OrganizationDeleted", "beta"), ("TeamDeleted", "beta/t"), ("RoleRevoked", "beta/t")]
        assert await told(edits.delete(Organization, "beta")) == deleted
        assert await told(edits.delete(User, "zoe")) == [("UserDeleted", "zoe")]


async def test_an_audit_trail_that_fails_undoes_the_change(open_policy: Any, kept: Any) -> None:
    async with open_policy(*BASE) as rbac:

        def fail(*_: Any) -> None:
            message = "the disk is full"
            raise OSError(message)

        kept.record = fail
        with pytest.raises(OSError, match="the disk is full"):
            await rbac.editor.change(edits.create(Organization(id="beta")), None)
        assert "beta" not in (await rbac.editor.policy()).directory.organizations


async def test_the_audit_trail_is_told_what_was_allowed(open_policy: Any, kept: Any) -> None:
    asked = [
        right("organization:acme:read"),
        right("repository:acme/app:pull"),
        CATALOG,
        right("organization:beta:read"),
    ]

    async def decide(rbac: Any) -> list[tuple[str, str]]:
        kept.events.clear()
        answer(Credentials(None, (), "10.0.0.1"))
        await rbac.decide(Identity("alice", "test"), asked)
        return [(event.type, event.resource_id) for event in kept.events]

    async with open_policy(*BASE) as rbac:
        assert await asyncio.create_task(decide(rbac)) == [("PermissionGranted", "acme")]
    async with open_policy(*BASE, audit_authorization_decisions=False) as rbac:
        assert await asyncio.create_task(decide(rbac)) == []


async def test_decisions_are_counted(services: Services) -> None:
    async with open_authorizer(RbacConfig(), services) as rbac:
        await rbac.editor.change(lambda _: Directory().put(*BASE), None)
        asked = [right("repository:free/x:pull"), right("repository:free/x:push"), right("repository:acme/x:pull")]
        for _ in range(2):
            await rbac.decide(Identity("x", "test"), asked)
        value = services.metrics.get_sample_value
        results = {one: value("drift_rbac_authorization_total", {"result": one}) for one in ("allowed", "denied")}
        assert results == {"allowed": 2, "denied": 2}
        assert value("drift_rbac_authorization_total", {"result": "abstained"}) == 2
        assert value("drift_rbac_permission_checks_total") == 2
        assert value("drift_rbac_role_cache_hits_total") == 1
        assert value("drift_rbac_role_cache_misses_total") == 1


async def test_a_zone_that_is_none(open_policy: Any) -> None:
    with pytest.raises(StartError, match=r"rbac\.timezone: 'Mars/Olympus' is not known"):
        async with open_policy(timezone="Mars/Olympus"):
            pass
    with pytest.raises(StartError, match=r"rbac\.timezone"):
        async with open_policy(timezone="../etc/passwd"):
            pass


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TimeRange", "9-17"),
        ("TimeRange", "09:00-25:00"),
        ("TimeRange", "09:00-09:00"),
        ("IpRange", "10.0.0.1/8"),
        ("IpRange", "office"),
        ("Tag", ""),
        ("Tag", "!"),
        ("Attribute", "level"),
        ("Attribute", "=x"),
        ("Repository", "Acme"),
        ("Repository", "a*b*c*"),
        ("Namespace", "acme/*"),
    ],
)
def test_a_condition_that_is_none(kind: Any, value: str) -> None:
    with pytest.raises(ValueError, match=f"is no {kind}"):
        Condition(kind, value)
