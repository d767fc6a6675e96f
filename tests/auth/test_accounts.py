"""Tokens last no longer than the account for which they were given out, whichever way they were got."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from tests.server import DRIFT, Server

KNOWN_SECONDS = 1.0
"""How soon what a command has changed has to be obeyed by every worker."""

PATIENCE = 30.0

HTTP = httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0))
"""Makes a connection for each request, so that some reach every worker."""

PASSWORD = "correct-horse-battery"
ROOT = ("root", PASSWORD)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry of two workers, whose users are in the database, in a file and in the configuration."""
    folder = tmp_path_factory.mktemp("accounts")
    write_htpasswd(folder, "fay", "gus")
    settings = (
        'auth.chain=["token", "basic"]',
        f'auth.basic.users=["root:{PASSWORD}"]',
        f'auth.basic.htpasswd_files=["{folder / "htpasswd"}"]',
        "audit.enabled=true",
        f"audit.key_file={folder / 'audit.key'}",
    )
    with Server(folder, *settings) as server:
        yield server
    HTTP.close()


def write_htpasswd(folder: Path, *names: str) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text("".join(f"{name}:{hashed}\n" for name in names))


def drift(server: Server, *words: str, typed: str = "") -> str:
    command = [str(DRIFT), *words, *server.arguments()]
    ended = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def ask(server: Server, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return HTTP.request(method, f"{server.url}{path}", headers=headers, **options)


def done(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def statuses(server: Server, tokens: Mapping[str, str], path: str = "/v2/") -> dict[str, set[int]]:
    """Returns what many connections, and so all workers, answer to each token."""
    return {kind: {ask(server, "GET", path, token).status_code for _ in range(6)} for kind, token in tokens.items()}


def each(tokens: Mapping[str, str], status: int) -> dict[str, set[int]]:
    """Returns what `statuses` does where all get this answer from every worker."""
    return {kind: {status} for kind in tokens}


def command_token(server: Server, name: str) -> str:
    made: str = json.loads(drift(server, "token", "create", name, "--json"))["token"]
    return made


def given(server: Server, name: str) -> tuple[dict[str, str], str, str]:
    """Returns every kind of token that somebody gets, and the refresh tokens of Docker and of a login."""
    auth, wanted = (name, PASSWORD), "/auth/token?scope=repository:team/app:pull,push"
    login = done(ask(server, "POST", "/v1/auth/login", json={"username": name, "password": PASSWORD}))
    docker = done(ask(server, "GET", f"{wanted}&offline_token=true&client_id=docker", auth=auth))
    personal = done(ask(server, "POST", "/api/tokens", auth=auth, json={"name": "laptop"}))["token"]
    nested = done(ask(server, "POST", "/v1/auth/login", json={"username": name, "password": personal}))
    tokens = {
        "login": login["token"],
        "docker": docker["token"],
        "personal": personal,
        "made by a login": done(ask(server, "POST", "/api/tokens", login["token"], json={"name": "ci"}))["token"],
        "docker, by a personal one": done(ask(server, "GET", wanted, auth=(name, personal)))["token"],
        "docker, by a refresh token": done(redeem(server, docker["refresh_token"]))["token"],
        "a login by a personal one": nested["token"],
    }
    return tokens, docker["refresh_token"], login["refresh_token"]


def redeem(server: Server, refresh: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": refresh, "service": "drift", "client_id": "docker"}
    return ask(server, "POST", "/auth/token", data=form)


def renew(server: Server, refresh: str) -> httpx.Response:
    return ask(server, "POST", "/v1/auth/refresh", json={"refresh_token": refresh})


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it stays as it was"
        time.sleep(0.1)


def test_what_somebody_has_ends_while_the_account_is_disabled(server: Server) -> None:
    drift(server, "user", "add", "ann", "--password-stdin", typed=PASSWORD)
    time.sleep(KNOWN_SECONDS)
    robot = {"name": "ci", "scopes": ["repository:*:pull"]}
    made_by_ann = done(ask(server, "POST", "/api/robots", auth=("ann", PASSWORD), json=robot))["token"]
    others = {
        "a robot": made_by_ann,
        "docker, by a robot": done(ask(server, "GET", "/auth/token", auth=("robot$ci", made_by_ann)))["token"],
        "of no user": command_token(server, "nobody"),
        "of another": done(ask(server, "POST", "/api/tokens", auth=ROOT, json={"name": "laptop"}))["token"],
    }
    tokens, docker, login = given(server, "ann")
    tokens["made by a command"] = command_token(server, "ann")
    # As every token that a token makes, a robot ends with its maker, however far that is.
    for name, maker in (("child", tokens["personal"]), ("grandchild", "child")):
        robot = {"name": name, "scopes": ["registry:*:*"]}
        tokens[name] = done(ask(server, "POST", "/api/robots", tokens.get(maker, maker), json=robot))["token"]
    # Every worker has seen them now: what follows is what they remember.
    assert statuses(server, tokens) == each(tokens, 200)
    drift(server, "user", "disable", "ann")
    time.sleep(KNOWN_SECONDS)
    assert statuses(server, tokens) == each(tokens, 401)
    assert statuses(server, others) == each(others, 200)
    refused = redeem(server, docker)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert renew(server, login).status_code == 401
    drift(server, "user", "enable", "ann")
    time.sleep(KNOWN_SECONDS)
    assert statuses(server, tokens) == each(tokens, 200)
    assert redeem(server, docker).status_code == 200
    assert renew(server, login).status_code == 200, "nothing was spent by who was refused"
    export = ask(server, "GET", "/api/audit/export?event_types=AuthenticationFailed", auth=ROOT)
    recorded = [line for line in export.text.splitlines() if "was disabled or removed" in line]
    assert any('"ann"' in line for line in recorded)


def test_what_somebody_had_is_not_for_who_has_the_name_next(server: Server) -> None:
    drift(server, "user", "add", "ben", "--password-stdin", typed=PASSWORD)
    time.sleep(KNOWN_SECONDS)
    tokens, docker, login = given(server, "ben")
    tokens["made by a command"] = command_token(server, "ben")
    assert statuses(server, tokens) == each(tokens, 200)
    drift(server, "user", "remove", "ben")
    time.sleep(KNOWN_SECONDS)
    assert statuses(server, tokens) == each(tokens, 401)
    drift(server, "user", "add", "ben", "--password-stdin", typed=PASSWORD)
    time.sleep(KNOWN_SECONDS)
    assert statuses(server, tokens) == each(tokens, 401)
    assert redeem(server, docker).status_code == 400
    assert renew(server, login).status_code == 401
    fresh, _, _ = given(server, "ben")
    assert statuses(server, fresh) == each(fresh, 200)


def test_who_leaves_a_file_leaves_what_they_were_given(server: Server) -> None:
    tokens, _, _ = given(server, "fay")
    # Whose it is that a command gave to a name, nobody knows where the name is in no database.
    unclaimed = {"made by a command": command_token(server, "fay")}
    write_htpasswd(server.folder, "gus")
    until(lambda: statuses(server, tokens) == each(tokens, 401))
    assert statuses(server, unclaimed) == each(unclaimed, 200)
    write_htpasswd(server.folder, "fay", "gus")
    until(lambda: statuses(server, tokens) == each(tokens, 200))
