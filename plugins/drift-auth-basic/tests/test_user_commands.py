"""`drift user` beside a server that runs: what is changed in one process has effect in every worker."""

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import DRIFT, Server
from tests.tools import ROOT

PASSWORD = "correct horse battery"
WORKERS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_text("")
    settings = (
        'auth.basic.users=["root:of the table"]',
        f'auth.basic.htpasswd_files=["{htpasswd}"]',
        "auth.basic.failures_per_address=0",
    )
    with Server(tmp_path / "server", "auth.mode=basic", *settings, workers=WORKERS) as server:
        yield server


def drift(server: Server, *arguments: str, given: str = "", code: int = 0) -> str:
    command = [str(DRIFT), "user", *arguments, *server.arguments()]
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "warning" not in done.stdout
    assert not given or given.strip() not in done.stdout + done.stderr
    return done.stderr if code else done.stdout


def ask(server: Server, name: str, password: str) -> int:
    """Asks on a connection of its own, which any worker may accept."""
    answer = httpx.get(f"{server.url}/v2/", auth=(name.encode(), password.encode()))
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == 'Basic realm="drift", charset="UTF-8"'
    return answer.status_code


def everywhere(server: Server, name: str, password: str) -> set[int]:
    """Asks often enough to meet every worker, but for once in a thousand runs."""
    return {ask(server, name, password) for _ in range(20)}


def test_users_of_the_database(server: Server) -> None:
    assert everywhere(server, "ann", PASSWORD) == {401}
    drift(server, "add", "ann", "--password-stdin", given=f"{PASSWORD}\n")
    time.sleep(1)
    assert everywhere(server, "ann", PASSWORD) == {200}
    for command, expected in (("disable", 401), ("enable", 200), ("remove", 401)):
        drift(server, command, "ann")
        time.sleep(1)
        assert everywhere(server, "ann", PASSWORD) == {expected}


def test_a_new_password(server: Server) -> None:
    drift(server, "add", "änne", "--password-stdin", given=PASSWORD)
    time.sleep(1)
    assert everywhere(server, "änne", PASSWORD) == {200}
    drift(server, "passwd", "änne", "--password-stdin", given="pässword of the day\r\n")
    time.sleep(1)
    assert everywhere(server, "änne", PASSWORD) == {401}
    assert everywhere(server, "änne", "pässword of the day") == {200}


def test_list(server: Server) -> None:
    assert json.loads(drift(server, "list", "--json")) == []
    before = time.time()
    for name in ("ben", "ann", "[red]cleo"):
        drift(server, "add", name, "--password-stdin", given=PASSWORD)
    drift(server, "disable", "ben")
    time.sleep(1)
    assert ask(server, "ann", PASSWORD) == 200
    users = {user.pop("name"): user for user in json.loads(drift(server, "list", "--json"))}
    assert list(users) == ["[red]cleo", "ann", "ben"]
    assert [user["disabled"] for user in users.values()] == [False, False, True]
    assert all(before <= user["created_at"] <= time.time() for user in users.values())
    assert before < users["ann"]["last_login_at"] <= time.time()
    assert users["ben"]["last_login_at"] is None
    table = drift(server, "list")
    assert "[red]cleo" in table
    assert "disabled" in table
    assert "argon2" not in table


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that does not run, with a user: the tables are made by whoever comes first."""
    server = Server(tmp_path_factory.mktemp("stopped"), "auth.mode=basic", 'auth.basic.users=["root:of the table"]')
    drift(server, "add", "ann", "--password-stdin", given=PASSWORD)
    return server


@pytest.mark.parametrize(
    ("arguments", "given", "code", "said"),
    [
        (("add", "ann"), PASSWORD, 1, "there is a user ann already"),
        (("add", "root"), PASSWORD, 1, "there is a user root already"),
        (("add", "robot$ci"), PASSWORD, 2, "a name that begins with robot$"),
        (("passwd", "a:b"), PASSWORD, 2, "a user name has no colon"),
        (("add", "ben"), "short", 1, "a password has at least 8 characters"),
        (("add", "ben"), "x" * 1025, 1, "a password has 1 to 1024 bytes"),
        (("passwd", "ann"), "two lines\nof text", 1, "a password has no control characters"),
        (("passwd", "root"), PASSWORD, 1, "there is no user root in the database"),
        (("disable", "ben"), "", 1, "there is no user ben in the database"),
        (("enable", "ben"), "", 1, "there is no user ben in the database"),
        (("remove", "ben"), "", 1, "there is no user ben in the database"),
    ],
)
def test_what_cannot_be_done(arguments: tuple[str, ...], given: str, code: int, said: str, stopped: Server) -> None:
    by_stdin = ("--password-stdin",) if given else ()
    assert said in drift(stopped, *arguments, *by_stdin, given=given, code=code)


@pytest.mark.parametrize(("second", "code"), [(PASSWORD, 0), ("another password", 1)])
def test_a_password_is_typed_twice_and_not_shown(second: str, code: int, tmp_path: Path) -> None:
    # A warning of the driver does not come between what `list --json` prints.
    server = Server(tmp_path, "auth.mode=basic", 'auth.basic.users=["admin:changeme"]')
    terminal, other = pty.openpty()
    command = [str(DRIFT), "user", "add", "ann", *server.arguments()]
    process = subprocess.Popen(command, cwd=ROOT, stdin=other, stdout=other, stderr=other, start_new_session=True)
    os.close(other)
    shown = _until(terminal, b"Password:")
    os.write(terminal, f"{PASSWORD}\n".encode())
    shown += _until(terminal, b"Repeat for confirmation:")
    os.write(terminal, f"{second}\n".encode())
    if code:
        shown += _until(terminal, b"do not match")
        process.terminate()
    process.wait(60)
    os.close(terminal)
    assert PASSWORD.encode() not in shown
    assert second.encode() not in shown
    assert len(json.loads(drift(server, "list", "--json"))) == (0 if code else 1)


def _until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        part = os.read(terminal, 1024)
        assert part, seen
        seen += part
    return seen


def test_a_server_that_does_not_ask_for_passwords_has_no_users(tmp_path: Path) -> None:
    said = drift(Server(tmp_path), "list", code=1)
    assert "the configuration does not choose the authn driver 'basic'" in said


def test_guesses_are_answered_429(tmp_path: Path) -> None:
    settings = ('auth.basic.users=["ann:correct horse"]', "auth.basic.failures_per_user=3")
    with Server(tmp_path, "auth.mode=basic", *settings, workers=1) as server:
        assert [ask(server, "ann", f"guess {number}") for number in range(5)] == [401] * 3 + [429] * 2
        refused = httpx.get(f"{server.url}/v2/", auth=("ann", "correct horse"))
        assert refused.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        assert 290 < int(refused.headers["retry-after"]) <= 300
        log = server.log.read_text()
    assert "logins are throttled" in log
    assert "guess" not in log


def test_the_default_of_the_original_is_refused_for_others(tmp_path: Path) -> None:
    server = Server(tmp_path, "auth.mode=basic", 'auth.basic.users=["admin:changeme"]')
    server.settings.append(f"server.bind_addr=0.0.0.0:{server.port}")
    with pytest.raises(RuntimeError, match="everybody knows the password of admin") as refused:
        server.start()
    assert "changeme" not in str(refused.value)
    assert "Traceback" not in str(refused.value)
