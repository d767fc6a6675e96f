"""Logins by a local server that speaks GitHub's documented API."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import Server

OpenServer = Callable[..., Server]


@pytest.fixture
def serve(github: Any, lab: Any, tmp_path: Path) -> Iterator[OpenServer]:
    """Starts a Drift that lets people log in by this GitHub, with more keys of its table."""
    servers: list[Server] = []

    def start(**more: str) -> Server:
        keys = {
            "client_id": f'"{lab.CLIENT_ID}"',
            "client_secret": f'"{lab.CLIENT_SECRET}"',
            "enterprise_url": f'"{github.url}"',
            **more,
        }
        table = ", ".join(f"{name} = {value}" for name, value in keys.items())
        settings = ("auth.mode=oidc", "auth.oauth.enabled=true", f"auth.oauth.github={{{table}}}")
        server = Server(tmp_path / "drift", *settings, workers=2)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def log_in(lab: Any) -> Iterator[Callable[[Server], tuple[int, Any]]]:
    """Logs somebody in, and returns the status and the browser."""
    wanderers: list[Any] = []

    def log_in(server: Server) -> tuple[int, Any]:
        wanderer = lab.wanderer(server.url)
        wanderers.append(wanderer)
        return wanderer.log_in("any", "/auth/github").status_code, wanderer

    yield log_in
    for wanderer in wanderers:
        wanderer.client.close()


def test_teams_become_groups_and_roles(serve: OpenServer, log_in: Any) -> None:
    mappings = '[{team = "Acme/Ops", role = "admin"}, {team = "acme/none", role = "read-only"}]'
    server = serve(allowed_organizations='["ACME"]', team_mappings=mappings)
    status, person = log_in(server)
    assert status == 303
    user = person.ask("GET", "/auth/user").json()
    user.pop("csrf_token")
    assert user == {
        "id": "583231",
        "email": "mona@example.org",
        "name": "github:octocat",
        "full_name": "Mona",
        "avatar_url": "https://a.example/1",
        "provider": "github",
        "groups": ["acme", "acme/backend", "acme/ops"],
        "roles": ["admin"],
    }
    assert person.ask("GET", "/auth/user/organizations").json() == [{"name": "acme"}]
    assert person.ask("GET", "/auth/user/teams").json() == [{"name": "acme/backend"}, {"name": "acme/ops"}]


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"allowed_organizations": '["other"]'}, 403),
        ({"allowed_teams": '["acme/backend"]'}, 303),
        ({"allowed_teams": '["acme/security"]'}, 403),
        ({"allowed_teams": '["other/backend"]'}, 403),
        ({"allowed_users": '["octocat"]'}, 303),
        ({"allowed_users": '["other"]'}, 403),
        ({"allowed_users": '["octocat"]', "allowed_organizations": '["other"]'}, 303),
        ({"allowed_users": '["octocat"]', "allowed_organizations": '["other"]', "require_org_membership": "true"}, 403),
        ({"allowed_users": '["octocat"]', "allowed_teams": '["acme/x"]', "require_team_membership": "true"}, 403),
        ({"allowed_users": '["octocat"]', "allowed_teams": '["acme/ops"]', "require_team_membership": "true"}, 303),
    ],
)
def test_who_may_log_in(serve: OpenServer, log_in: Any, keys: dict[str, str], status: int) -> None:
    assert log_in(serve(**keys))[0] == status


def test_an_email_that_is_not_verified_is_nobodys(github: Any, serve: OpenServer, log_in: Any) -> None:
    github.emails = [{"email": "mona@example.org", "primary": True, "verified": False, "visibility": None}]
    _, person = log_in(serve(allowed_users='["octocat"]'))
    assert person.ask("GET", "/auth/user").json()["email"] is None


def test_the_user_admin_of_github_is_not_the_local_one(github: Any, serve: OpenServer, log_in: Any) -> None:
    github.user["login"] = "admin"
    _, person = log_in(serve(allowed_organizations='["acme"]'))
    assert person.ask("GET", "/auth/user").json()["name"] == "github:admin"


def test_who_leaves_the_organization_is_out(github: Any, serve: OpenServer, log_in: Any) -> None:
    server = serve(allowed_organizations='["acme"]', cache_duration_minutes="0.01")
    _, person = log_in(server)
    secret = person.session()
    github.organizations, github.teams = [], []
    assert person.ask("GET", "/v2/").status_code in (200, 401)
    time.sleep(1.2)
    assert person.ask("GET", "/v2/").status_code == 401
    time.sleep(0.5)
    for _ in range(10):
        assert httpx.get(f"{server.url}/v2/", cookies={"drift-session": secret}).status_code == 401


def test_who_changes_the_team_changes_the_role(github: Any, serve: OpenServer, log_in: Any) -> None:
    mappings = '[{team = "acme/ops", role = "admin"}]'
    server = serve(allowed_organizations='["acme"]', team_mappings=mappings, cache_duration_minutes="0.01")
    _, person = log_in(server)
    assert person.ask("GET", "/auth/user").json()["roles"] == ["admin"]
    github.teams = [("acme", "backend")]
    time.sleep(1.2)
    assert person.ask("GET", "/auth/user").json()["roles"] == []


def test_membership_is_not_asked_for_with_each_request(github: Any, serve: OpenServer, log_in: Any) -> None:
    _, person = log_in(serve(allowed_organizations='["acme"]'))
    asked = github.asked
    for _ in range(20):
        assert person.ask("GET", "/v2/").status_code == 200
    assert github.asked == asked


def test_while_github_does_not_answer_sessions_work(github: Any, serve: OpenServer, log_in: Any) -> None:
    server = serve(allowed_organizations='["acme"]', cache_duration_minutes="0.01")
    _, person = log_in(server)
    github.status = 503
    time.sleep(1)
    assert person.ask("GET", "/v2/").status_code == 200
    assert log_in(server)[0] == 503


def test_who_was_not_confirmed_for_days_waits_for_github(github: Any, serve: OpenServer, log_in: Any) -> None:
    server = serve(allowed_organizations='["acme"]')
    _, person = log_in(server)
    with closing(sqlite3.connect(server.folder / "data" / "drift.db", timeout=30, isolation_level=None)) as db:
        db.execute("UPDATE auth_oidc__grants SET checked = 0")
        db.execute("UPDATE auth_oidc__revision SET counter = counter + 1")
    time.sleep(0.5)
    github.status = 403
    assert person.ask("GET", "/v2/").status_code == 503
    assert "login-github" in person.ask("GET", "/auth/login").text


def test_a_token_that_github_takes_no_more_ends_the_session(github: Any, serve: OpenServer, log_in: Any) -> None:
    server = serve(allowed_organizations='["acme"]', cache_duration_minutes="0.01")
    _, person = log_in(server)
    github.tokens.clear()
    time.sleep(1)
    assert person.ask("GET", "/v2/").status_code == 401


def test_a_code_that_github_refuses_is_none(github: Any, serve: OpenServer, lab: Any) -> None:
    server = serve(allowed_organizations='["acme"]')
    person = lab.wanderer(server.url)
    back = person.to_callback("/auth/github", "any")
    github.codes.clear()
    answer = person.client.get(back)
    person.client.close()
    assert (answer.status_code, person.session()) == (401, None)
