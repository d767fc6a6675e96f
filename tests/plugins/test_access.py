"""What plugins may add around the guard: public routes, scopes of a path, visibility, audit; by throw-away plugins."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.oci.content import OCI_INDEX
from tests.plugins.installation import Installation
from tests.server import Server

LOGIN = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Identity, Scope, Struct, Unauthorized, asking, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Login:
    '''"Bearer NAME" is NAME; NAME/REPOSITORY may only pull that, NAME/! only list, and + is both.'''
    def __init__(self, access):
        self.access = access
    async def authenticate(self, credentials):
        scheme, _, name = (credentials.authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        name, _, limit = name.partition("/")
        if name == "bad":
            raise Unauthorized("the key is not known", username="somebody")
        catalog = Scope("registry", "catalog", "*")
        limits = [catalog if one == "!" else Scope("repository", one, "pull") for one in limit.split("+") if one]
        return Identity(name, "key", scopes=frozenset(limits) or None)
    def challenge(self, scopes):
        return 'Bearer realm="here"'
    def routes(self):
        from litestar import Request, get
        @get("/keys/open", public=True)
        async def public(request: Request) -> dict[str, str | None]:
            identity = await self.access.identify(request.auth)
            may, = await self.access.verdicts(identity, [Scope("repository", "team/app", "pull")])
            return {"user": str(request.user), "name": identity and identity.name, "may": str(may)}
        @get("/keys/of/{team:str}", scope=lambda parameters: Scope("repository", parameters["team"] + "/x", "pull"))
        async def of_team(request: Request) -> dict[str, str]:
            return {"user": request.user.name, "asking": asking().path, "agent": asking().header("user-agent")}
        return [public, of_team]

@asynccontextmanager
async def open_key(config, services):
    yield Login(services.access)

@hookimpl
def drift_authn():
    return [Driver("key", Config, open_key)]
"""
POLICY = """
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from drift_core.api import Driver, Struct, Verdict, Visible, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    enabled: bool = False

class Policy:
    '''Everybody may pull from public/; NAME everything in NAME/, but not what ends in -secret; root everything.'''
    def globs(self, identity):
        name = identity.name if identity else None
        return Visible(("*",)) if name == "root" else Visible(("public/*", f"{name}/*", "one-app"), ("*-secret",))
    async def visible(self, identity):
        return self.globs(identity)
    async def decide(self, identity, scopes):
        seen = self.globs(identity)
        return [self.one(seen, identity, scope) for scope in scopes]
    def one(self, seen, identity, scope):
        if scope.kind == "registry":
            return Verdict(identity is not None)
        allowed = any(fnmatchcase(scope.name, glob) for glob in seen.allowed)
        denied = any(fnmatchcase(scope.name, glob) for glob in seen.denied)
        pushed = scope.action == "pull" or (identity is not None and scope.name.startswith(identity.name + "/"))
        return Verdict(allowed and not denied and pushed)

@asynccontextmanager
async def open_policy(config, services):
    yield Policy()

@hookimpl
def drift_authz():
    return [Driver("prefixes", Config, open_policy)]
"""
TRAIL = """
import json
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, Unavailable, asking, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    enabled: bool = False
    file: str = ""

class Trail:
    name = "trail"
    def __init__(self, config):
        self.config = config
    def record(self, db, event):
        if event.tag == "refused":
            raise Unavailable("the trail is full")
        self.write("record", event)
    async def note(self, event):
        if event.tag == "unseen":
            raise Unavailable("the trail is full")
        self.write("note", event)
    def write(self, how, event):
        seen = {"how": how, "type": event.type, "who": event.identity and event.identity.name,
                "claimed": event.username, "what": event.resource_id, "tag": event.tag,
                "reason": event.reason, "success": event.success,
                "from": asking().client_address, "method": asking().method, "path": asking().path,
                "id": asking().request_id}
        with open(self.config.file, "a") as file:
            file.write(json.dumps(seen) + "\\n")

@asynccontextmanager
async def open_trail(config, services):
    yield Trail(config)

@hookimpl
def drift_features():
    return [Driver("trail", Config, open_trail)]
"""
INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})


