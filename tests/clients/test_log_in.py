"""Real clients log in over TLS in each way there is, do what they may, and are refused the rest."""

import json
import ssl
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

import httpx
import pytest

from tests.clients.image_layout import ImageLayout
from tests.clients.logins import CLIENTS, NewPerson, Person, make_certificate, sign_client
from tests.oci.content import OCI_INDEX
from tests.server import DRIFT, Server

POLICY = """
[users.bob]
[users.zoe]
[users."robot$ci"]

[organizations.team]
members = ["bob", "robot$ci"]

[teams."team/developers"]
members = ["bob", "robot$ci"]
roles = ["developer"]

[organizations.other]
members = ["zoe"]
"""
PASSWORDS = {"alice": "admin of all", "bob": "developer: of team", "zoe": "viewer öf other"}
USERS = json.dumps([f"{name}:{password}" for name, password in PASSWORDS.items()], ensure_ascii=False)
SETTINGS = (
    f"auth.basic.users={USERS}",
    "rbac.enabled=true",
    'rbac.admins=["alice"]',
    'rbac.public=["public/*"]',
)
CHAINS = {"basic": '["basic"]', "token": '["token", "basic"]'}
SECRETS = {"basic": ("password",), "token": ("password", "personal token", "robot")}
WAYS = [(chain, secret) for chain, secrets in SECRETS.items() for secret in secrets]
"""Every chain of authenticators, and what somebody who may push to ``team`` logs in with."""
INDEX = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})

ALLOWED = {
    "nobody": {"public/app": "pull"},
    "zoe": {"public/app": "pull", "free/app": "pull", "other/app": "pull"},
    "bob": {"public/app": "pull", "free/app": "pull", "team/app": "pull push"},
    "alice": dict.fromkeys(("public/app", "free/app", "team/app", "other/app"), "pull push delete"),
}
"""Who may do what, to whom everything else is refused."""


class Registry:
    """A server that somebody has to log in to, its certificate, and what each way to log in sends."""

    def __init__(self, server: Server, certificate: Path) -> None:
        self.server = server
        self.host = server.host
        self.certificate = certificate
        # Trusts the server, and nobody else.
        self.http = httpx.Client(base_url=server.url, verify=ssl.create_default_context(cafile=certificate))

    def secret(self, kind: str) -> tuple[str, str]:
        """Returns user name and password of somebody who may push to ``team``; a token is made now."""
        if kind == "personal token":
            return "bob", self._made("token", "create", "bob")
        if kind == "robot":
            return "robot$ci", self.robot
        return "bob", PASSWORDS["bob"]

    @cached_property
    def robot(self) -> str:
        """The token of the robot, which is shown once."""
        rights = ("--scope", "repository:team/*:pull", "--scope", "repository:team/*:push")
        return self._made("robot", "create", "ci", *rights)

    def _made(self, *arguments: str) -> str:
        command = [str(DRIFT), *arguments, "--json", *self.server.arguments()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["token"])

    def ask(self, method: str, path: str, name: str, **headers: str) -> httpx.Response:
        """Asks as a user of the table, without a client between."""
        if name in PASSWORDS:
            headers["authorization"] = "Basic " + b64encode(f"{name}:{PASSWORDS[name]}".encode()).decode()
        content = INDEX if method == "PUT" else None
        return self.http.request(method, path, headers=headers, content=content)


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Registry]]:
    """One server for each chain."""
    folder = tmp_path_factory.mktemp("login")
    tls = make_certificate(folder)
    (folder / "policy.toml").write_text(POLICY)
    with ExitStack() as stack:
        found = {}
        for name, chain in CHAINS.items():
            server = Server(folder / name, f"auth.chain={chain}", *SETTINGS, tls=tls)
            command = [str(DRIFT), "rbac", "import", str(folder / "policy.toml"), *server.arguments()]
            subprocess.run(command, check=True)
            found[name] = Registry(stack.enter_context(server), tls[0])
            stack.enter_context(found[name].http)
        yield found


@pytest.fixture
def registry(registries: dict[str, Registry], chain: str) -> Registry:
    return registries[chain]


@pytest.fixture
def person(registry: Registry, tmp_path: Path) -> Iterator[NewPerson]:
    """Each has a home, and a storage with a path that is short enough for podman."""
    with ExitStack() as stack:

        def made(client: str) -> Person:
            storage = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drift-")))
            return Person(client, tmp_path / storage.name, storage, registry.host, registry.certificate)

        yield made


