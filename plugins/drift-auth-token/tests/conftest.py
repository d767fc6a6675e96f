"""An opened authenticator, forged tokens, and an issuer that really listens."""

import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from drift_auth_token.authenticator import TokenAuthenticator, open_authenticator
from drift_auth_token.config import TokenConfig
from drift_auth_token.keys import generate, thumbprint, to_jwk

from drift_core.api import Credentials, Records, Services
from drift_core.conformance import MemoryAuditor, Trail, open_records, services
from tests.plugins.installation import Installation
from tests.server import Server

REVOKED_SECONDS = 1.0
"""How soon what was revoked has to be refused."""

Opening = Callable[..., AbstractAsyncContextManager[TokenAuthenticator]]


def lent(records: Records, *heard: MemoryAuditor) -> Services:
    return services("auth-token", records=records, audit=Trail(list(heard)))


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("auth-token", "drift_auth_token.migrations", database_url) as opened:
        yield opened


@pytest.fixture
def heard() -> MemoryAuditor:
    return MemoryAuditor()


@pytest.fixture
def opening(records: Records, heard: MemoryAuditor) -> Opening:
    """Opens an authenticator beside others on the same database, as another worker does."""

    @asynccontextmanager
    async def opened(**config: Any) -> AsyncIterator[TokenAuthenticator]:
        async with open_authenticator(TokenConfig(**config), lent(records, heard)) as authenticator:
            yield authenticator

    return opened


@pytest.fixture
async def opened(opening: Opening) -> AsyncIterator[TokenAuthenticator]:
    async with opening() as authenticator:
        yield authenticator


def authorized(value: str) -> Credentials:
    return Credentials(value, (("authorization", value),), "192.0.2.1")


def bearer(token: str) -> Credentials:
    return authorized(f"Bearer {token}")


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def claims(**others: Any) -> dict[str, Any]:
    """The claims of a good token of this registry, but for ``others``; None leaves one out."""
    now = int(time.time())
    good = {"iss": "drift", "aud": "drift", "sub": "alice", "exp": now + 300, "nbf": now - 30, "iat": now}
    found = good | {"jti": "1", "use": "login", "src": "basic"} | others
    return {name: value for name, value in found.items() if value is not None}


class Forger:
    """Signs whatever it is told with the registry's own newest key, or with others."""

    def __init__(self, authenticator: TokenAuthenticator) -> None:
        self.authenticator = authenticator

    async def key(self) -> Any:
        keyring = await self.authenticator._snapshot.get()
        return keyring.signer()

    async def signed(self, header: dict[str, Any] | None = None, **others: Any) -> str:
        key = await self.key()
        return jwt.encode(claims(**others), key.private, key.algorithm, headers={"kid": key.kid} | (header or {}))


@pytest.fixture
def forger(opened: TokenAuthenticator) -> Forger:
    return Forger(opened)


class Issuer:
    """An issuer that publishes its keys over HTTP on this machine."""

    def __init__(self) -> None:
        self.keys: list[dict[str, str]] = []
        self.private: Any = None
        self.kid = ""
        self.asked: list[str] = []
        self.documents: dict[str, bytes] = {}
        self.delay = 0.0
        self.drip = 0.0
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def listen(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                time.sleep(issuer.delay)
                content = issuer.document(self.path)
                self.send_response(404 if content is None else 200)
                self.end_headers()
                try:
                    for byte in (content or b"") if issuer.drip else b"":
                        self.wfile.write(bytes((byte,)))
                        time.sleep(issuer.drip)
                    self.wfile.write(b"" if issuer.drip else content or b"")
                except ConnectionError:
                    return

            def log_message(self, *_: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="issuer", daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def document(self, path: str) -> bytes | None:
        if path in self.documents:
            return self.documents[path]
        if path == "/keys":
            return json.dumps({"keys": self.keys}).encode()
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return None

    def add_key(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        jwk = to_jwk(self.private.public_key(), "ES256")
        self.kid = thumbprint(jwk)
        self.keys = [*self.keys, jwk | {"kid": self.kid, "use": "sig"}]

    def token(self, header: dict[str, Any] | None = None, key: Any = None, alg: str = "ES256", **others: Any) -> str:
        content = claims(**{"iss": self.url, "aud": "registry", "sub": "bob"} | others)
        return jwt.encode(content, key or self.private, alg, headers={"kid": self.kid} | (header or {}))

    async def rotate(self) -> Credentials:
        self.add_key()
        return bearer(self.token())

    async def stop(self) -> None:
        self.close()

    async def start(self) -> None:
        self.listen()

    def config(self, **others: Any) -> dict[str, Any]:
        return {"issuer": self.url, "audience": "registry", "jwks_url": f"{self.url}/keys"} | others


@pytest.fixture
def provider() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


@pytest.fixture(scope="session")
def small_rsa() -> Any:
    return rsa.generate_private_key(65537, 1024)  # noqa: S505 - what has to be refused


@pytest.fixture(scope="session")
def foreign_key() -> Any:
    """A key that nobody has published, with its identifier."""
    kid, pem = generate("ES256")
    return kid, pem


POLICY = """
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from drift_core.api import Driver, Struct, Verdict, hookimpl

RULES = {
    "admin": ["*:*:*"],
    "writer": ["repository:team/*:pull", "repository:team/*:push", "registry:catalog:*"],
    "reader": ["repository:team/*:pull"],
    "robot$ci": ["repository:team/*:*"],
    "": ["repository:public/*:pull"],
}

class Config(Struct, forbid_unknown_fields=True):
    pass

class Table:
    async def decide(self, identity, scopes):
        rules = RULES.get(identity.name if identity else "", [])
        return [Verdict(any(fnmatchcase(str(scope), rule) for rule in rules)) for scope in scopes]

@asynccontextmanager
async def open_table(config, services):
    yield Table()

@hookimpl
def drift_authz():
    return [Driver("table", Config, open_table)]
"""
BADGE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Identity, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    pass

class Badge:
    async def authenticate(self, credentials):
        shown = credentials.header("x-badge")
        return None if shown is None else Identity(shown, "badge", delegated=True)

    def challenge(self, scopes):
        return None

@asynccontextmanager
async def open_badge(config, services):
    yield Badge()

@hookimpl
def drift_authn():
    return [Driver("badge", Config, open_badge)]
"""
PASSWORDS = {"admin": "admin's password", "writer": "writer's password", "reader": "reader: the password"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry of two workers with passwords, tokens, badges that end by themselves, and a policy by name."""
    folder = tmp_path_factory.mktemp("token")
    installation = Installation(folder / "site")
    installation.add("acme-table", {"table": "acme_table"}, {"acme_table": POLICY})
    installation.add("acme-badge", {"badge": "acme_badge"}, {"acme_badge": BADGE})
    users = json.dumps([f"{name}:{password}" for name, password in PASSWORDS.items()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installation.folder))
        settings = ('auth.chain=["badge", "token", "basic"]', 'auth.policies=["table"]', f"auth.basic.users={users}")
        with Server(folder / "server", *settings) as server:
            yield server


def ask(server: Server, method: str, path: str, token: str | None = None, **others: Any) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.request(method, f"{server.url}{path}", headers=headers | others.pop("headers", {}), **others)


def log_in(server: Server, name: str) -> dict[str, Any]:
    answer = ask(server, "POST", "/v1/auth/login", json={"username": name, "password": PASSWORDS[name]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def everywhere(server: Server, path: str, token: str, **others: Any) -> set[int]:
    """What many connections, and so all workers, answer."""
    return {ask(server, "GET", path, token, **others).status_code for _ in range(16)}
