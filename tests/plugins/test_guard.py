"""Who may do what, by a login and a policy of throw-away plugins: the guard of `/v2` and of every other route."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.plugins.installation import Installation
from tests.server import Server

LOGIN = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Identity, Scope, Struct, Unauthorized, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Login:
    '''"Key NAME" is NAME; "Key bad" is refused; "Key reader" may only pull team/app.'''
    def __init__(self, scheme):
        self.scheme = scheme
    async def authenticate(self, credentials):
        scheme, _, name = (credentials.authorization or "").partition(" ")
        if scheme != self.scheme:
            return None
        if name == "bad":
            raise Unauthorized("the key is not known")
        limited = frozenset({Scope("repository", "team/app", "pull")}) if name == "reader" else None
        return Identity(name, self.scheme, scopes=limited)
    def challenge(self, scopes):
        return f'{self.scheme} realm="drift"'

@asynccontextmanager
async def open_key(config, services):
    yield Login("Key")

@asynccontextmanager
async def open_other(config, services):
    yield Login("Other")

@hookimpl
def drift_authn():
    return [Driver("key", Config, open_key), Driver("other", Config, open_other)]
"""
POLICY = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, Verdict, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Policy:
    '''Everybody who is known may pull, writers may push; admins everything.'''
    async def decide(self, identity, scopes):
        name = identity.name if identity else ""
        return [self.one(name, scope) for scope in scopes]
    def one(self, name, scope):
        if name == "root":
            return Verdict(True)
        if name == "broken":
            raise RuntimeError("the policy is out of order")
        return Verdict(bool(name) and (scope.action == "pull" or (name == "writer" and scope.action == "push")))

@asynccontextmanager
async def open_policy(config, services):
    yield Policy()

@hookimpl
def drift_authz():
    return [Driver("writers", Config, open_policy)]
"""
FEATURE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Scope, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Pages:
    name = "pages"
    def routes(self):
        from litestar import get
        @get("/pages/open", sync_to_thread=False, scope=Scope("repository", "team/app", "pull"))
        def readable() -> str:
            return "readable"
        @get("/pages/admin", sync_to_thread=False)
        def admin() -> str:
            return "admin"
        @get("/v2/features", sync_to_thread=False, public=True)
        def features() -> list[str]:
            return ["pages"]
        @get("/v2/pages/{name:str}/look", sync_to_thread=False, public=True)
        def look(name: str) -> str:
            return name
        return [readable, admin, features, look]
    headers = [(b"alt-svc", b'h3=":5443"')]

@asynccontextmanager
async def open_pages(config, services):
    yield Pages()

@hookimpl
def drift_features():
    return [Driver("pages", Config, open_pages)]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guard")
    installation = Installation(folder / "site")
    for name, source in {"login": LOGIN, "policy": POLICY, "pages": FEATURE}.items():
        installation.add(f"acme-{name}", {name: f"acme_{name}"}, {f"acme_{name}": source})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        settings = ('auth.chain=["key", "other"]', 'auth.policies=["writers"]')
        with Server(Path(folder / "server"), *settings, workers=1) as server:
            yield server.url


def ask(url: str, method: str, path: str, key: str | None = None) -> httpx.Response:
    return httpx.request(method, f"{url}{path}", headers={} if key is None else {"authorization": f"Key {key}"})


def code(answer: httpx.Response) -> str:
    (error,) = answer.json()["errors"]
    return str(error["code"])


@pytest.mark.parametrize("path", ["/v2/", "/v2/team/app/tags/list", "/v2/_catalog", "/pages/open", "/pages/admin"])
def test_a_stranger_is_told_every_way_to_log_in(url: str, path: str) -> None:
    answer = ask(url, "GET", path)
    assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")
    challenges = [part.strip() for value in answer.headers.get_list("www-authenticate") for part in value.split(",")]
    assert challenges == ['Key realm="drift"', 'Other realm="drift"']


def test_features_answer_what_the_specification_leaves_free(url: str) -> None:
    assert ask(url, "GET", "/v2/features").json() == ["pages"]
    assert ask(url, "GET", "/v2/pages/one/look").text == "one"


@pytest.mark.parametrize("name", ["manifests", "blobs", "referrers"])
def test_no_feature_takes_a_path_of_the_specification(url: str, name: str) -> None:
    assert ask(url, "GET", f"/v2/pages/{name}/look").status_code == 401


@pytest.mark.parametrize("path", ["/v2/", "/v2/features", "/pages/open", "/healthz", "/nothing"])
def test_every_answer_has_the_headers_of_features(url: str, path: str) -> None:
    answer = ask(url, "GET", path)
    assert answer.headers["alt-svc"] == 'h3=":5443"'
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/version"])
def test_public_endpoints_ask_nobody(url: str, path: str) -> None:
    assert ask(url, "GET", path).status_code == 200


def test_a_bad_key_is_refused_with_the_reason(url: str) -> None:
    answer = ask(url, "GET", "/v2/", "bad")
    assert (answer.status_code, code(answer)) == (401, "UNAUTHORIZED")
    assert answer.json()["errors"][0]["message"] == "the key is not known"
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    ("key", "method", "path", "status"),
    [
        ("guest", "GET", "/v2/", 200),
        ("guest", "GET", "/v2/team/app/manifests/v1", 404),
        ("guest", "POST", "/v2/team/app/blobs/uploads/", 403),
        ("writer", "POST", "/v2/team/app/blobs/uploads/", 202),
        ("writer", "DELETE", "/v2/team/app/manifests/v1", 403),
        ("root", "DELETE", "/v2/team/app/manifests/v1", 404),
        ("reader", "GET", "/v2/team/app/manifests/v1", 404),
        ("reader", "GET", "/v2/team/other/manifests/v1", 403),
        ("guest", "GET", "/pages/open", 200),
        ("guest", "GET", "/pages/admin", 403),
        ("root", "GET", "/pages/admin", 200),
        ("guest", "GET", "/nowhere", 404),
    ],
)
def test_the_policy_and_the_limits_of_the_credential_decide(
    url: str, key: str, method: str, path: str, status: int
) -> None:
    answer = ask(url, method, path, key)
    assert answer.status_code == status
    if status == 403:
        assert code(answer) == "DENIED"


def test_a_policy_that_fails_refuses(url: str) -> None:
    answer = ask(url, "GET", "/v2/team/app/manifests/v1", "broken")
    assert answer.status_code >= 403
    assert ask(url, "GET", "/pages/open", "broken").status_code >= 403
