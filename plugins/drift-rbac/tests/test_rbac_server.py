"""A real server of two workers, its management routes, and the command beside it."""

import hashlib
import json
import subprocess
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from drift_rbac.commands import rbac
from drift_rbac.errors import Conflict

from tests.plugins.installation import Installation
from tests.server import DRIFT, Server
from tests.tools import ROOT

LOGIN = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Identity, Scope, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Login:
    '''"Key NAME", "Key NAME GROUP" and "Key NAME - SCOPE" are NAME; nobody else is anybody.'''
    async def authenticate(self, credentials):
        scheme, *words = (credentials.authorization or "").split(" ")
        if scheme != "Key":
            return None
        groups = frozenset(words[1:2]) - {"-"}
        scopes = frozenset(Scope(*word.split(":")) for word in words[2:]) or None
        return Identity(words[0], "key", groups, scopes=scopes)
    def challenge(self, scopes):
        return 'Key realm="drift"'

@asynccontextmanager
async def open_key(config, services):
    yield Login()

@hookimpl
def drift_authn():
    return [Driver("key", Config, open_key)]
"""
SETTINGS = ('auth.chain=["key"]', "rbac.enabled=true", 'rbac.admins=["root"]', 'rbac.public=["library/*"]')
EMPTY = b"{}"
CONFIG = f"sha256:{hashlib.sha256(EMPTY).hexdigest()}"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": CONFIG, "size": 2},
        "layers": [],
    }
).encode()
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
SETTLED_SECONDS = 0.3
"""After this a change that one worker has made is known to the other."""

KNOWN_SECONDS = 1.0
"""The longest time after which a revoked right is gone, on every worker."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rbac")
    installation = Installation(folder / "site")
    installation.add("acme-login", {"login": "acme_login"}, {"acme_login": LOGIN})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        with Server(Path(folder / "server"), *SETTINGS, workers=2) as server:
            yield server


def ask(server: Server, key: str | None, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
    headers = {**options.pop("headers", {}), **({} if key is None else {"authorization": f"Key {key}"})}
    if body is not None:
        options["content"] = json.dumps(body)
        headers.setdefault("content-type", "application/json")
    return httpx.request(method, f"{server.url}{path}", headers=headers, timeout=30, **options)


def done(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content and "json" in answer.headers["content-type"] else None


def refused(answer: httpx.Response, status: int = 403) -> str:
    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    return str(error["message"])


def command(server: Server, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DRIFT), "rbac", *arguments, *server.arguments()], cwd=ROOT, capture_output=True, text=True, check=check
    )


def push(server: Server, key: str, repository: str, tag: str) -> httpx.Response:
    begun = ask(server, key, "POST", f"/v2/{repository}/blobs/uploads/")
    if begun.status_code != 202:
        return begun
    location = begun.headers["location"].removeprefix(server.url)
    url = f"{location}{'&' if '?' in location else '?'}digest={CONFIG}"
    assert ask(server, key, "PUT", url, content=EMPTY).status_code == 201
    return ask(
        server,
        key,
        "PUT",
        f"/v2/{repository}/manifests/{tag}",
        content=MANIFEST,
        headers={"content-type": MANIFEST_TYPE},
    )


def pull(server: Server, key: str | None, repository: str, reference: str) -> int:
    return ask(server, key, "GET", f"/v2/{repository}/manifests/{reference}").status_code


def reset(server: Server, **more: Any) -> None:
    """Makes the policy what the tests begin with."""
    acme = "organization:acme"
    document = {
        "organizations": {"acme": {"owner_id": "alice", "members": ["alice", "bob"]}},
        "users": {
            "alice": {"direct_roles": [{"role": "org-admin", "scope": acme}]},
            "bob": {"direct_roles": [{"role": "developer", "scope": acme}]},
        },
    }
    for kind, entities in more.items():
        document.setdefault(kind, {}).update(entities)
    if done(ask(server, "root", "POST", "/api/rbac/import", document))["changes"]:
        time.sleep(SETTLED_SECONDS)