class Running:
    """A server with these plugins, and what its trail has seen since the last look."""

    def __init__(self, server: Server, trail: Path) -> None:
        self.server = server
        self._trail = trail
        self._read = 0

    def ask(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"user-agent": "test"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        return httpx.request(
            method, f"{self.server.url}{path}", headers=headers | options.pop("headers", {}), **options
        )

    def push(self, repository: str, tag: str, key: str) -> httpx.Response:
        path = f"/v2/{repository}/manifests/{tag}"
        return self.ask("PUT", path, key, content=INDEX, headers={"content-type": OCI_INDEX})

    def seen(self) -> list[dict[str, Any]]:
        lines = self._trail.read_text().splitlines() if self._trail.exists() else []
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("access")
    installation = Installation(folder / "site")
    for name, source in {"login": LOGIN, "policy": POLICY, "trail": TRAIL}.items():
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": source})
    trail = folder / "trail.jsonl"
    settings = ("auth.mode=key", "prefixes.enabled=true", "trail.enabled=true", f"trail.file={trail}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        with Server(folder / "server", *settings, workers=1) as server:
            yield Running(server, trail)


@pytest.fixture(scope="module")
def names(running: Running) -> list[str]:
    """Repositories among thousands that nobody but root sees."""
    visible = ["bob/app", "bob/key-secret", "one-app", "public/a", "public/a-secret", "public/z", "zoe/app"]
    with sqlite3.connect(running.server.folder / "data" / "drift.db") as db:
        hidden = [f"{prefix}/{number:05}" for prefix in ("aaa", "one-app", "private") for number in range(11_000)]
        rows = [(name,) for name in [*visible, *hidden, "one-app-b"]]
        db.executemany("INSERT INTO repositories (name, created_at) VALUES (?, 0)", rows)
    db.close()
    return visible


def test_a_public_route_asks_nobody_and_can_ask_by_itself(running: Running) -> None:
    assert running.ask("GET", "/keys/open").json() == {"user": "None", "name": None, "may": "False"}
    assert running.ask("GET", "/keys/open", "team").json() == {"user": "None", "name": "team", "may": "True"}
    assert running.ask("GET", "/keys/open", "bad").status_code == 401


def test_the_scope_of_a_route_can_be_in_its_path(running: Running) -> None:
    assert running.ask("GET", "/keys/of/zoe", "zoe").json() == {
        "user": "zoe",
        "asking": "/keys/of/zoe",
        "agent": "test",
    }
    assert running.ask("GET", "/keys/of/zoe", "bob").status_code == 403
    assert running.ask("GET", "/keys/of/zoe").status_code == 401


@pytest.mark.parametrize(
    ("key", "status", "challenge"),
    [
        (None, 401, 'Bearer realm="here"'),
        ("bad", 401, 'Bearer realm="here"'),
        ("bob/bob/other", 401, 'Bearer realm="here",error="insufficient_scope"'),
        ("zoe/bob/app", 403, None),
        ("zoe", 403, None),
        ("bob/bob/*", 404, None),
        ("bob/bob/app", 404, None),
        ("bob", 404, None),
    ],
)
def test_a_token_that_does_not_reach_that_far_is_told_apart_from_a_person_who_may_not(
    running: Running, key: str | None, status: int, challenge: str | None
) -> None:
    answer = running.ask("GET", "/v2/bob/app/manifests/missing", key)
    assert (answer.status_code, answer.headers.get("www-authenticate")) == (status, challenge)


def test_who_is_nobody_may_do_what_a_policy_allows(running: Running) -> None:
    assert running.ask("GET", "/v2/public/a/manifests/missing").status_code == 404
    assert running.ask("POST", "/v2/public/a/blobs/uploads/").status_code == 401


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        ("bob", ["bob/app", "one-app", "public/a", "public/z"]),
        ("bob/!", ["bob/app", "one-app", "public/a", "public/z"]),
        ("zoe", ["one-app", "public/a", "public/z", "zoe/app"]),
    ],
)
def test_the_catalogue_shows_what_may_be_pulled(running: Running, names: list[str], key: str, seen: list[str]) -> None:
    assert set(seen) < set(names)
    answer = running.ask("GET", "/v2/_catalog", key)
    assert (answer.json()["repositories"], answer.headers.get("link")) == (seen, None)
    # Thousands that are hidden lie before each.
    found, path = [], "/v2/_catalog?n=1"
    while path:
        answer = running.ask("GET", path, key)
        assert len(answer.json()["repositories"]) == 1
        found += answer.json()["repositories"]
        path = answer.links["next"]["url"] if answer.links else ""
    assert found == seen


