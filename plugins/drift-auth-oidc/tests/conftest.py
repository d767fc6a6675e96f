"""What the tests log in with: the certified OpenID provider, a GitHub, a Drift, and browsers."""

import hashlib
import html
import json
import os
import re
import subprocess
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.server import Server, free_port
from tests.tools import ROOT, tool, unavailable

NODE_MODULES = ROOT / ".tools/node/oidc-provider/node_modules"
PROVIDER = Path(__file__).parent / "provider/server.mjs"
PATIENCE = 30.0
CLIENT_ID, CLIENT_SECRET = "drift", "drift-client-secret"


class OpenIdServer:
    """npm's oidc-provider, whose keys can be rotated, and which can be broken."""

    def __init__(self) -> None:
        if not (NODE_MODULES / "oidc-provider").is_dir():
            unavailable("npm's oidc-provider is not installed; `make tools` installs it")
        port, control = free_port(), free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        self._control = f"http://127.0.0.1:{control}"
        command = [tool("node"), str(PROVIDER), str(NODE_MODULES), str(port), str(control)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            self.control("ready")
            return httpx.get(f"{self.issuer}/.well-known/openid-configuration").is_success
        except httpx.TransportError:
            return False

    def control(self, what: str, **values: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self._control}/{what}", json=values)
        assert answer.status_code == 200
        return dict(answer.json())

    def sign(self, kind: str = "good", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Returns a token by the newest key, or of another ``kind``."""
        whole = {"sub": "ann", "preferred_username": "ann", "groups": ["developers"], **claims}
        return str(self.control("sign", kind=kind, header=header or {}, claims=whole)["token"])

    def asked(self) -> int:
        """How often it was asked for its keys."""
        return int(self.control("asked")["asked"])

    @contextmanager
    def broken(self, name: str = "claims", **claims: Any) -> Iterator[None]:
        """Its ID tokens have a fault, or other claims."""
        self.control("fault", name=name, claims=claims)
        try:
            yield
        finally:
            self.control("fault", name="")

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        self.control("down")
        try:
            yield
        finally:
            self.control("up")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class GitHubServer(ThreadingHTTPServer):
    """Speaks what GitHub documents of "Authorizing OAuth apps", and of the REST API for users, teams and emails."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GitHubAnswer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.user: dict[str, Any] = {
            "id": 583231,
            "login": "OctoCat",
            "name": "Mona",
            "avatar_url": "https://a.example/1",
        }
        self.emails = [
            {"email": "old@example.org", "primary": False, "verified": True, "visibility": None},
            {"email": "mona@example.org", "primary": True, "verified": True, "visibility": "private"},
        ]
        self.organizations = ["acme"]
        self.teams = [("acme", "backend"), ("acme", "ops")]
        self.codes: dict[str, str] = {}
        self.tokens = {"gho_1"}
        self.asked = 0
        self.status = 200
        threading.Thread(target=self.serve_forever, daemon=True).start()


class GitHubAnswer(BaseHTTPRequestHandler):
    server: GitHubServer

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name in the base class
        pass

    def answer(self, status: int, document: Any, **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/login/oauth/authorize":
            code = f"code-{len(self.server.codes)}"
            self.server.codes[code] = query["code_challenge"]
            assert query["code_challenge_method"] == "S256"
            assert "read:org" in query["scope"].split()
            back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            return self.answer(302, {}, location=back)
        self.server.asked += 1
        token = (self.headers["authorization"] or "").removeprefix("Bearer ")
        if token not in self.server.tokens:
            return self.answer(401, {"message": "Bad credentials"})
        if self.server.status != 200:
            return self.answer(self.server.status, {"message": "not now"})
        page, answered = int(query.get("page", "1")), parts.path.removeprefix("/api/v3")
        lists = {
            "/user/emails": self.server.emails,
            "/user/orgs": [{"login": name, "id": 1} for name in self.server.organizations],
            "/user/teams": [{"slug": team, "organization": {"login": name}} for name, team in self.server.teams],
        }
        if answered == "/user":
            return self.answer(200, self.server.user)
        # Pages of one, so that whoever reads only the first does not see all.
        assert query["per_page"] == "100"
        every = lists[answered]
        following = f'<{self.server.url}{parts.path}?per_page=100&page={page + 1}>; rel="next"'
        more = {"link": following} if page < len(every) else {}
        return self.answer(200, every[page - 1 : page], **more)

    def do_POST(self) -> None:
        form = {n: v[0] for n, v in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()}
        assert self.path == "/login/oauth/access_token"
        challenge = urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        good = form["client_id"] == CLIENT_ID and form["client_secret"] == CLIENT_SECRET
        if not good or self.server.codes.pop(form["code"], "") != challenge:
            # GitHub says so with 200.
            return self.answer(200, {"error": "bad_verification_code"})
        return self.answer(200, {"access_token": "gho_1", "token_type": "bearer", "scope": "read:org"})


class Wanderer:
    """A browser without a screen: follows redirects and sends the provider's forms, as a person would."""

    def __init__(self, drift: str) -> None:
        self.drift = drift
        self.client = httpx.Client(follow_redirects=False, timeout=PATIENCE)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Asks Drift, with the cookies that it has set."""
        return self.client.request(method, urljoin(self.drift, path), **options)

    def to_callback(self, path: str, user: str) -> str:
        """Begins at a path of Drift's, logs in at the provider, and returns the URL to which that sends back."""
        answer = self.ask("GET", path)
        for _ in range(20):
            if answer.is_redirect:
                url = urljoin(str(answer.url), answer.headers["location"])
                if url.startswith(self.drift):
                    return url
                answer = self.client.get(url)
                continue
            assert answer.status_code == 200, answer.text
            action = re.findall(r'<form[^>]* action="([^"]+)"', answer.text)[0]
            fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)"', answer.text))
            if 'name="login"' in answer.text:
                fields |= {"login": user, "password": "any"}
            answer = self.client.post(urljoin(str(answer.url), html.unescape(action)), data=fields)
        raise AssertionError("the provider does not send back")

    def log_in(self, user: str = "ann", path: str = "/auth/oidc") -> httpx.Response:
        """Returns Drift's answer to the login."""
        return self.client.get(self.to_callback(path, user))

    def csrf(self) -> str:
        return str(self.ask("GET", "/auth/user").json()["csrf_token"])

    def session(self) -> str | None:
        return self.client.cookies.get("drift-session")


class Lab:
    """What a test needs of the fixtures, since it cannot import this file."""

    CLIENT_ID, CLIENT_SECRET, PATIENCE = CLIENT_ID, CLIENT_SECRET, PATIENCE
    wanderer = Wanderer

    @staticmethod
    def certificate(folder: Path) -> tuple[Path, Path]:
        """Returns the files of a certificate for this machine, signed by itself, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "drift")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        files = folder / "server.crt", folder / "server.key"
        files[0].write_bytes(made.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    @staticmethod
    def settings(provider: OpenIdServer) -> list[str]:
        """Returns what makes Drift know the provider, and send its requests for keys nowhere else."""
        return [
            "auth.mode=oidc",
            f"auth.oidc.issuer={provider.issuer}",
            f"auth.oidc.client_id={CLIENT_ID}",
            f"auth.oidc.client_secret={CLIENT_SECRET}",
            'auth.oidc.allowed_groups=["developers", "acme/backend", "outsiders"]',
            'auth.oidc.group_mappings=[{group = "developers", role = "read-write"}]',
        ]


@pytest.fixture(scope="session")
def lab() -> type[Lab]:
    return Lab


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdServer]:
    server = OpenIdServer()
    yield server
    server.stop()


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    server = GitHubServer()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def drift(provider: OpenIdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("drift"), *Lab.settings(provider)) as server:
        yield server


@pytest.fixture
def person(drift: Server) -> Iterator[Wanderer]:
    wanderer = Wanderer(drift.url)
    yield wanderer
    wanderer.client.close()


@pytest.fixture
def chrome(tmp_path: Path) -> Iterator[Chrome]:
    """A real browser, with a profile of its own."""
    options = ChromeOptions()
    options.accept_insecure_certs = True
    options.binary_location = tool("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'chrome'}",
    ):
        options.add_argument(argument)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    driver = Chrome(options=options, service=Service(executable_path=tool("chromedriver"), env=environment))
    driver.implicitly_wait(PATIENCE)
    yield driver
    driver.quit()
