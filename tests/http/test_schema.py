"""The document of the API is what the server does: all routes and no others, rights, bodies and answers."""

import ast
import json
import re
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from drift_core.http.schema_page import page
from tests.http.described import METHODS, Described, Operation
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.server import DRIFT, Server, free_port
from tests.tools import ROOT

ADMIN, SOMEBODY = ("admin", "good-password-1"), ("eve", "good-password-2")
SETTINGS = (
    'auth.chain=["token", "basic", "oidc"]',
    f'auth.basic.users=["{":".join(ADMIN)}", "{":".join(SOMEBODY)}"]',
    "auth.oidc.client_id=a",
    "auth.oidc.client_secret=b",
    "rbac.enabled=true",
    'rbac.admins=["admin"]',
    "audit.enabled=true",
    "bolt.enabled=true",
    "optimization.enabled=true",
    "quota.enabled=true",
    "retention.enabled=true",
    "scrub.enabled=true",
    "garbage_collector.enabled=true",
    "signing.enabled=true",
    'signing.signature_formats=["simple"]',
    "webhooks.enabled=true",
    'webhooks.targets.ci.url="http://127.0.0.1:9/"',
)
READERS = ("body_of", "read", "read_json")
"""Functions of plugins and the core that read a body; the second argument is its type."""

UNKNOWN = "no such endpoint"