@pytest.fixture
def acme(server: Server) -> str:
    """The organization acme, which alice runs, where bob develops, and whose visitors are none."""
    reset(server)
    return "acme"


@pytest.fixture
def staff(server: Server) -> str:
    """The same, with teams, of which lena leads those that have no more rights than she has, and hr makes roles."""
    rights = [("Role", "Create"), ("Role", "Update"), ("User", "Update"), ("Repository", "Pull")]
    reset(
        server,
        teams={"acme/devs": {"roles": ["ci-bot"]}, "acme/chiefs": {"roles": ["admin"]}},
        users={
            "lena": {"direct_roles": [{"role": "team-lead", "scope": "organization:acme"}]},
            "hr": {"direct_roles": [{"role": "clerk"}]},
        },
        roles={"clerk": {"permissions": [{"resource": resource, "action": action} for resource, action in rights]}},
    )
    return "acme"


@pytest.mark.parametrize(
    ("key", "pulls", "pushes", "deletes"),
    [
        ("root", 404, 202, 404),
        ("alice", 404, 202, 404),
        ("bob", 404, 202, 403),
        ("visitor", 403, 403, 403),
        (None, 401, 401, 401),
    ],
)
def test_who_may_do_what_in_an_organization(
    server: Server, acme: str, key: str | None, pulls: int, pushes: int, deletes: int
) -> None:
    path = f"/v2/{acme}/nothing"
    asked = [("GET", "/manifests/v1"), ("POST", "/blobs/uploads/"), ("DELETE", "/manifests/v1")]
    assert [ask(server, key, method, path + rest).status_code for method, rest in asked] == [pulls, pushes, deletes]


def test_outside_of_organizations_the_default_role_counts(server: Server) -> None:
    assert pull(server, "visitor", "free/app", "v1") == 404
    assert ask(server, "visitor", "POST", "/v2/free/app/blobs/uploads/").status_code == 403
    assert pull(server, None, "free/app", "v1") == 401
    assert pull(server, None, "library/debian", "v1") == 404


@pytest.mark.usefixtures("acme")
def test_the_catalogue_shows_what_may_be_pulled(server: Server) -> None:
    done(ask(server, "root", "POST", "/api/organizations", {"id": "beta", "owner_id": "root"}), 201)
    for repository in ("acme/app", "acme/www", "beta/app", "beta/tool", "free/app", "library/debian"):
        assert push(server, "root", repository, "v1").status_code == 201
    done(ask(server, "root", "POST", "/api/users/bob/roles", {"role": "viewer", "scope": "repository:beta/tool"}), 201)
    published = {"settings": {"allow_public_repos": True}, "repositories": ["acme/www"]}
    done(ask(server, "alice", "PUT", "/api/organizations/acme", published))

    time.sleep(SETTLED_SECONDS)

    def catalogue(key: str | None) -> list[str]:
        found: list[str] = done(ask(server, key, "GET", "/v2/_catalog"))["repositories"]
        return found

    every = ["acme/app", "acme/www", "beta/app", "beta/tool", "free/app", "library/debian"]
    assert catalogue("root") == every
    assert catalogue("bob") == ["acme/app", "acme/www", "beta/tool", "free/app", "library/debian"]
    assert catalogue("visitor") == ["acme/www", "free/app", "library/debian"]
    assert ask(server, None, "GET", "/v2/_catalog").status_code == 401
    for key in ("root", "bob", "visitor", None):
        shown = [] if key is None else catalogue(key)
        readable = [name for name in every if pull(server, key, name, "v1") == 200]
        assert readable == (["acme/www", "library/debian"] if key is None else shown)


def test_a_right_that_a_command_revokes_is_gone_from_every_worker(server: Server, acme: str) -> None:
    command(server, "role", "grant", "carol", "developer", "--scope", f"organization:{acme}")
    time.sleep(KNOWN_SECONDS)
    path = f"/v2/{acme}/app/blobs/uploads/"
    assert {ask(server, "carol", "POST", path).status_code for _ in range(20)} == {202}
    command(server, "role", "revoke", "carol", "developer", "--scope", f"organization:{acme}")
    revoked = time.monotonic()
    workers = set()
    while time.monotonic() < revoked + KNOWN_SECONDS:
        ask(server, "carol", "POST", path)
    for _ in range(40):
        answer = ask(server, "carol", "POST", path)
        assert answer.status_code == 403
        workers.add(answer.headers["x-request-id"][:24])
    assert len(workers) == 2


