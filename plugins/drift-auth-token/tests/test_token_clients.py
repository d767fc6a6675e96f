"""crane, which speaks the token protocol, against a real server: in, out, refused, and across repositories."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from tests.clients.programs import Programs
from tests.server import Server

from .conftest import PASSWORDS, ask, log_in


@pytest.fixture
def run(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "home")


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    file = tmp_path / "layer.tar"
    with tarfile.open(file, "w") as archive:
        entry = tarfile.TarInfo("hello")
        entry.size = 100_000
        archive.addfile(entry, BytesIO(tmp_path.name.encode().ljust(entry.size)))
    return file


@pytest.fixture
def pushed(server: Server, tmp_path: Path, layer: Path) -> str:
    """A repository that others than the administrator may not read."""
    run = Programs(tmp_path / "admin")
    login(run, server, "admin")
    reference = f"{server.host}/private/{tmp_path.name.replace('_', '-').lower()}:v1"
    crane(run, "append", "-f", str(layer), "-t", reference)
    return reference


def login(run: Programs, server: Server, name: str, secret: str | None = None) -> None:
    crane(run, "auth", "login", server.host, "-u", name, "-p", secret or PASSWORDS[name])


def crane(run: Programs, *arguments: str, fails: bool = False) -> str:
    done = run("crane", *arguments, "--insecure", may_fail=fails)
    assert (done.code != 0) is fails, done.errors
    return done.text + done.errors


def test_a_writer_pushes_and_a_reader_pulls(server: Server, run: Programs, layer: Path, tmp_path: Path) -> None:
    reference = f"{server.host}/team/pushed:v1"
    login(run, server, "writer")
    crane(run, "append", "-f", str(layer), "-t", reference)
    login(run, server, "reader")
    crane(run, "pull", reference, str(tmp_path / "image.tar"))
    assert (tmp_path / "image.tar").stat().st_size > 0
    # Of another tag: crane does not push what is there already.
    assert "DENIED" in crane(run, "append", "-f", str(layer), "-t", f"{server.host}/team/pushed:v2", fails=True)
    assert "DENIED" in crane(run, "delete", reference, fails=True)


def test_who_has_not_logged_in_pulls_what_is_public(server: Server, run: Programs, layer: Path, tmp_path: Path) -> None:
    admin, reference = Programs(tmp_path / "admin"), f"{server.host}/public/app:v1"
    login(admin, server, "admin")
    crane(admin, "append", "-f", str(layer), "-t", reference)
    assert json.loads(crane(run, "manifest", reference))["layers"]
    assert "UNAUTHORIZED" in crane(run, "append", "-f", str(layer), "-t", f"{reference}2", fails=True)


def test_a_wrong_password_is_refused(server: Server, run: Programs, layer: Path) -> None:
    # crane itself checks no password when it is told one.
    crane(run, "auth", "login", server.host, "-u", "writer", "-p", "wrong")
    assert "UNAUTHORIZED" in crane(run, "append", "-f", str(layer), "-t", f"{server.host}/team/wrong:v1", fails=True)


@pytest.mark.parametrize("verb", ["copy", "delete"])
def test_a_robot_does_what_it_is_for(server: Server, run: Programs, layer: Path, verb: str) -> None:
    admin = log_in(server, "admin")["token"]
    scopes = ["repository:team/*:pull", "repository:team/*:push"]
    robot = ask(server, "POST", "/api/robots", admin, json={"name": "ci", "scopes": scopes})
    login(run, server, "robot$ci", robot.json()["token"])
    reference = f"{server.host}/team/by-robot-{verb}:v1"
    try:
        crane(run, "append", "-f", str(layer), "-t", reference)
        if verb == "copy":
            crane(run, "copy", reference, f"{server.host}/team/copied:v1")
        else:
            # The policy would let the robot: it is its token that may not.
            assert "the token was not made for this" in crane(run, "delete", reference, fails=True)
    finally:
        ask(server, "DELETE", "/api/robots/ci", admin)


def test_a_copy_mounts_by_one_token_for_both(server: Server, run: Programs, layer: Path) -> None:
    source, target = f"{server.host}/team/source:v1", f"{server.host}/team/target:v1"
    login(run, server, "writer")
    crane(run, "append", "-f", str(layer), "-t", source)
    said = crane(run, "copy", "-v", source, target)
    assert "mounted blob" in said
    assert "--> PATCH" not in said
    assert crane(run, "digest", source) == crane(run, "digest", target)


def test_a_push_that_may_not_mount_uploads(
    server: Server, run: Programs, layer: Path, pushed: str, tmp_path: Path
) -> None:
    """The same layer lies in a repository that the writer may not read: it has to send it, and is not refused."""
    reference = f"{server.host}/team/uploaded:v1"
    login(run, server, "writer")
    assert "DENIED" in crane(run, "manifest", pushed, fails=True)
    crane(run, "append", "-f", str(layer), "-t", reference)
    crane(run, "pull", reference, str(tmp_path / "image.tar"))


def test_the_catalog(server: Server, run: Programs, layer: Path, pushed: str) -> None:
    login(run, server, "writer")
    crane(run, "append", "-f", str(layer), "-t", f"{server.host}/team/listed:v1")
    listed = crane(run, "catalog", server.host).splitlines()
    assert "team/listed" in listed
    assert pushed.removeprefix(f"{server.host}/").removesuffix(":v1") not in listed
    assert not [name for name in listed if name.startswith("private/")]
    login(run, server, "reader")
    assert "DENIED" in crane(run, "catalog", server.host, fails=True)


LOGIN = {
    "helm": ("registry", "login", "--plain-http"),
    "oras": ("login", "--plain-http"),
    "podman": ("login", "--tls-verify=false"),
    "regctl": ("registry", "login"),
    "skopeo": ("login", "--tls-verify=false"),
}
READ = {
    "oras": ("manifest", "fetch", "--plain-http", "{}"),
    "regctl": ("manifest", "get", "{}"),
    "skopeo": ("inspect", "--raw", "--tls-verify=false", "docker://{}"),
}


@pytest.mark.parametrize("client", LOGIN)
def test_other_clients_log_in_and_read_what_they_may(
    server: Server, run: Programs, pushed: str, layer: Path, client: str
) -> None:
    reference = f"{server.host}/team/read-by-{client}:v1"
    login(run, server, "writer")
    crane(run, "append", "-f", str(layer), "-t", reference)
    crane(run, "auth", "logout", server.host)
    if client == "regctl":
        # It asks at once, and is refused, as it has not logged in yet.
        run("regctl", "registry", "set", "--tls", "disabled", server.host, may_fail=True)
    credentials = (*LOGIN[client], server.host, "-u", "reader", "-p")
    assert run(client, *credentials, "wrong", may_fail=True).code != 0
    run(client, *credentials, PASSWORDS["reader"])
    if client in READ:
        assert "layers" in run(client, *(part.format(reference) for part in READ[client])).text.lower()
        assert run(client, *(part.format(pushed) for part in READ[client]), may_fail=True).code != 0