class Served(Described):
    """A server with every plugin that has routes, and its document."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)
        answer = self.client.get("/schema/openapi.json", auth=ADMIN)
        super().__init__(server.url, answer.raise_for_status().json())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = (*SETTINGS, f"auth.oidc.issuer=https://127.0.0.1:{free_port()}")
    with Server(tmp_path_factory.mktemp("schema"), *settings, workers=1) as server:
        served = Served(server)
        with closing(served.client):
            yield served


def filled(path: str, operation: dict[str, Any]) -> str:
    """Returns a path that the route answers: with a value for each parameter."""
    kinds = {one["name"]: one["schema"].get("type") for one in operation.get("parameters", ()) if one["in"] == "path"}
    values = {"integer": "1", "image": f"x/signatures/sha256:{'0' * 64}"}
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1]) or values.get(kinds[match[1]], "x"), path)


def test_the_document_is_valid(served: Served) -> None:
    assert list(OpenAPIV31SpecValidator(served.document).iter_errors()) == []
    assert served.document["openapi"].startswith("3.1.")
    assert [*served.document["components"]["securitySchemes"]] == ["bearer", "basic"]


def test_every_route_is_in_it_and_nothing_else(served: Served) -> None:
    command = [str(DRIFT), "plugins", "routes", "--json", *served.server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    routes = {
        (row["path"], method.lower()): row["needs"] == "public"
        for row in json.loads(done.stdout)
        for method in row["methods"]
    }
    shown = {(path, method): one["x-drift-needs"] == "public" for path, method, one in served.operations()}
    assert {one: public for one, public in shown.items() if one[1] != "head"} == routes
    assert {path for path, method in shown if method == "head"} == {"/health", "/healthz", "/readyz", "/version"}


def test_every_operation_is_answered_and_asks_who_it_is_as_the_document_says(served: Served) -> None:
    wrong = []
    for path, method, operation in served.operations():
        answer = served.client.request(method, filled(path, operation))
        public = operation["security"] == []
        if answer.status_code == 405 or UNKNOWN in answer.text or (not public and answer.status_code != 401):
            wrong.append((path, method, answer.status_code))
    assert wrong == []


def test_rights_are_named(served: Served) -> None:
    needs = {(path, method): one["x-drift-needs"] for path, method, one in served.operations()}
    assert needs["/admin/gc", "post"] == "registry:*:*"
    assert needs["/api/users/{user}", "delete"] == "user:{user}:delete"
    assert needs["/v1/profiles/upload", "post"] == "bolt:profiles:write"
    assert needs["/extensions/v2/{image}", "put"] == "a scope of the path"
    assert needs["/schema", "get"] == "whoever has logged in"
    assert served.document["paths"]["/admin/gc"]["post"]["security"] == [
        {"bearer": ["registry:*:*"]},
        {"basic": ["registry:*:*"]},
    ]


def test_an_answer_of_another_status_has_its_own_form(served: Served) -> None:
    answers = served.document["paths"]["/readyz"]["get"]["responses"]
    assert [*answers] == ["200", "503", "507", "default"]
    text = {"type": "object", "additionalProperties": {"type": "string"}}
    assert answers["503"]["content"] == answers["507"]["content"] == {"application/json": {"schema": text}}


SHOWN_AS_NOTHING = {
    ("get", "/api/audit/export"),
    ("get", "/api/users/export"),
    ("get", "/auth/device"),
    ("get", "/auth/login"),
    ("get", "/metrics"),
    ("get", "/schema"),
    ("get", "/v1/plugins/{name}/download"),
    ("post", "/auth/device"),
}
"""Operations that answer lines, pages or bytes, of which no schema says what is in them."""

WITHOUT_BODY = {
    ("post", "/admin/webhooks/retry"),
    ("post", "/api/quic/ping/{address}"),
    ("post", "/v1/auth/logout"),
    ("post", "/v1/auth/register"),
    ("put", "/api/organizations/{organization}/teams/{team}/members/{user}"),
}
"""Operations that need nothing beside path and query."""

WITHOUT_ANSWER = {("put", "/extensions/v2/{image}")}
"""Operations that answer 201 and nothing else."""

NEEDING_MORE = {
    # A provider at which somebody logs in; `plugins/drift-auth-oidc/tests/test_described.py`.
    ("delete", "/auth/tokens/{identifier}"),
    ("get", "/auth/callback/oidc"),
    ("get", "/auth/login/oidc"),
    ("get", "/auth/oidc"),
    ("get", "/auth/oidc/callback"),
    ("get", "/auth/tokens"),
    ("post", "/auth/device"),
    ("post", "/auth/device/token"),
    ("post", "/auth/logout"),
    ("post", "/auth/logout-everywhere"),
    ("post", "/auth/workload/token"),
    # A server that speaks QUIC; `plugins/drift-quic-aioquic/tests/test_quic_server.py`.
    ("post", "/api/quic/ping/{address}"),
    ("post", "/api/quic/test/blob/{digest}"),
    ("post", "/api/quic/test/manifest/{reference}"),
    # Libraries, images that say something of games, and containers; the clients of `plugins/drift-bolt/tests`.
    ("get", "/v1/plugins/{name}"),
    ("get", "/v1/plugins/{name}/download"),
    ("get", "/v1/plugins/{name}/versions"),
    ("post", "/v1/plugins/upload"),
    ("post", "/v1/plugins/{name}/ratings"),
    ("delete", "/v1/plugins/{name}"),
    ("get", "/v2/gaming/{part1}/compatibility"),
    ("get", "/v2/gaming/{part1}/{part2}/compatibility"),
    ("get", "/v2/gaming/{part1}/{part2}/{part3}/compatibility"),
    ("get", "/v2/gaming/{part1}/{part2}/{part3}/{part4}/compatibility"),
    ("post", "/v1/containers"),
    # Keys, and signatures that were made by them.
    ("post", "/admin/signing/sign"),
    ("put", "/extensions/v2/{image}"),
    # Is answered 501.
    ("post", "/v1/auth/register"),
}
"""Operations that do not succeed at the server of these tests."""


RACING = ("delete", "/admin/optimize/jobs/{job}")
"""Succeeds only where the job has not ended yet."""


def says_nothing(schema: dict[str, Any]) -> bool:
    """Says whether a schema lets a reader know no more than that there is an object, a list, or anything."""
    if schema.get("type") == "array":
        return says_nothing(schema.get("items") or {})
    return not schema or (schema.get("type") == "object" and not {"properties", "additionalProperties"} & {*schema})


def unshown(content: dict[str, Any]) -> bool:
    return not content or any(says_nothing(one.get("schema", {})) for one in content.values())


def test_every_operation_says_what_it_takes_and_answers(served: Served) -> None:
    """Of every plugin of this repository that has routes: one that is not asked here is not known to say it."""
    answers: set[Operation] = set()
    bodies: set[Operation] = set()
    for path, method, operation in served.operations():
        if method == "head":
            continue
        for status, one in operation["responses"].items():
            empty = "content" not in one and (status in {"204", "303"} or (method, path) in WITHOUT_ANSWER)
            if status != "default" and not empty and unshown(one.get("content", {})):
                answers.add((method, path))
        body = operation.get("requestBody", {}).get("content", {})
        if unshown(body) and (body or method in {"post", "put", "patch"}):
            bodies.add((method, path))
    assert answers == SHOWN_AS_NOTHING
    assert bodies == WITHOUT_BODY


def test_every_plugin_with_routes_is_asked(served: Served) -> None:
    having = {
        folder.name.removeprefix("drift-").removesuffix("-aioquic")
        for folder in (ROOT / "plugins").iterdir()
        if any("def routes(self)" in file.read_text() for file in folder.glob("src/*/*.py"))
    }
    tags = {operation["tags"][0] for _, _, operation in served.operations()}
    assert tags == having | {"core"}


def test_errors_are_described_once(served: Served) -> None:
    shared = {"$ref": "#/components/responses/Error"}
    forms = {json.dumps(one["responses"]["default"]) for _, _, one in served.operations()}
    every = [one["responses"]["default"] for _, _, one in served.operations()]
    assert served.document["components"]["responses"].keys() == {"Error"}
    assert every.count(shared) > len(every) / 2
    assert all("content" in one for one in every if one != shared)
    assert len(forms) < 10


def test_patterns_are_those_of_every_language(served: Served) -> None:
    assert r"\\Z" not in json.dumps(served.document)


def test_every_plugin_answers_as_the_document_says(served: Served) -> None:
    """Each answer is compared when it comes, and in the end that every operation has succeeded that can here."""
    with httpx.Client(base_url=served.server.url, auth=ADMIN, timeout=60) as client:
        served.watch(client)
        ask_all(served, Asking(client))
    every = {(method, path) for path, method, _ in served.operations() if method != "head"}
    assert every - served.answered - {RACING} == NEEDING_MORE


def ask_all(served: Served, ask: "Asking") -> None:
    for path, method, operation in served.operations():
        if method == "get" and not any(one["required"] for one in operation.get("parameters", ())):
            ask("get", path)
    ask.the_core()
    ask.organizations_and_roles()
    ask.tokens()
    ask.bolt()
    ask.others()


PERMISSION = {"resource": "Repository", "action": "Pull", "conditions": [{"type_": "Tag", "value": "v*"}]}
PROFILE: dict[str, Any] = {
    "name": "example",
    "description": "own",
    "priority": 70,
    "cpu_optimizations": {"governor": "Schedutil"},
    "gpu_optimizations": {"amd": {"power_limit": 90}},
    "memory_optimizations": {},
    "network_optimizations": {"priority": "Gaming"},
    "storage_optimizations": {"io_scheduler": None},
    "conditions": [{"MemoryGb": 16}],
}
ABOUT = {"author_email": "ann@example.org", "tags": ["amd"], "compatible_games": ["Some Game 2"]}
REQUIREMENTS = {"system_requirements": {"min_cpu_cores": 4, "supported_os": ["linux"]}}


class Asking:
    """Asks a server in the name of an administrator."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __call__(self, method: str, path: str, status: int | None = None, **options: Any) -> httpx.Response:
        answer = self._client.request(method, path, **options)
        assert status is None or answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer

    def pushed(self, repository: str) -> str:
        """Pushes an image with the tag v1, and returns its digest."""
        layer = unique_blob()
        for blob in (EMPTY_CONFIG, layer):
            path = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
            self("post", path, 201, content=blob.content)
        manifest = image(EMPTY_CONFIG, layer)
        headers = {"content-type": manifest.media_type}
        self("put", f"/v2/{repository}/manifests/v1", 201, content=manifest.content, headers=headers)
        return manifest.digest

    def the_core(self) -> None:
        digest = self.pushed("team/app")
        self("post", "/admin/gc", 200, json={"dry_run": True})
        self("post", "/admin/gc", 400, json={"dry_rum": True})
        self("get", "/admin/gc/status", 200)
        self("post", "/admin/signing/verify", 200, json={"repository": "team/app", "reference": "v1"})
        self("post", "/admin/signing/verify", 404, json={"repository": "team/app", "reference": "v2"})
        self("get", f"/extensions/v2/team/app/signatures/{digest}", 200)
        self("get", "/no/such/path", 404)

    def organizations_and_roles(self) -> None:
        one = "/api/organizations/acme"
        self("post", "/api/organizations", 201, json={"id": "acme", "name": "Acme", "members": ["ann"]})
        self("post", "/api/organizations", 409, json={"id": "acme"})
        self("put", one, 200, json={"settings": {"max_members": 9, "allow_public_repos": True}})
        self("get", one, 200)
        self("post", f"{one}/members", 201, json={"user_id": "ben", "roles": ["developer"]})
        self("put", f"{one}/members/cid", 200, json={"roles": []})
        assert len(self("get", f"{one}/members", 200, params={"n": 2}).json()["members"]) == 2
        self("post", "/api/roles", 201, json={"id": "night", "permissions": [PERMISSION], "parent_role": "developer"})
        self("put", "/api/roles/night", 200, json={"priority": 3})
        self("get", "/api/roles/night", 200)
        team = f"{one}/teams/core"
        self("post", f"{one}/teams", 201, json={"id": "core", "members": ["ann"], "repositories": ["acme/*"]})
        self("put", team, 200, json={"groups": ["staff"]})
        self("get", f"{one}/teams", 200)
        self("get", team, 200)
        self("post", f"{team}/members", 201, json={"user_id": "ben"})
        self("put", f"{team}/members/cid", 200)
        self("get", f"{team}/members", 200)
        self("post", f"{team}/roles", 201, json={"role": "night"})
        self("get", f"{team}/roles", 200)
        self("post", "/api/users", 201, json={"id": "dan", "email": "dan@example.org", "attributes": {"desk": "4"}})
        self("put", "/api/users/dan", 200, json={"active": False})
        self("get", "/api/users/dan", 200)
        self("post", "/api/users/dan/roles", 201, json={"role": "developer", "scope": "organization:acme"})
        self("get", "/api/users/dan/roles", 200)
        self("delete", "/api/users/dan/roles/developer", 204, params={"scope": "organization:acme"})
        self("get", "/api/users/ann/permissions", 200)
        question = {"user_id": "ann", "resource": "Repository", "action": "Pull", "resource_id": "acme/app"}
        self("post", "/api/rbac/explain", 200, json=question)
        self("get", "/api/reports/access", 200, params={"repository": "acme/app"})
        assert self("get", "/api/reports/unused-permissions", 200).json()["roles"]
        assert self("get", "/api/rbac/export", 200).headers["content-type"].startswith("application/toml")
        policy = self("get", "/api/rbac/export", 200, headers={"accept": "application/json"}).json()
        policy["roles"]["night"]["priority"] = 4
        del policy["users"]["dan"]
        changes = self("post", "/api/rbac/import", 200, json=policy, params={"dry_run": "true"}).json()["changes"]
        assert {one["change"] for one in changes} == {"modify", "delete"}
        self("post", "/api/rbac/import", 400, json={"rules": {}})
        for path in (
            f"{team}/roles/night",
            f"{team}/members/ben",
            team,
            f"{one}/members/ben",
            one,
            "/api/roles/night",
            "/api/users/dan",
        ):
            self("delete", path, 204)

    def tokens(self) -> None:
        name, password = ADMIN
        asked = {"service": "drift", "scope": "repository:team/app:pull", "offline_token": "true", "client_id": "me"}
        refresh = self("get", "/auth/token", 200, params=asked).json()["refresh_token"]
        form = {"grant_type": "password", "username": name, "password": password, "access_type": "offline"}
        assert "refresh_token" in self("post", "/oauth2/token", 200, data=form).json()
        self("post", "/auth/token", 200, data={"grant_type": "refresh_token", "refresh_token": refresh})
        self("get", "/oauth2/token", 401, auth=(name, "wrong"))
        self("post", "/oauth2/token", 400, data={"grant_type": "none"})
        self("post", "/v1/auth/login", 401, json={"username": name, "password": "wrong"})
        self("post", "/v1/auth/login", 400, json={"username": name})
        made = self("post", "/v1/auth/login", 200, json={"username": name, "password": password}).json()
        renewed = self("post", "/v1/auth/refresh", 200, json={"refresh_token": made["refresh_token"]}).json()
        bearer = {"authorization": f"Bearer {renewed['token']}"}
        self("get", "/v1/auth/whoami", 200, headers=bearer, auth=None)
        self("post", "/v1/auth/logout", 200, headers=bearer, auth=None)
        self("post", "/v1/auth/register", 501)
        token = self("post", "/api/tokens", 201, json={"name": "laptop", "scopes": ["repository:*:pull"]}).json()
        assert self("get", "/api/tokens", 200).json()["tokens"]
        self("delete", f"/api/tokens/{token['id']}", 204)
        self("delete", f"/api/tokens/{token['id']}", 404)
        for robot in ("ci", "cd"):
            self("post", "/api/robots", 201, json={"name": robot, "scopes": ["repository:*:pull"], "roles": ["x"]})
        assert self("get", "/api/robots", 200, params={"n": 1}).json()["last"] == "cd"
        self("post", "/api/robots", 400, json={"name": "Not a name", "scopes": []})
        self("delete", "/api/robots/ci", 204)
        self("post", "/auth/device/code", 200, data={"client_name": "a program"})
        self("post", "/auth/device/token", 400, data={"grant_type": "none"})
        self("get", "/auth/device", 200, params={"user_code": "none"})
        self("get", "/auth/tokens", 401)
        self("get", "/auth/oidc/callback")
        self("get", "/auth/oidc")

    def bolt(self) -> None:
        submitted = {**ABOUT, "profile": PROFILE, "description": "own"}
        self("post", "/v1/profiles/upload", 200, json={"profile": PROFILE, "metadata": {**ABOUT, **REQUIREMENTS}})
        self("post", "/v1/repository/submit", 200, json=submitted)
        self("post", "/v1/profiles/upload", 400, json={"profile": {}})
        self("post", "/v1/profiles/example/ratings", 200, json={"rating": 4.5, "comment": "good"})
        self("post", "/v1/profiles/example/ratings", 400, json={"rating": 9})
        for path in ("", "/example", "/example/download", "/example/versions"):
            self("get", f"/v1/profiles{path}", 200)
        for kind in ("profiles", "plugins"):
            self("post", f"/v1/{kind}/search", 200, json={"query": "example", "page": 1})
        for path in ("metrics", "metrics/profiles", "metrics/plugins", "repository/profiles"):
            self("get", f"/v1/{path}", 200)
        self("get", "/v1/profiles?page=x", 400)
        self("get", "/v1/plugins/none", 404)
        self("get", "/v2/gaming/none/compatibility", 404)
        self("post", "/v1/containers", 403, json={"image": "a", "profile": "example"})
        self("delete", "/v1/profiles/example", 204)

    def others(self) -> None:
        body = {"repository": "team/app", "reference": "v1"}
        (job, *_) = self("post", "/admin/optimize", 202, json=body).json()["jobs"]
        self("get", f"/admin/optimize/jobs/{job}", 200)
        self("get", "/admin/optimize/jobs/123456", 404)
        self("get", "/admin/optimize/bases", 200, params=body)
        self("delete", f"/admin/optimize/jobs/{job}")
        self("get", "/api/retention/explain", 200, params={"repository": "team/app", "tag": "v1"})
        self("get", "/api/retention/explain", 404, params={"repository": "team/none"})
        self("get", "/api/quota", 200, params={"limit": 1})
        self("get", "/admin/webhooks", 200)
        self("get", "/admin/webhooks/aside", 200, params={"target": "ci"})
        self("post", "/admin/webhooks/retry", 200)
        self("post", "/api/quic/ping/127.0.0.1:1", 503)
        assert self("get", "/api/audit/events", 200, params={"limit": 2}).json()["next"]
        for form in ("csv", "jsonlines"):
            self("get", "/api/audit/export", 200, params={"format": form})
        self("get", "/api/audit/export", 400, params={"format": "xml"})
        self("get", "/metrics", 200, headers={"accept": "application/openmetrics-text"})