def test_a_route_sees_its_own_change_at_once(server: Server, acme: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(10):
            for method, status in (("PUT", 200), ("DELETE", 403)):
                path = f"/api/organizations/{acme}/members/dora"
                answer = client.request(method, path, headers={"authorization": "Key root"})
                assert answer.status_code in {200, 204}
                seen = client.get(f"/api/organizations/{acme}", headers={"authorization": "Key dora"})
                assert seen.status_code == status


def test_a_group_of_the_login_makes_members_of_a_team(server: Server, acme: str) -> None:
    team = {"id": "ops", "groups": ["gh:ops"], "roles": ["ci-bot"], "repositories": ["acme/*-api"]}
    done(ask(server, "alice", "POST", f"/api/organizations/{acme}/teams", team), 201)
    time.sleep(SETTLED_SECONDS)
    for key, repository, status in (
        ("dave gh:ops", "acme/x-api", 202),
        ("dave gh:ops", "acme/x", 403),
        ("dave gh:other", "acme/x-api", 403),
    ):
        assert ask(server, key, "POST", f"/v2/{repository}/blobs/uploads/").status_code == status


@pytest.mark.usefixtures("acme")
def test_tags_are_guarded_one_by_one(server: Server) -> None:
    released = {"resource": "Repository", "action": "Push", "conditions": [{"type_": "Tag", "value": "v*"}]}
    pulled = {"resource": "Repository", "action": "Pull", "conditions": [{"type_": "Tag", "value": "!secret"}]}
    role = {"id": "releaser", "permissions": [released, pulled]}
    done(ask(server, "root", "POST", "/api/roles", role), 201)
    done(ask(server, "root", "POST", "/api/users/rita/roles", {"role": "releaser", "scope": "organization:acme"}), 201)
    time.sleep(SETTLED_SECONDS)
    assert push(server, "rita", "acme/rel", "v1").status_code == 201
    assert "may not push the tag latest" in refused(push(server, "rita", "acme/rel", "latest"))
    refused(push(server, "rita", "acme/rel", "v2?tag=latest"))
    assert push(server, "bob", "acme/rel", "latest").status_code == 201
    assert push(server, "bob", "acme/rel", "secret").status_code == 201
    assert [pull(server, "rita", "acme/rel", one) for one in ("v1", "secret", DIGEST)] == [200, 403, 200]
    assert pull(server, "bob", "acme/rel", "secret") == 200


@pytest.mark.usefixtures("acme")
def test_a_digest_is_no_way_around_the_tags_that_go_with_it(server: Server) -> None:
    deleted = {"resource": "Repository", "action": "Delete", "conditions": [{"type_": "Tag", "value": "!latest"}]}
    role = {"id": "cleaner", "permissions": [deleted, {"resource": "Repository", "action": "Pull"}]}
    done(ask(server, "root", "POST", "/api/roles", role), 201)
    done(ask(server, "root", "POST", "/api/users/cleo/roles", {"role": "cleaner", "scope": "organization:acme"}), 201)
    time.sleep(SETTLED_SECONDS)
    path = "/v2/acme/clean/manifests"
    for tag in ("old", "latest"):
        assert push(server, "bob", "acme/clean", tag).status_code == 201
    assert "may not delete the tag latest" in refused(ask(server, "cleo", "DELETE", f"{path}/{DIGEST}"))
    refused(ask(server, "cleo", "DELETE", f"{path}/latest"))
    assert pull(server, "cleo", "acme/clean", "latest") == 200
    assert ask(server, "root", "DELETE", f"{path}/latest").status_code == 202
    assert ask(server, "cleo", "DELETE", f"{path}/{DIGEST}").status_code == 202
    assert pull(server, "cleo", "acme/clean", "old") == 404
    # No tag, no condition on one.
    assert push(server, "bob", "acme/clean", DIGEST).status_code == 201
    assert ask(server, "cleo", "DELETE", f"{path}/{DIGEST}").status_code == 202


def test_organizations_are_listed_page_by_page(server: Server, acme: str) -> None:
    for name in ("aa", "bb", "cc"):
        done(ask(server, "root", "POST", "/api/organizations", {"id": name, "name": name.upper()}), 201)
    found, path = [], "/api/organizations?n=3"
    while path:
        answer = ask(server, "root", "GET", path)
        found.append([one["id"] for one in done(answer)["organizations"]])
        path = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert found == [["aa", acme, "bb"], ["cc"]]
    time.sleep(SETTLED_SECONDS)
    for key, expected in (("bob", [acme]), ("visitor", [])):
        assert [one["id"] for one in done(ask(server, key, "GET", "/api/organizations"))["organizations"]] == expected
    assert "n is no number" in refused(ask(server, "root", "GET", "/api/organizations?n=-1"), 400)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"id": "no/slash"}, "$.id"),
        ({"id": "UPPER"}, "$.id"),
        ({"id": "a" * 129}, "$.id"),
        ({"id": "x", "settings": {"max_members": 0}}, "$.settings.max_members"),
        ({"id": "x", "nmae": "x"}, "nmae"),
        ({"id": "x", "repositories": ["other/app"]}, "other/app"),
        ([], "object"),
    ],
)
def test_a_bad_body_is_told_where_it_is_bad(server: Server, body: Any, part: str) -> None:
    assert part in refused(ask(server, "root", "POST", "/api/organizations", body), 400)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/organizations/ghost", None, 404),
        ("GET", "/api/organizations/acme/teams/ghost", None, 404),
        ("GET", "/api/users/ghost", None, 404),
        ("GET", "/api/roles/ghost", None, 404),
        ("DELETE", "/api/users/ghost/roles/viewer", None, 404),
        ("DELETE", "/api/organizations/acme/members/ghost", None, 404),
        ("POST", "/api/organizations", {"id": "acme"}, 409),
        ("POST", "/api/roles", {"id": "viewer"}, 409),
        ("PUT", "/api/roles/viewer", {"priority": 1}, 409),
        ("DELETE", "/api/roles/admin", None, 409),
        ("POST", "/api/roles", {"id": "mine", "parent_role": "ghost"}, 400),
        ("POST", "/api/users/bob/roles", {"role": "ghost"}, 404),
        ("POST", "/api/users/bob/roles", {"role": "viewer", "scope": "planet:earth"}, 400),
        ("DELETE", "/api/users/bob/roles/viewer?scope=planet:earth", None, 400),
        ("GET", "/api/reports/access", None, 400),
    ],
)
def test_what_is_not_possible(server: Server, acme: str, method: str, path: str, body: Any, status: int) -> None:
    del acme
    assert refused(ask(server, "root", method, path, body), status)