def test_a_credential_for_some_repositories_lists_only_these(running: Running, names: list[str]) -> None:
    assert "one-app" in names
    found, path = [], "/v2/_catalog"
    while path:
        answer = running.ask("GET", path, "bob/!+one-app+zoe/app")
        found += answer.json()["repositories"]
        path = answer.links["next"]["url"] if answer.links else ""
    assert found == ["one-app"]


def test_who_may_see_everything_sees_everything(running: Running, names: list[str]) -> None:
    page = running.ask("GET", "/v2/_catalog?n=5&last=private/10998", "root").json()["repositories"]
    assert page == ["private/10999", "public/a", "public/a-secret", "public/z", "zoe/app"]
    assert set(page) & set(names)


def test_a_credential_for_one_repository_lists_nothing(running: Running) -> None:
    assert running.ask("GET", "/v2/_catalog", "bob/bob/app").status_code == 401


def test_the_trail_is_told_in_the_transaction(running: Running) -> None:
    running.seen()
    assert running.push("bob/app", "v1", "bob").status_code == 201
    (pushed,) = running.seen()
    request_id = pushed.pop("id")
    assert request_id
    expected = {"how": "record", "type": "ImagePushed", "who": "bob", "claimed": None, "what": "bob/app", "tag": "v1"}
    expected |= {"reason": None, "success": True, "from": "127.0.0.1", "method": "PUT"}
    assert pushed == expected | {"path": "/v2/bob/app/manifests/v1"}


def test_what_the_trail_does_not_take_does_not_happen(running: Running) -> None:
    assert running.push("bob/app", "refused", "bob").status_code == 503
    assert running.ask("GET", "/v2/bob/app/manifests/refused", "bob").status_code == 404
    assert running.push("bob/app", "unseen", "bob").status_code == 201
    answer = running.ask("GET", "/v2/bob/app/manifests/unseen", "bob")
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (503, "the trail is full")


def test_the_trail_is_told_of_pulls_and_refusals(running: Running) -> None:
    assert running.push("bob/app", "v2", "bob").status_code == 201
    running.seen()
    running.ask("GET", "/v2/bob/app/manifests/v2", "bob")
    running.ask("GET", "/v2/bob/app/manifests/v2", "zoe")
    running.ask("GET", "/v2/bob/app/manifests/v2", "bad")
    running.ask("GET", "/v2/bob/app/manifests/v2")
    told = [(one["type"], one["who"], one["claimed"], one["what"], one["success"]) for one in running.seen()]
    assert told == [
        ("ImagePulled", "bob", None, "bob/app", True),
        ("PermissionDenied", "zoe", None, "bob/app", False),
        ("AuthenticationFailed", None, "somebody", "", False),
    ]


def test_the_claimed_name_is_not_told_to_the_client(running: Running) -> None:
    assert "somebody" not in running.ask("GET", "/v2/", "bad").text


def test_lists_the_routes_of_plugins(running: Running) -> None:
    site = Installation(running.server.folder.parent / "site")
    done = site.drift("plugins", "routes", "--json", "--set", "auth.mode=key")
    assert done.returncode == 0, done.stderr
    found = {row["path"]: row["needs"] for row in json.loads(done.stdout)}
    assert found["/keys/open"] == found["/health"] == "public"
    assert found["/keys/of/{team}"] == "a scope of the path"