def test_bodies_and_queries_have_their_types(served: Served) -> None:
    paths, schemas = served.document["paths"], served.document["components"]["schemas"]
    body = paths["/api/users"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NewUser"}
    assert schemas["NewUser"]["required"] == ["id"]
    assert "anyOf" not in schemas["UserFields"]["properties"]["active"]
    parameters = {one["name"]: one for one in paths["/api/audit/events"]["get"]["parameters"]}
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert parameters["cursor"]["required"] is False
    (path,) = (one for one in paths["/api/users/{user}"]["get"]["parameters"] if one["in"] == "path")
    assert (path["name"], path["required"], path["schema"]) == ("user", True, {"type": "string"})


def test_who_has_logged_in_may_read_it_and_nobody_else(served: Served) -> None:
    for path in ("/schema", "/schema/openapi.json"):
        assert served.client.get(path).status_code == 401
        assert served.client.get(path, auth=(SOMEBODY[0], "wrong")).status_code == 401
        assert served.client.get(path, auth=SOMEBODY).status_code == 200
    assert served.client.get("/admin/cluster", auth=SOMEBODY).status_code == 403


class Looked(HTMLParser):
    """What a page loads, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links |= {value or "" for name, value in attrs if name in {"href", "src", "action"}}


def test_the_page_shows_all_of_it_and_loads_nothing(served: Served) -> None:
    answer = served.client.get("/schema", auth=ADMIN)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    looked = Looked(answer.text)
    assert not looked.tags & {"script", "link", "img", "iframe", "form"}
    assert not {name for name in looked.attributes if name.startswith("on") or name == "style"}
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    allowed = b64encode(sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"style-src 'sha256-{allowed}'")
    anchors = {f"#{one}" for one in looked.ids}
    assert looked.links - anchors == {"/schema/openapi.json"}
    assert len(anchors) == len(looked.ids)
    operations = {operation["operationId"] for _, method, operation in served.operations() if method != "head"}
    schemas = {f"schema-{name}" for name in served.document["components"]["schemas"]}
    assert operations | schemas <= {*looked.ids}


def test_what_stands_in_the_document_is_no_markup() -> None:
    hostile = "<script>alert(1)</script>"
    operation = {
        "operationId": hostile,
        "tags": [hostile],
        "summary": f"`{hostile}`",
        "description": hostile,
        "x-drift-needs": hostile,
        "parameters": [{"name": hostile, "in": "query", "schema": {"enum": [hostile]}}],
        "requestBody": {"content": {"a/b": {"schema": {"type": "string", "pattern": hostile}}}},
        "responses": {"200": {"content": {"a/b": {"schema": {"$ref": f"#/{hostile}"}}}}},
    }
    schemas = {hostile: {"properties": {hostile: {"const": hostile, "default": hostile}}, "description": hostile}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "paths": {f"/{hostile}": {"get": operation}},
        "components": {"schemas": schemas},
    }
    assert "script" not in Looked(page(document)).tags


def test_without_logins_everybody_reads_it(tmp_path: Path) -> None:
    with Server(tmp_path, workers=1) as server:
        document = httpx.get(f"{server.url}/schema/openapi.json").raise_for_status().json()
        assert httpx.get(f"{server.url}/schema").status_code == 200
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert {one["security"].__len__() for item in document["paths"].values() for one in item.values()} == {0}


def bodies_of(file: Path) -> Iterator[tuple[str, str | None, str | None]]:
    """Yields each handler of a file, the type of the body that it reads, and the one that its route says."""
    for scope in ast.walk(ast.parse(file.read_text())):
        if not isinstance(scope, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        functions = {one.name: one for one in scope.body if isinstance(one, ast.AsyncFunctionDef)}
        for function in functions.values():
            routes = [one for one in function.decorator_list if isinstance(one, ast.Call) and is_route(one)]
            yield from ((function.name, read_by(function), said_by(route)) for route in routes)
        if isinstance(scope, ast.ClassDef):
            for call in ast.walk(scope):
                match call:
                    case ast.Call(func=ast.Call() as route, args=[ast.Attribute(attr=name)]) if is_route(route):
                        yield name, read_by(functions[name]), said_by(route)


def is_route(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in METHODS


def read_by(function: ast.AsyncFunctionDef) -> str | None:
    for call in ast.walk(function):
        match call:
            case ast.Call(func=ast.Name(id=name), args=[ast.Name(id="request"), ast.Name(id=kind)]) if name in READERS:
                return kind
    return None


def said_by(route: ast.Call) -> str | None:
    return next((ast.unparse(one.value) for one in route.keywords if one.arg == "body"), None)


def test_every_route_says_which_body_it_reads() -> None:
    files = [*(ROOT / "drift_core/http").glob("*.py"), *(ROOT / "plugins").glob("*/src/*/*.py")]
    found = {(file.name, *one) for file in files for one in bodies_of(file)}
    read = [one for one in found if one[2] is not None]
    assert len(read) > 15
    assert [one for one in read if one[2] != one[3]] == []