def status(registry: Registry, name: str, repository: str, action: str) -> int:
    """Tries something; what is pulled, pushed and deleted is not there, which only who may is told."""
    missing = "sha256:" + "0" * 64
    path = f"/v2/{repository}/manifests/{missing}"
    method = {"pull": "GET", "push": "PUT", "delete": "DELETE"}[action]
    return registry.ask(method, path, name, **{"content-type": OCI_INDEX}).status_code


@pytest.mark.parametrize("chain", CHAINS)
def test_each_may_do_what_the_table_says_and_nothing_else(registry: Registry) -> None:
    """Every user, action and repository; a push is refused for its digest, which comes after the question who asks."""
    got = {}
    for name in ALLOWED:
        for repository in ("public/app", "free/app", "team/app", "other/app"):
            seen = {action: status(registry, name, repository, action) for action in ("pull", "push", "delete")}
            refusal = 401 if name == "nobody" else 403
            assert set(seen.values()) <= {400, 404, refusal}, (name, repository, seen)
            may = " ".join(action for action, found in seen.items() if found != refusal)
            got.setdefault(name, {}).update({repository: may} if may else {})
    assert got == ALLOWED


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("chain", "secret"), WAYS)
def test_a_client_logs_in_pushes_pulls_and_is_refused(
    registry: Registry, person: NewPerson, client: str, secret: str, image: ImageLayout, seed: int
) -> None:
    name, password = registry.secret(secret)
    bob, stranger = person(client), f"other/{client}-{seed}"
    assert bob.push(f"team/{client}-{seed}", image).code != 0
    # crane only writes down what it is told.
    assert bob.log_in(name, "wrong").code != 0 or client == "crane"
    assert bob.push(f"team/{client}-{seed}", image).code != 0
    found = bob.log_in(name, password)
    assert found.code == 0, found.errors
    pushed = bob.push(f"team/{client}-{seed}", image)
    assert pushed.code == 0, pushed.errors
    pulled = bob.pull(f"team/{client}-{seed}")
    assert pulled.code == 0, pulled.errors
    assert bob.push(stranger, image).code != 0
    assert bob.pull(stranger).code != 0


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_client_that_is_nobody_pulls_what_is_public(
    person: NewPerson, client: str, image: ImageLayout, seed: int
) -> None:
    alice, nobody = person(client), person(client)
    assert alice.log_in("alice", PASSWORDS["alice"]).code == 0
    for repository in (f"public/{client}-{seed}", f"free/{client}-{seed}"):
        pushed = alice.push(repository, image)
        assert pushed.code == 0, pushed.errors
    pulled = nobody.pull(f"public/{client}-{seed}")
    assert pulled.code == 0, pulled.errors
    assert nobody.pull(f"free/{client}-{seed}").code != 0
    assert nobody.push(f"public/new-{client}-{seed}", image).code != 0


@pytest.mark.parametrize("chain", CHAINS)
def test_the_catalogue_is_everybodys_own(registry: Registry) -> None:
    for repository in ("public/listed", "free/listed", "team/listed", "other/listed"):
        answer = registry.ask("PUT", f"/v2/{repository}/manifests/v1", "alice", **{"content-type": OCI_INDEX})
        assert answer.status_code == 201
    listed = {
        name: [one for one in registry.ask("GET", "/v2/_catalog", name).json()["repositories"] if "listed" in one]
        for name in PASSWORDS
    }
    assert listed == {
        "alice": ["free/listed", "other/listed", "public/listed", "team/listed"],
        "bob": ["free/listed", "public/listed", "team/listed"],
        "zoe": ["free/listed", "other/listed", "public/listed"],
    }


@pytest.mark.parametrize("client", ["skopeo", "podman", "helm"])
def test_a_client_with_a_certificate_needs_no_password(
    client: str, tmp_path: Path, image: ImageLayout, seed: int
) -> None:
    tls = make_certificate(tmp_path)
    shown = sign_client(tmp_path, "ci")
    settings = ("auth.mode=certificate", f"tls.client_ca_file={tmp_path / 'clients.pem'}")
    with (
        tempfile.TemporaryDirectory(prefix="drift-") as storage,
        Server(tmp_path / "server", *settings, tls=tls) as server,
    ):
        person = Person(client, tmp_path / "home", Path(storage), server.host, tls[0])
        repository = f"team/{client}-{seed}"
        assert person.push(repository, image).code != 0
        person.show(shown)
        for done in (person.push(repository, image), person.pull(repository)):
            assert done.code == 0, done.errors
