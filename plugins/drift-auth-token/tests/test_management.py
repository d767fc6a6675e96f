"""Personal tokens and robots over HTTP and by command: who may make which, and how soon they are gone."""

import json
import subprocess
import time
from typing import Any

import pytest

from tests.server import DRIFT, Server

from .conftest import PASSWORDS, REVOKED_SECONDS, ask, everywhere, log_in

PULL, PUSH = "repository:team/*:pull", "repository:team/*:push"


def made(server: Server, name: str = "writer", **body: Any) -> dict[str, Any]:
    answer = ask(server, "POST", "/api/tokens", log_in(server, name)["token"], json={"name": "laptop"} | body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def drift(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(DRIFT), *arguments, *server.arguments()]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_token_is_shown_once_and_listed_without_its_secret(server: Server) -> None:
    token = made(server, scopes=[PULL], expires_in_days=30)
    assert token["scopes"] == [PULL]
    assert 29.9 * 86400 < token["expires_at"] - time.time() <= 30 * 86400
    listed = ask(server, "GET", "/api/tokens", log_in(server, "writer")["token"])
    assert token["token"] not in listed.text
    (found,) = [one for one in listed.json()["tokens"] if one["id"] == token["id"]]
    assert found == {name: value for name, value in token.items() if name != "token"}


def test_a_token_is_a_password_within_its_limit(server: Server) -> None:
    token = made(server, scopes=[PULL])["token"]
    auth = ("writer", token)
    assert ask(server, "GET", "/v2/team/app/manifests/v1", auth=auth).status_code == 404
    assert ask(server, "GET", "/v2/team/app/manifests/v1", token).status_code == 404
    assert ask(server, "POST", "/v2/team/app/blobs/uploads/", auth=auth).status_code == 403
    assert ask(server, "GET", "/v2/other/app/manifests/v1", auth=auth).status_code == 403
    assert ask(server, "GET", "/v2/", auth=("reader", token)).status_code == 401
    answer = ask(server, "GET", "/auth/token?scope=repository:team/app:pull,push", auth=auth)
    assert answer.json()["scope"] == "repository:team/app:pull"


def test_a_revoked_token_is_gone_on_every_worker(server: Server) -> None:
    token, login = made(server), log_in(server, "writer")["token"]
    access = ask(server, "GET", "/auth/token?scope=repository:team/app:pull", token["token"]).json()["token"]
    for credentials in (token["token"], access):
        assert everywhere(server, "/v2/", credentials) == {200}
    assert ask(server, "DELETE", f"/api/tokens/{token['id']}", login).status_code == 204
    time.sleep(REVOKED_SECONDS)
    for credentials in (token["token"], access):
        assert everywhere(server, "/v2/", credentials) == {401}
    assert ask(server, "DELETE", f"/api/tokens/{token['id']}", login).status_code == 404


def test_a_token_outlives_the_login_by_which_it_was_made(server: Server) -> None:
    login = log_in(server, "writer")["token"]
    token = ask(server, "POST", "/api/tokens", login, json={"name": "ci"}).json()
    assert token["expires_at"] is None
    ask(server, "POST", "/v1/auth/logout", login)
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", token["token"]) == {200}


def test_only_its_owner_and_an_administrator_revoke_a_token(server: Server) -> None:
    token = made(server)
    assert ask(server, "DELETE", f"/api/tokens/{token['id']}", log_in(server, "reader")["token"]).status_code == 404
    assert everywhere(server, "/v2/", token["token"]) == {200}
    assert ask(server, "DELETE", f"/api/tokens/{token['id']}", log_in(server, "admin")["token"]).status_code == 204


def test_a_token_makes_no_token(server: Server) -> None:
    token = made(server, "admin")["token"]
    access = ask(server, "GET", "/auth/token", token).json()["token"]
    login = ask(server, "POST", "/v1/auth/login", json={"username": "admin", "password": token})
    assert login.status_code == 200
    for credentials in (token, access, login.json()["token"]):
        for method, path in (("POST", "/api/tokens"), ("GET", "/api/tokens"), ("DELETE", "/api/tokens/0")):
            answer = ask(server, method, path, credentials, json={"name": "more"})
            assert answer.status_code == 403, (method, answer.text)
    assert ask(server, "POST", "/api/tokens", json={"name": "more"}).status_code == 401


def test_a_credential_of_another_that_ends_makes_nothing_that_lasts(server: Server) -> None:
    badge = {"x-badge": "admin"}
    assert ask(server, "GET", "/api/robots", headers=badge).status_code == 200
    robot = {"name": "lasting", "scopes": [PULL]}
    access = ask(server, "GET", "/auth/token?scope=registry:robots:*&offline_token=true", headers=badge)
    assert access.json()["scope"] == "registry:robots:*"
    assert "refresh_token" not in access.json()
    for path, body in (("/api/tokens", {"name": "lasting"}), ("/api/robots", robot)):
        assert ask(server, "POST", path, headers=badge, json=body).status_code == 403
        assert ask(server, "POST", path, access.json()["token"], json=body).status_code == 403
    assert ask(server, "DELETE", "/api/robots/lasting", headers=badge).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a" * 256},
        {"name": "a\nb"},
        {"name": "a", "scopes": ["everything"]},
        {"name": "a", "scopes": ["a:b"]},
        {"name": "a", "scopes": [f"repository:{number}:pull" for number in range(201)]},
        {"name": "a", "expires_in_days": 0},
        {"name": "a", "expires_in_days": -1},
        {"name": "a", "expires_in_days": 1e300},
        {"name": "a", "expires_in_days": "1"},
    ],
)
def test_a_token_that_cannot_be_made(server: Server, body: dict[str, Any]) -> None:
    answer = ask(server, "POST", "/api/tokens", log_in(server, "writer")["token"], json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


def test_robots_are_made_and_removed_by_who_may(server: Server) -> None:
    admin, body = log_in(server, "admin")["token"], {"name": "ci", "scopes": [PULL, PUSH], "description": "builds"}
    for method, path in (("POST", "/api/robots"), ("GET", "/api/robots"), ("DELETE", "/api/robots/ci")):
        assert ask(server, method, path, log_in(server, "writer")["token"], json=body).status_code == 403
        assert ask(server, method, path, json=body).status_code == 401
    robot = ask(server, "POST", "/api/robots", admin, json=body)
    assert robot.status_code == 201, robot.text
    assert ask(server, "POST", "/api/robots", admin, json=body).status_code == 409
    auth = ("robot$ci", robot.json()["token"])
    assert ask(server, "POST", "/v2/team/app/blobs/uploads/", auth=auth).status_code == 202
    # The policy would let it, its limit does not.
    assert ask(server, "DELETE", "/v2/team/app/manifests/v1", auth=auth).status_code == 403
    (listed,) = ask(server, "GET", "/api/robots", admin).json()["robots"]
    assert (listed["username"], listed["description"], listed["created_by"]) == ("robot$ci", "builds", "admin")
    assert ask(server, "DELETE", "/api/robots/ci", admin).status_code == 204
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", robot.json()["token"]) == {401}
    assert ask(server, "DELETE", "/api/robots/ci", admin).status_code == 404


def test_robots_are_listed_page_by_page(server: Server) -> None:
    admin, names = log_in(server, "admin")["token"], [f"page-{number}" for number in range(5)]
    for name in reversed(names):
        ask(server, "POST", "/api/robots", admin, json={"name": name, "scopes": [PULL]})
    found: list[str] = []
    last: str | None = "page-"
    while last is not None:
        page = ask(server, "GET", f"/api/robots?n=2&last={last}", admin).json()
        assert len(page["robots"]) <= 2
        found += [robot["name"] for robot in page["robots"]]
        last = page["last"]
    assert found == names
    for count in ("0", "-1", "1000", "many"):
        assert ask(server, "GET", f"/api/robots?n={count}", admin).status_code == 400
    for name in names:
        ask(server, "DELETE", f"/api/robots/{name}", admin)


def test_a_limited_token_makes_no_wider_robot(server: Server) -> None:
    limited = made(server, "admin", scopes=["registry:robots:*", PULL])["token"]
    for scopes in ([PUSH], ["repository:*:pull"], ["registry:*:*"], [PULL, PUSH]):
        answer = ask(server, "POST", "/api/robots", limited, json={"name": "wide", "scopes": scopes})
        assert answer.status_code == 403, scopes
    body = {"name": "roles", "scopes": [PULL], "roles": ["admin"]}
    assert ask(server, "POST", "/api/robots", limited, json=body).status_code == 403
    answer = ask(server, "POST", "/api/robots", limited, json={"name": "narrow", "scopes": ["repository:team/a:pull"]})
    assert answer.status_code == 201, answer.text


def test_a_robot_ends_with_the_token_that_made_it(server: Server) -> None:
    maker = made(server, "admin", scopes=["registry:*:*"], expires_in_days=1)
    robot = ask(server, "POST", "/api/robots", maker["token"], json={"name": "child", "scopes": [PULL]}).json()
    assert robot["expires_at"] == maker["expires_at"]
    ask(server, "DELETE", f"/api/tokens/{maker['id']}", log_in(server, "admin")["token"])
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", robot["token"]) == {401}


@pytest.mark.parametrize("body", [{"name": "A", "scopes": [PULL]}, {"name": "a", "scopes": []}, {"name": "a"}])
def test_a_robot_that_cannot_be_made(server: Server, body: dict[str, Any]) -> None:
    answer = ask(server, "POST", "/api/robots", log_in(server, "admin")["token"], json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


def test_commands_work_beside_the_server(server: Server) -> None:
    done = drift(server, "token", "create", "writer", "--name", "cli", "--scope", PULL, "--days", "2", "--json")
    assert done.returncode == 0, done.stderr
    token = json.loads(done.stdout)
    assert everywhere(server, "/v2/team/a/manifests/v1", token["token"]) == {404}
    listed = json.loads(drift(server, "token", "list", "--owner", "writer", "--json").stdout)
    assert token["id"] in [one["id"] for one in listed]
    assert "cli" in drift(server, "token", "list").stdout
    assert drift(server, "token", "revoke", token["id"]).returncode == 0
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", token["token"]) == {401}
    again = drift(server, "token", "revoke", token["id"])
    assert (again.returncode, again.stderr) == (1, f"Error: there is no token {token['id']}\n")


def test_commands_for_robots(server: Server) -> None:
    done = drift(server, "robot", "create", "nightly", "--scope", PULL, "--role", "reader")
    assert done.returncode == 0, done.stderr
    assert everywhere(server, "/v2/", done.stdout.strip()) == {200}
    assert drift(server, "robot", "create", "nightly", "--scope", PULL).returncode == 1
    assert drift(server, "robot", "create", "idle").returncode == 1
    assert "robot$nightly" in drift(server, "robot", "list").stdout
    assert drift(server, "robot", "revoke", "nightly").returncode == 0
    assert drift(server, "robot", "revoke", "nightly").returncode == 1
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", done.stdout.strip()) == {401}


def test_everything_of_a_user_is_revoked_by_command(server: Server) -> None:
    token, login = made(server, "reader")["token"], log_in(server, "reader")["token"]
    done = drift(server, "token", "revoke", "--owner", "reader")
    assert done.returncode == 0, done.stderr
    time.sleep(REVOKED_SECONDS)
    for credentials in (token, login):
        assert everywhere(server, "/v2/", credentials) == {401}
    assert ask(server, "GET", "/v2/", auth=("reader", PASSWORDS["reader"])).status_code == 200


def test_keys_are_rotated_by_command(server: Server) -> None:
    login = log_in(server, "writer")["token"]
    (old,) = ask(server, "GET", "/auth/keys").json()["keys"]
    assert drift(server, "token", "rotate-keys").returncode == 0
    time.sleep(REVOKED_SECONDS)
    keys = ask(server, "GET", "/auth/keys").json()["keys"]
    assert [key["kid"] for key in keys][1:] == [old["kid"]]
    assert everywhere(server, "/v2/", login) == {200}
    assert drift(server, "token", "rotate-keys", "--forget").returncode == 0
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", login) == {401}
    assert everywhere(server, "/v2/", log_in(server, "writer")["token"]) == {200}
