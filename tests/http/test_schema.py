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
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from drift_core.http.schema_page import page
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
    "webhooks.enabled=true",
)
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
READERS = ("body_of", "read", "read_json")
"""Functions of plugins and the core that read a body; the second argument is its type."""

UNKNOWN = "no such endpoint"


class Served:
    """A server with every plugin that has routes, and its document."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.document = self.client.get("/schema/openapi.json", auth=ADMIN).raise_for_status().json()

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for path, item in self.document["paths"].items():
            yield from ((path, method, item[method]) for method in METHODS if method in item)


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


def test_answers_are_what_the_document_says(served: Served) -> None:
    """Of every route that can be asked without knowing more."""
    checked = []
    for path, method, operation in served.operations():
        shown = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
        given = [one for one in operation.get("parameters", ()) if one["required"]]
        if method != "get" or shown is None or given:
            continue
        answer = served.client.get(path, auth=ADMIN)
        assert answer.status_code == 200, (path, answer.text)
        jsonschema.validate(answer.json(), {**shown, "components": served.document["components"]})
        checked.append(path)
    assert {"/admin/cluster", "/admin/optimize/status", "/admin/webhooks", "/api/audit/stats", "/api/quota"} <= {
        *checked
    }
    assert {"/v1/profiles", "/v1/metrics", "/v1/repository/profiles", "/v2/features", "/version"} <= {*checked}


def test_an_error_is_what_the_document_says(served: Served) -> None:
    answer = served.client.post("/admin/gc", auth=ADMIN, json={"dry_rum": True})
    shown = served.document["paths"]["/admin/gc"]["post"]["responses"]["default"]["content"]["application/json"]
    assert answer.status_code == 400
    jsonschema.validate(answer.json(), {**shown["schema"], "components": served.document["components"]})


def test_an_answer_of_another_status_has_its_own_form(served: Served) -> None:
    answers = served.document["paths"]["/readyz"]["get"]["responses"]
    assert [*answers] == ["200", "503", "507", "default"]
    text = {"type": "object", "additionalProperties": {"type": "string"}}
    assert answers["503"]["content"] == answers["507"]["content"] == {"application/json": {"schema": text}}


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