def test_a_circle_of_roles_is_refused(server: Server, acme: str) -> None:
    del acme
    for role in ({"id": "one"}, {"id": "two", "parent_role": "one"}):
        done(ask(server, "root", "POST", "/api/roles", role), 201)
    assert "inherits from itself" in refused(ask(server, "root", "PUT", "/api/roles/one", {"parent_role": "two"}), 400)
    assert "in use" in refused(ask(server, "root", "DELETE", "/api/roles/one"), 409)
    done(ask(server, "root", "DELETE", "/api/roles/two"), 204)
    done(ask(server, "root", "DELETE", "/api/roles/one"), 204)


STRANGERS = [
    ("GET", "/api/organizations/acme", None),
    ("PUT", "/api/organizations/acme", {"name": "mine"}),
    ("DELETE", "/api/organizations/acme", None),
    ("POST", "/api/organizations", {"id": "mine"}),
    ("GET", "/api/organizations/acme/members", None),
    ("POST", "/api/organizations/acme/members", {"user_id": "mallory"}),
    ("PUT", "/api/organizations/acme/members/mallory", None),
    ("DELETE", "/api/organizations/acme/members/bob", None),
    ("GET", "/api/organizations/acme/teams", None),
    ("POST", "/api/organizations/acme/teams", {"id": "mine"}),
    ("POST", "/api/organizations/acme/teams/devs/members", {"user_id": "mallory"}),
    ("POST", "/api/organizations/acme/teams/devs/roles", {"role": "admin"}),
    ("POST", "/api/roles", {"id": "mine"}),
    ("GET", "/api/users", None),
    ("GET", "/api/users/export", None),
    ("GET", "/api/users/alice", None),
    ("GET", "/api/users/alice/permissions", None),
    ("PUT", "/api/users/mallory", {"attributes": {"level": "Executive"}}),
    ("DELETE", "/api/users/alice", None),
    ("POST", "/api/users/mallory/roles", {"role": "admin"}),
    ("POST", "/api/users/mallory/roles", {"role": "viewer", "scope": "organization:acme"}),
    ("DELETE", "/api/users/alice/roles/org-admin?scope=organization:acme", None),
    ("GET", "/api/rbac/export", None),
    ("POST", "/api/rbac/import", {}),
    ("POST", "/api/rbac/explain", {"user_id": "alice", "resource": "Repository", "action": "Pull"}),
    ("GET", "/api/reports/access?repository=acme/app", None),
    ("GET", "/api/reports/unused-permissions", None),
]


