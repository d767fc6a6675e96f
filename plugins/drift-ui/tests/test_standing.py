"""A session of the console lasts no longer than the account of whoever began it."""

import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.server import DRIFT, Server

from .browsing import PATIENCE, Visitor, said

PASSWORD = "the password of eve"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("standing"), 'auth.chain=["token", "basic"]') as server:
        yield server


def user(server: Server, *words: str) -> None:
    command = [str(DRIFT), "user", *words, *server.arguments()]
    subprocess.run(command, input=PASSWORD.encode(), check=True, capture_output=True, timeout=60)


def make_token(visitor: Visitor) -> str:
    """Returns what the console answers to the wish for a token: its text, or where it leads to."""
    csrf = visitor.token("/tokens")
    form = {"csrf": csrf, "act": "create", "name": "kept"}
    answer = visitor.http.post("/tokens", data=form, headers={"origin": visitor.origin})
    return answer.headers.get("location", said(answer.text))


@pytest.mark.parametrize("how", ["disable", "remove"])
def test_without_an_account_nobody_makes_tokens(server: Server, how: str) -> None:
    name = f"eve-{how}"
    user(server, "add", name, "--password-stdin")
    visitor = Visitor(server)
    deadline = time.monotonic() + PATIENCE
    while visitor.log_in(name, PASSWORD).status_code != 303:
        assert time.monotonic() < deadline, "the user is known within a second"
        # Who tries too often has to wait.
        time.sleep(0.5)
    assert "drift_pat_" in make_token(visitor)
    user(server, how, name)
    deadline = time.monotonic() + PATIENCE
    while not make_token(visitor).startswith("/login"):
        assert time.monotonic() < deadline, "the session goes on"
    assert visitor.get("/tokens").headers["location"].startswith("/login")
    visitor.http.close()
