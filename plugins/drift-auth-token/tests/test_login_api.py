"""Logins of Bolt clients: contract 3.1 and 1.2, against a real server."""

import time
from collections.abc import Sequence

import pytest
from drift_auth_token import password

from drift_core.api import Credentials, Identity, Scope, Unauthorized
from drift_core.conformance import access_by
from tests.server import Server

from .conftest import PASSWORDS, REVOKED_SECONDS, ask, everywhere, log_in


def test_a_login_is_good_for_all_that_its_owner_may_do(server: Server) -> None:
    body = log_in(server, "writer")
    assert body["user"] == {"username": "writer", "roles": [], "scopes": ["registry:*:*"]}
    assert body["expires_in"] == 86400
    assert body["expires_at"].endswith("Z")
    token = body["token"]
    assert ask(server, "GET", "/v1/auth/whoami", token).json() == body["user"]
    assert ask(server, "POST", "/v2/team/app/blobs/uploads/", token).status_code == 202
    assert ask(server, "POST", "/v2/other/app/blobs/uploads/", token).status_code == 403
    assert ask(server, "GET", "/v2/_catalog", token).status_code == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("writer", "wrong"),
        ("nobody", "wrong"),
        ("", ""),
        ("writer", ""),
        ("reader:reader", " the password"),
        ("writer", "\ud7ff\0"),
    ],
)
def test_a_wrong_password(server: Server, username: str, password: str) -> None:
    answer = ask(server, "POST", "/v1/auth/login", json={"username": username, "password": password})
    assert answer.status_code == 401
    assert answer.json()["error"] == "AUTHENTICATION_FAILED"
    assert set(answer.json()) == {"error", "message"}


def test_what_else_a_request_shows_is_no_password(server: Server) -> None:
    badge = {"x-badge": "admin"}
    body = {"username": "admin", "password": "wrong"}
    assert ask(server, "POST", "/v1/auth/login", headers=badge, json=body).status_code == 401
    answer = ask(server, "POST", "/auth/token", headers=badge, data=body | {"grant_type": "password"})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    body = {"username": "writer", "password": PASSWORDS["writer"]}
    answer = ask(server, "POST", "/v1/auth/login", headers=badge, json=body)
    assert answer.json()["user"]["username"] == "writer"


async def test_a_certificate_is_no_password() -> None:
    class Certificates:
        async def authenticate(self, credentials: Credentials) -> Identity | None:
            return Identity("cert:ann", "certificate") if credentials.certificate is not None else None

        def challenge(self, scopes: Sequence[Scope]) -> str | None:
            del scopes
            return None

    access, shown = access_by([Certificates()], []), Credentials(None, (), "192.0.2.1", certificate="-----BEGIN")
    assert await access.identify(shown) is not None
    with pytest.raises(Unauthorized):
        await password.identify(access, shown, "ann", "wrong")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"username":"a"}', b'{"username":1,"password":"b"}', b"[" * 10_000, b"\xff"]
)
@pytest.mark.parametrize("path", ["login", "refresh"])
def test_a_body_that_does_not_fit(server: Server, path: str, body: bytes) -> None:
    answer = ask(server, "POST", f"/v1/auth/{path}", content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_REQUEST")


def test_a_body_that_is_too_large(server: Server) -> None:
    answer = ask(server, "POST", "/v1/auth/login", json={"username": "a", "password": "b" * (1 << 20)})
    assert (answer.status_code, answer.json()["error"]) == (413, "INVALID_REQUEST")


def test_the_type_of_the_body_does_not_matter(server: Server) -> None:
    content = f'{{"username": "writer", "password": "{PASSWORDS["writer"]}"}}'
    answer = ask(server, "POST", "/v1/auth/login", content=content, headers={"content-type": "text/x-unheard-of"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"


def test_a_login_is_renewed_once(server: Server) -> None:
    first = log_in(server, "writer")
    second = ask(server, "POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert second.status_code == 200
    assert second.json()["user"] == first["user"]
    assert everywhere(server, "/v2/", second.json()["token"]) == {200}
    stolen = ask(server, "POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert (stolen.status_code, stolen.json()["error"]) == (401, "AUTHENTICATION_FAILED")
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v2/", second.json()["token"]) == {401}
    renewed = ask(server, "POST", "/v1/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    assert renewed.status_code == 401


def test_a_logout_counts_on_every_worker(server: Server) -> None:
    body, other = log_in(server, "writer"), log_in(server, "writer")
    assert everywhere(server, "/v1/auth/whoami", body["token"]) == {200}
    answer = ask(server, "POST", "/v1/auth/logout", body["token"])
    assert (answer.status_code, answer.json()) == (200, {"message": "logged out"})
    time.sleep(REVOKED_SECONDS)
    assert everywhere(server, "/v1/auth/whoami", body["token"]) == {401}
    assert ask(server, "POST", "/v1/auth/refresh", json={"refresh_token": body["refresh_token"]}).status_code == 401
    assert everywhere(server, "/v1/auth/whoami", other["token"]) == {200}


def test_who_is_not_logged_in(server: Server) -> None:
    for method, path in (("GET", "whoami"), ("POST", "logout")):
        answer = ask(server, method, f"/v1/auth/{path}")
        assert (answer.status_code, answer.json()["error"]) == (401, "AUTHENTICATION_FAILED")
        assert "www-authenticate" in answer.headers
    password = ("writer", PASSWORDS["writer"])
    assert ask(server, "GET", "/v1/auth/whoami", auth=password).json()["username"] == "writer"
    assert ask(server, "POST", "/v1/auth/logout", auth=password).status_code == 400


def test_a_token_that_was_handed_out_is_no_login(server: Server) -> None:
    login = log_in(server, "writer")["token"]
    token = ask(server, "POST", "/api/tokens", login, json={"name": "laptop"}).json()["token"]
    access = ask(server, "GET", "/auth/token", login).json()["token"]
    for credentials in (token, access):
        assert ask(server, "POST", "/v1/auth/logout", credentials).status_code == 400
    time.sleep(REVOKED_SECONDS)
    for credentials in (token, access, login):
        assert everywhere(server, "/v2/", credentials) == {200}


def test_nobody_registers(server: Server) -> None:
    answer = ask(server, "POST", "/v1/auth/register", json={"username": "new", "password": "new"})
    assert (answer.status_code, answer.json()["error"]) == (501, "NOT_IMPLEMENTED")