@pytest.mark.parametrize(("method", "path", "body"), STRANGERS)
def test_a_stranger_manages_nothing(server: Server, acme: str, method: str, path: str, body: Any) -> None:
    del acme
    assert ask(server, "mallory", method, path, body).status_code == 403
    assert ask(server, None, method, path, body).status_code == 401


@pytest.mark.parametrize(
    ("key", "method", "path", "body"),
    [
        # Who runs an organization has nothing outside of it.
        ("alice", "POST", "/api/users/alice/roles", {"role": "admin"}),
        ("alice", "POST", "/api/users/alice/roles", {"role": "viewer"}),
        ("alice", "POST", "/api/users/alice/roles", {"role": "org-admin", "scope": "organization:beta"}),
        ("alice", "POST", "/api/users/alice/roles", {"role": "org-admin", "scope": "repository:*"}),
        ("alice", "POST", "/api/users/alice/roles", {"role": "developer", "scope": "repository:a*/app"}),
        # And cannot give within it what it does not have itself.
        ("alice", "POST", "/api/users/alice/roles", {"role": "admin", "scope": "organization:acme"}),
        ("alice", "POST", "/api/users/eve/roles", {"role": "admin", "scope": "repository:acme/app"}),
        ("alice", "POST", "/api/organizations/acme/members", {"user_id": "eve", "roles": ["admin"]}),
        ("alice", "PUT", "/api/organizations/acme/members/eve", {"roles": ["admin"]}),
        ("alice", "POST", "/api/organizations/acme/teams", {"id": "mine", "roles": ["admin"]}),
        ("alice", "POST", "/api/organizations/acme/teams/devs/roles", {"role": "admin"}),
        # A team that an admin has made, and whose roles are more than its lead has.
        ("alice", "POST", "/api/organizations/acme/teams/chiefs/members", {"user_id": "alice"}),
        ("alice", "PUT", "/api/organizations/acme/teams/chiefs/members/alice", None),
        ("alice", "PUT", "/api/organizations/acme/teams/chiefs", {"groups": ["gh:alice"]}),
        ("lena", "POST", "/api/organizations/acme/teams/chiefs/members", {"user_id": "lena"}),
        ("lena", "POST", "/api/organizations/acme/teams/devs/roles", {"role": "developer"}),
        ("lena", "POST", "/api/organizations/acme/members", {"user_id": "eve"}),
        # A developer manages nobody.
        ("bob", "POST", "/api/users/bob/roles", {"role": "org-admin", "scope": "organization:acme"}),
        ("bob", "POST", "/api/organizations/acme/members", {"user_id": "eve"}),
        ("bob", "PUT", "/api/organizations/acme", {"owner_id": "bob"}),
        # Who may make roles makes none that has more than he has, and sets no attribute.
        ("hr", "POST", "/api/roles", {"id": "up", "permissions": [{"resource": "Registry", "action": "Admin"}]}),
        ("hr", "POST", "/api/roles", {"id": "up", "parent_role": "admin"}),
        ("hr", "PUT", "/api/roles/clerk", {"permissions": [{"resource": "User", "action": "ManageRoles"}]}),
        ("hr", "PUT", "/api/users/hr", {"attributes": {"level": "Executive"}}),
        ("hr", "POST", "/api/users/hr/roles", {"role": "admin"}),
        # What a credential is limited to limits its owner.
        ("root - organization:*:list", "POST", "/api/users/eve/roles", {"role": "admin"}),
        ("root - role:*:list", "POST", "/api/users/eve/roles", {"role": "admin"}),
    ],
)
def test_nobody_gives_more_than_he_has(server: Server, staff: str, key: str, method: str, path: str, body: Any) -> None:
    del staff
    before = done(ask(server, "root", "GET", "/api/rbac/export", headers={"accept": "application/json"}))
    refused(ask(server, key, method, path, body))
    assert done(ask(server, "root", "GET", "/api/rbac/export", headers={"accept": "application/json"})) == before


