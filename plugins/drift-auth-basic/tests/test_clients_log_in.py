"""Real clients log in with a password, and are refused with a wrong one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.server import Server
from tests.tools import tool

PASSWORD = "correct horse bättery"
Run = Callable[..., int]

LOGINS = {
    "crane": ["auth", "login", "HOST", "-u", "ann", "--password-stdin"],
    "helm": ["registry", "login", "HOST", "--plain-http", "-u", "ann", "--password-stdin"],
    "oras": ["login", "HOST", "--plain-http", "-u", "ann", "--password-stdin"],
    "podman": ["login", "HOST", "--tls-verify=false", "-u", "ann", "--password-stdin"],
    "regctl": ["registry", "login", "HOST", "-u", "ann", "--pass-stdin"],
    "skopeo": ["login", "HOST", "--tls-verify=false", "-u", "ann", "--password-stdin"],
}
LATER = {"crane": ["catalog", "HOST", "--insecure"], "regctl": ["repo", "ls", "HOST"]}
"""What shows whether a login was good where the login itself does not ask the registry."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    users = f'auth.basic.users=["ann:{PASSWORD}"]'
    with Server(tmp_path_factory.mktemp("server"), "auth.mode=basic", users, workers=2) as server:
        yield server


@pytest.fixture
def run(server: Server, tmp_path: Path) -> Run:
    """Runs a client that has a home of its own, and returns its exit code."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}

    def ran(name: str, *arguments: str, given: str = "") -> int:
        command = [tool(name), *(argument.replace("HOST", server.host) for argument in arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, input=given.encode(), check=False, timeout=120)
        return done.returncode

    assert ran("regctl", "registry", "set", "HOST", "--tls", "disabled", "--skip-check") == 0
    return ran


@pytest.mark.parametrize("client", LOGINS)
def test_a_login_is_good_or_not(client: str, run: Run) -> None:
    outcomes = []
    for password in ("Tr0ub4dor", PASSWORD):
        code = run(client, *LOGINS[client], given=password)
        outcomes.append(code == 0 and (client not in LATER or run(client, *LATER[client]) == 0))
    assert outcomes == [False, True]


def test_what_one_client_pushes_another_pulls(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    push = ("push", "HOST/team/app:v1", "--plain-http", "file:text/plain")
    assert run("oras", *push) != 0
    assert run("oras", *LOGINS["oras"], given=PASSWORD) == 0
    assert run("oras", *push) == 0
    # They share the file of credentials that docker made usual.
    assert run("crane", "manifest", "HOST/team/app:v1", "--insecure") == 0
    assert run("oras", "logout", "HOST") == 0
    assert run("crane", "manifest", "HOST/team/app:v1", "--insecure") != 0
