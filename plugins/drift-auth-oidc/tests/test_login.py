"""Logins in a browser at a real OpenID provider, and how they are attacked."""

import time
from typing import Any

import httpx
import pytest

from tests.server import Server

CALLBACK = "/auth/oidc/callback"


@pytest.mark.parametrize("path", ["/auth/oidc", "/auth/login/oidc"])
def test_a_person_logs_in(person: Any, path: str) -> None:
    answer = person.log_in("ann", path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/auth/login")
    user = person.ask("GET", "/auth/user").json()
    assert len(user.pop("csrf_token")) == 64
    assert user == {
        "id": "ann",
        "email": "ann@example.org",
        "name": "oidc:ann",
        "full_name": "Ann Example",
        "avatar_url": None,
        "provider": "oidc",
        "groups": ["acme/backend", "developers"],
        "roles": ["read-write"],
    }
    assert person.ask("GET", "/auth/user/organizations").json() == [{"name": "developers"}]
    assert person.ask("GET", "/auth/user/teams").json() == [{"name": "acme/backend"}]
    assert person.ask("GET", "/auth/user/repositories").json() == []
    assert person.ask("GET", "/v2/").status_code == 200


def test_the_other_callback_is_the_same(person: Any) -> None:
    back = person.to_callback("/auth/oidc", "ann")
    assert person.client.get(back.replace(CALLBACK, "/auth/callback/oidc")).status_code == 303


def test_a_group_without_a_role_gets_none(person: Any) -> None:
    person.log_in("bob")
    assert person.ask("GET", "/auth/user").json()["roles"] == []


def test_who_is_in_no_allowed_group_is_refused(person: Any) -> None:
    answer = person.log_in("carl")
    assert answer.status_code == 403
    assert person.session() is None


def test_a_user_of_the_provider_is_not_the_local_one(person: Any) -> None:
    person.log_in("admin")
    assert person.ask("GET", "/auth/user").json()["name"] == "oidc:admin"


def test_nobody_is_logged_in_without_a_login(person: Any) -> None:
    for path in ("/auth/user", "/auth/user/teams", "/auth/tokens", "/v2/"):
        assert person.ask("GET", path).status_code == 401


@pytest.mark.parametrize(
    "fault", ["nonce", "no nonce", "audience", "party", "issuer", "expired", "unsigned", "foreign"]
)
def test_an_id_token_that_is_wrong_is_refused(provider: Any, person: Any, fault: str) -> None:
    back = person.to_callback("/auth/oidc", "ann")
    with provider.broken(fault):
        answer = person.client.get(back)
    assert answer.status_code == 401
    assert "You are not logged in" in answer.text
    assert person.session() is None


def test_a_login_comes_back_once(person: Any) -> None:
    back = person.to_callback("/auth/oidc", "ann")
    kept = person.client.cookies["drift-login"]
    assert person.client.get(back).status_code == 303
    person.client.cookies.clear()
    person.client.cookies.set("drift-login", kept)
    answer = person.client.get(back)
    assert (answer.status_code, person.session()) == (401, None)
    assert "used already" in answer.text


def test_a_login_comes_back_to_the_browser_that_began_it(drift: Server, person: Any, lab: Any) -> None:
    """Else an attacker could log a victim in as the attacker."""
    back = person.to_callback("/auth/oidc", "ann")
    victim = lab.wanderer(drift.url)
    victim.ask("GET", "/auth/oidc")
    stranger = lab.wanderer(drift.url)
    for wanderer in (victim, stranger):
        answer = wanderer.client.get(back)
        assert (answer.status_code, wanderer.session()) == (401, None)
        assert "this browser has not begun" in answer.text
        wanderer.client.close()


@pytest.mark.parametrize(
    "query", ["", "?code=x", "?state=x&code=x", "?state=%F0%9F&code=x", "?state=&code=", "?error=access_denied"]
)
def test_a_callback_without_its_state_is_refused(person: Any, query: str) -> None:
    person.ask("GET", "/auth/oidc")
    answer = person.ask("GET", f"{CALLBACK}{query}")
    assert answer.status_code == 401
    assert "this browser has not begun this login" in answer.text


def test_an_answer_of_another_provider_is_refused(person: Any) -> None:
    """RFC 9207: a code of one provider is not sent to another."""
    back = person.to_callback("/auth/oidc", "ann")
    assert "&iss=http" in back
    answer = person.client.get(f"{back.partition('&iss=')[0]}&iss=https://evil.example")
    assert answer.status_code == 401


def test_a_session_is_not_fixed_beforehand(drift: Server, person: Any) -> None:
    person.client.cookies.set("drift-session", "chosen-by-an-attacker", domain="127.0.0.1", path="/")
    assert person.log_in().status_code == 303
    values = {cookie.value for cookie in person.client.cookies.jar if cookie.name == "drift-session"}
    assert "chosen-by-an-attacker" not in values
    answer = httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": "chosen-by-an-attacker"})
    assert answer.status_code == 401


def test_a_new_login_ends_the_session_before(drift: Server, person: Any) -> None:
    person.log_in()
    before = person.session()
    person.log_in()
    assert person.session() != before
    time.sleep(1)
    assert httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": before}).status_code == 401


@pytest.mark.parametrize(
    ("following", "location"),
    [
        ("/auth/device?user_code=BCDF-GHJK", "/auth/device?user_code=BCDF-GHJK"),
        ("//evil.example", "/auth/login"),
        ("/\\evil.example", "/auth/login"),
        ("\\\\evil.example", "/auth/login"),
        ("https://evil.example", "/auth/login"),
        ("https:evil.example", "/auth/login"),
        ("javascript:alert(1)", "/auth/login"),
        ("/\t/evil.example", "/auth/login"),
        ("/\n/evil.example", "/auth/login"),
        ("\t//evil.example", "/auth/login"),
        (" //evil.example", "/auth/login"),
        ("evil.example", "/auth/login"),
        ("/\N{FULLWIDTH SOLIDUS}evil.example", "/auth/login"),
    ],
)
def test_a_login_leads_nowhere_else(person: Any, following: str, location: str) -> None:
    path = str(httpx.URL("/auth/oidc", params={"next": following}))
    assert person.log_in("ann", path).headers["location"] == location


def test_a_page_of_another_site_changes_nothing(drift: Server, person: Any) -> None:
    person.log_in()
    token = person.csrf()
    uploads = "/v2/acme/app/blobs/uploads/"
    evil = {"origin": "https://evil.example"}
    for headers in (
        {},
        {"x-csrf-token": "0" * 64},
        {"x-csrf-token": token, **evil},
        {"x-csrf-token": token, "origin": "null"},
        {"x-csrf-token": token, "sec-fetch-site": "cross-site"},
        {"x-csrf-token": token, "sec-fetch-site": "same-site"},
    ):
        for path in (uploads, "/auth/logout", "/auth/logout-everywhere", "/auth/device"):
            assert person.ask("POST", path, headers=headers).status_code == 403, (headers, path)
    assert person.ask("POST", "/auth/logout", data={"csrf_token": token}, headers=evil).status_code == 403
    good = {"x-csrf-token": token, "origin": drift.url, "sec-fetch-site": "same-origin"}
    assert person.ask("POST", uploads, headers=good).status_code == 202


def test_the_csrf_token_of_another_session_is_none(drift: Server, person: Any, lab: Any) -> None:
    person.log_in()
    attacker = lab.wanderer(drift.url)
    attacker.log_in("bob")
    answer = person.ask("POST", "/auth/logout", headers={"x-csrf-token": attacker.csrf()})
    attacker.client.close()
    assert answer.status_code == 403


def revoked_everywhere(drift: Server, secret: str) -> None:
    """Asks over many connections, so that every worker answers."""
    time.sleep(1)
    for _ in range(20):
        assert httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": secret}).status_code == 401


def test_logout_ends_one_session(drift: Server, person: Any, lab: Any) -> None:
    person.log_in()
    other = lab.wanderer(drift.url)
    other.log_in()
    secret = person.session()
    for _ in range(20):
        assert httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": secret}).status_code == 200
    answer = person.ask("POST", "/auth/logout", headers={"x-csrf-token": person.csrf()})
    assert (answer.status_code, person.session()) == (200, None)
    revoked_everywhere(drift, secret)
    assert other.ask("GET", "/auth/user").status_code == 200
    other.client.close()


def test_logout_everywhere_ends_all_of_a_person(drift: Server, person: Any, lab: Any) -> None:
    person.log_in()
    other, bob = lab.wanderer(drift.url), lab.wanderer(drift.url)
    other.log_in()
    bob.log_in("bob")
    secret = other.session()
    for _ in range(20):
        assert httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": secret}).status_code == 200
    token = person.csrf()
    assert person.ask("POST", "/auth/logout-everywhere", data={"csrf_token": token}).status_code == 303
    revoked_everywhere(drift, secret)
    assert bob.ask("GET", "/auth/user").status_code == 200
    for wanderer in (other, bob):
        wanderer.client.close()


def test_somebody_ends_their_own_sessions_and_no_others(drift: Server, person: Any, lab: Any) -> None:
    person.log_in()
    bob = lab.wanderer(drift.url)
    bob.log_in("bob")
    (of_bob,) = [one["id"] for one in bob.ask("GET", "/auth/tokens").json() if one["current"]]
    own = person.ask("GET", "/auth/tokens").json()
    assert of_bob not in {one["id"] for one in own}
    token = {"x-csrf-token": person.csrf()}
    assert person.ask("DELETE", f"/auth/tokens/{of_bob}", headers=token).status_code == 404
    (current,) = [one["id"] for one in own if one["current"]]
    assert person.ask("DELETE", f"/auth/tokens/{current}", headers=token).status_code == 200
    time.sleep(1)
    assert person.ask("GET", "/auth/user").status_code == 401
    assert bob.ask("GET", "/auth/user").status_code == 200
    bob.client.close()


def test_without_the_provider_sessions_work_and_logins_do_not(provider: Any, drift: Server, person: Any) -> None:
    person.log_in()
    began = person.to_callback("/auth/oidc", "ann")
    with provider.unreachable():
        assert person.ask("GET", "/auth/user").status_code == 200
        assert httpx.get(f"{drift.url}/v2/", headers={"authorization": "Bearer x"}).status_code == 401
        answer = person.client.get(began)
        assert answer.status_code == 503
        assert "cannot be reached" in answer.text
    assert person.ask("GET", "/auth/user").status_code == 200


def test_a_server_that_begins_without_the_provider_says_so(provider: Any, lab: Any, tmp_path: Any) -> None:
    with provider.unreachable(), Server(tmp_path, *lab.settings(provider), workers=1) as server:
        answer = httpx.get(f"{server.url}/auth/oidc")
        assert answer.status_code == 503
        assert "cannot be reached" in answer.text
        provider.control("up")
        time.sleep(2.1)
        assert httpx.get(f"{server.url}/auth/oidc").status_code == 303


def test_pages_cannot_be_framed_or_kept(drift: Server) -> None:
    answer = httpx.get(f"{drift.url}/auth/login")
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"


def test_no_secret_is_in_the_log(drift: Server, person: Any, lab: Any) -> None:
    back = person.to_callback("/auth/oidc", "ann")
    person.client.get(back)
    person.client.get(back)
    log = drift.log.read_text()
    code = back.partition("code=")[2].partition("&")[0]
    for secret in (person.session(), code, lab.CLIENT_SECRET, person.csrf()):
        assert secret
        assert secret not in log