def test_what_one_has_may_be_given(server: Server, staff: str) -> None:
    """The other side: what is refused above is refused for its own reason."""
    del staff
    done(ask(server, "lena", "POST", "/api/organizations/acme/teams/devs/members", {"user_id": "eve"}), 201)
    for role in ("developer", "org-admin", "viewer"):
        granted = {"role": role, "scope": "organization:acme"}
        done(ask(server, "alice", "POST", "/api/users/eve/roles", granted), 201)
        done(ask(server, "alice", "DELETE", f"/api/users/eve/roles/{role}?scope=organization:acme"), 204)
    done(
        ask(server, "alice", "POST", "/api/users/eve/roles", {"role": "developer", "scope": "repository:acme/a*"}), 201
    )
    done(ask(server, "eve", "GET", "/api/users/eve"))
    shown = done(ask(server, "eve", "GET", "/api/users/eve/permissions"))
    assert shown["organizations"] == ["acme"]
    assert {one["permission"] for one in shown["permissions"]} >= {"repository.push", "image.tag"}


def test_who_leaves_an_organization_has_nothing_left_in_it(server: Server, acme: str) -> None:
    done(ask(server, "alice", "POST", f"/api/organizations/{acme}/teams", {"id": "devs", "members": ["bob"]}), 201)
    assert pull(server, "bob", "acme/app", "none") == 404
    done(ask(server, "alice", "DELETE", f"/api/organizations/{acme}/members/bob"), 204)
    time.sleep(KNOWN_SECONDS)
    assert pull(server, "bob", "acme/app", "none") == 403
    assert done(ask(server, "root", "GET", "/api/users/bob"))["direct_roles"] == []


def test_an_explanation_is_the_decision(server: Server, acme: str) -> None:
    night = {"type_": "TimeRange", "value": "22:00-06:00"}
    home = {"type_": "IpRange", "value": "10.0.0.0/8"}
    permission = {"resource": "Repository", "action": "Push", "conditions": [night, home]}
    done(ask(server, "root", "POST", "/api/roles", {"id": "nightly", "permissions": [permission]}), 201)
    done(
        ask(server, "root", "POST", "/api/users/nora/roles", {"role": "nightly", "scope": f"organization:{acme}"}), 201
    )

    def explained(**context: Any) -> Any:
        asked = {"user_id": "nora", "resource": "Repository", "resource_id": "acme/app", "action": "Push"}
        return done(ask(server, "root", "POST", "/api/rbac/explain", {**asked, "context": context}))

    allowed = explained(ip="10.0.0.9", time="23:00", user_agent="x")
    assert allowed["allowed"] is True
    assert (allowed["applied_roles"], allowed["applied_permissions"]) == (["nightly"], ["repository.push"])
    for context in ({"ip": "10.0.0.9", "time": "12:00"}, {"ip": "192.0.2.1", "time": "23:00"}, {"time": "23:00"}):
        found = explained(**context)
        assert found["allowed"] is False
        assert "but only if IpRange 10.0.0.0/8, TimeRange 22:00-06:00" in found["reason"]
    options = ("--time", "23:00", "--ip", "10.0.0.9")
    assert command(server, "explain", "nora", "push", "acme/app", *options).stdout.startswith("allowed")
    other = command(server, "explain", "nora", "push", "acme/app", "--time", "12:00", check=False)
    assert (other.returncode, other.stdout.partition(":")[0]) == (1, "refused")


def test_a_document_goes_there_and_back(server: Server, acme: str, tmp_path: Path) -> None:
    done(ask(server, "root", "PUT", "/api/users/bob", {"attributes": {"level": "", "a b": "c"}}))
    done(ask(server, "root", "POST", f"/api/organizations/{acme}/teams", {"id": "devs", "groups": ["g"]}), 201)
    role = {"id": "cautious", "permissions": [{"resource": "Tag", "action": "Sign"}], "parent_role": "viewer"}
    done(ask(server, "root", "POST", "/api/roles", role), 201)
    first, second = tmp_path / "one.toml", tmp_path / "two.toml"
    command(server, "export", str(first))
    assert command(server, "import", "--dry-run", str(first)).stdout == "0 would be changed\n"
    document = tomllib.loads(first.read_text())
    assert document["teams"]["acme/devs"]["groups"] == ["g"]
    changed = first.read_text().replace('parent_role = "viewer"', 'parent_role = "developer"')
    (tmp_path / "changed.toml").write_text(changed)
    dry = command(server, "import", "--dry-run", str(tmp_path / "changed.toml")).stdout
    assert dry == '~ roles.cautious\n    parent_role: "viewer" -> "developer"\n1 would be changed\n'
    (tmp_path / "empty.toml").write_text("")
    assert "- organizations.acme" in command(server, "import", str(tmp_path / "empty.toml")).stdout
    time.sleep(KNOWN_SECONDS)
    assert done(ask(server, "root", "GET", "/api/users"))["users"] == []
    command(server, "import", str(first))
    command(server, "export", str(second))
    assert first.read_text() == second.read_text()
    answer = ask(server, "root", "GET", "/api/rbac/export", headers={"accept": "application/toml"})
    assert answer.text == second.read_text()
    sent = {"content-type": "application/toml"}
    again = ask(server, "root", "POST", "/api/rbac/import?dry_run=true", content=changed, headers=sent)
    assert [one["id"] for one in done(again)["changes"]] == ["cautious"]
    (tmp_path / "bad.toml").write_text(changed.replace('"Sign"', '"Sing"'))
    bad = command(server, "import", str(tmp_path / "bad.toml"), check=False)
    assert bad.returncode == 1
    assert "roles.cautious" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert command(server, "import", "--dry-run", str(first)).stdout == "0 would be changed\n"


def test_reports(server: Server, acme: str) -> None:
    granted = {"role": "viewer", "scope": f"repository:{acme}/app"}
    done(ask(server, "root", "POST", "/api/users/bob/roles", granted), 201)
    report = done(ask(server, "root", "GET", "/api/reports/access?repository=acme/app"))["access"]
    rights = {one["user_id"]: sorted(one["allowed"]) for one in report}
    assert rights == {"alice": ["delete", "pull", "push"], "bob": ["pull", "push"]}
    unused = done(ask(server, "root", "GET", "/api/reports/unused-permissions"))
    assert unused["assignments"] == [{"user_id": "bob", **granted}]
    assert "push-only" in unused["roles"]
    assert "developer" not in unused["roles"]
    lines = ask(server, "root", "GET", "/api/users/export").text.splitlines()
    assert [json.loads(line)["username"] for line in lines] == ["alice", "bob"]


def test_commands(tmp_path: Path) -> None:
    """In this process, which is what makes them quick."""

    def run(*arguments: str) -> str:
        options = ("--set", f"storage.path={tmp_path}", "--set", "rbac.enabled=true")
        result = CliRunner().invoke(rbac, [*arguments, *options], catch_exceptions=False)
        return str(result.output)

    run("org", "create", "cli", "--owner", "olga", "--public")
    run("team", "create", "cli/devs", "--role", "developer", "--repository", "cli/*-api")
    run("team", "add-member", "cli/devs", "tom")
    run("role", "create", "tagger", "--permission", "repository.push", "--if", "Tag=v*")
    assert run("team", "grant", "cli/devs", "tagger") == "changed teams.cli/devs\n"
    assert run("team", "grant", "cli/devs", "tagger") == "nothing to change\n"
    assert json.loads(run("team", "show", "cli/devs"))["roles"] == ["developer", "tagger"]
    assert [(one["id"], one["members"]) for one in json.loads(run("team", "list", "--json"))] == [("devs", ["tom"])]
    assert json.loads(run("role", "show", "tagger"))["permissions"] == [
        {"resource": "Repository", "action": "Push", "conditions": [{"type_": "Tag", "value": "v*"}]}
    ]
    assert "tagger" in run("role", "list")
    assert "cli/*" in run("org", "list")
    assert json.loads(run("org", "show", "cli"))["owner_id"] == "olga"
    run("user", "add", "uma", "--email", "uma@example.org", "--attribute", "level=Executive")
    assert json.loads(run("user", "show", "uma"))["attributes"] == {"level": "Executive"}
    assert "uma@example.org" in run("user", "list")
    assert "allowed" in run("explain", "tom", "push", "cli/x-api")
    run("user", "disable", "tom")
    assert "not active" in run("explain", "tom", "push", "cli/x-api")
    run("user", "enable", "tom")
    run("org", "add-member", "cli", "tom", "--role", "viewer")
    run("org", "remove-member", "cli", "tom")
    assert json.loads(run("team", "show", "cli/devs"))["members"] == []
    assert json.loads(run("user", "show", "tom"))["direct_roles"] == []
    run("team", "add-member", "cli/devs", "tom")
    run("team", "remove-member", "cli/devs", "tom")
    with pytest.raises(Conflict, match="there already"):
        run("org", "create", "cli")
    for bad in ("foo.pull", "repository.foo", "pull"):
        assert "a permission is RESOURCE.ACTION" in run("role", "create", "x", "--permission", bad)
    assert "is no scope" in run("role", "grant", "tom", "viewer", "--scope", "planet:earth")
    run("team", "revoke", "cli/devs", "tagger")
    run("team", "delete", "cli/devs")
    run("role", "delete", "tagger")
    run("org", "delete", "cli", "--yes")
    for name in ("olga", "tom", "uma"):
        run("user", "remove", name)
    assert run("export") == ""


@pytest.mark.parametrize("way", ["create", "modify", "import", "command"])
def test_a_second_factor_that_nobody_would_ask_for_is_refused(
    server: Server, acme: str, tmp_path: Path, way: str
) -> None:
    settings = {"settings": {"require_2fa": True}}
    if way == "command":
        file = tmp_path / "policy.toml"
        file.write_text("[organizations.acme.settings]\nrequire_2fa = true\n")
        ended = command(server, "import", str(file), check=False)
        assert ended.returncode != 0
        message = ended.stderr
    elif way == "create":
        message = refused(ask(server, "root", "POST", "/api/organizations", {"id": "new", **settings}), 400)
    elif way == "modify":
        message = refused(ask(server, "root", "PUT", f"/api/organizations/{acme}", settings), 400)
    else:
        document = {"organizations": {acme: settings}}
        message = refused(ask(server, "root", "POST", "/api/rbac/import?dry_run=true", document), 400)
    assert "require_2fa" in message
    assert "auth.oidc" in message
    assert done(ask(server, "root", "GET", f"/api/organizations/{acme}"))["settings"]["require_2fa"] is False
