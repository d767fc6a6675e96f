"""The Docker token protocol, by the messages that its specification shows, against a real server."""

import time
from typing import Any

import httpx
import jwt
import pytest

from tests.server import Server

from .conftest import PASSWORDS, ask, log_in


def token_for(server: Server, *scopes: str, name: str | None = None, **others: str) -> httpx.Response:
    parameters: list[tuple[str, str]] = [("service", "drift"), *(("scope", scope) for scope in scopes), *others.items()]
    auth = None if name is None else (name, PASSWORDS[name])
    return httpx.get(f"{server.url}/auth/token", params=parameters, auth=auth)


def access(server: Server, answer: httpx.Response) -> dict[str, list[str]]:
    """What a token is for, after its signature was checked by the published keys."""
    assert answer.status_code == 200, answer.text
    keys = ask(server, "GET", "/auth/keys").json()["keys"]
    kid = jwt.get_unverified_header(answer.json()["token"])["kid"]
    (key,) = [key for key in keys if key["kid"] == kid]
    claims: dict[str, Any] = jwt.decode(answer.json()["token"], jwt.PyJWK(key), audience="drift", issuer="drift")
    return {f"{one['type']}:{one['name']}": one["actions"] for one in claims["access"]}


def form(server: Server, **fields: str) -> httpx.Response:
    return httpx.post(f"{server.url}/auth/token", data={"service": "drift", "client_id": "docker"} | fields)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2/", None),
        ("GET", "/v2/team/app/manifests/v1", "repository:team/app:pull"),
        ("POST", "/v2/team/app/blobs/uploads/", "repository:team/app:pull,push"),
        ("DELETE", "/v2/team/app/manifests/v1", "repository:team/app:delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ],
)
def test_a_challenge_says_where_and_for_what(server: Server, method: str, path: str, scope: str | None) -> None:
    answer = ask(server, method, path)
    expected = f'Bearer realm="{server.url}/auth/token",service="drift"' + (f',scope="{scope}"' if scope else "")
    assert (answer.status_code, answer.headers.get_list("www-authenticate")[0]) == (401, expected)


@pytest.mark.parametrize("host", ['evil"', "a b", "a,b", ""])
def test_a_host_that_is_none_is_not_repeated(server: Server, host: str) -> None:
    answer = ask(server, "GET", "/v2/", headers={"host": host})
    if answer.status_code != 400:
        assert f'realm="{server.url}/auth/token"' in answer.headers["www-authenticate"]


def test_a_token_has_the_form_of_the_specification(server: Server) -> None:
    answer = token_for(server, "repository:team/app:pull", name="reader")
    body = answer.json()
    assert body["token"] == body["access_token"]
    assert (body["expires_in"], body["token_type"]) == (300, "Bearer")
    assert body["issued_at"].endswith("Z")
    assert "refresh_token" not in body
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "scopes", "expected"),
    [
        ("writer", ["repository:team/app:pull,push"], {"repository:team/app": ["pull", "push"]}),
        ("reader", ["repository:team/app:pull,push"], {"repository:team/app": ["pull"]}),
        ("reader", ["repository:other/app:pull,push"], {}),
        ("reader", [], {}),
        ("writer", ["repository:team/a:pull repository:team/b:push"],
         {"repository:team/a": ["pull"], "repository:team/b": ["push"]}),
        ("writer", ["repository:team/a:pull", "repository:other/b:pull"], {"repository:team/a": ["pull"]}),
        ("writer", ["repository:team/a:pull", "repository:team/a:push"], {"repository:team/a": ["pull", "push"]}),
        ("writer", ["repository:team/a:pull", "repository:team/b:pull repository:team/c:pull"],
         {f"repository:team/{name}": ["pull"] for name in "abc"}),
        ("writer", ["repository:team/a:*"], {"repository:team/a": ["pull", "push"]}),
        ("admin", ["repository:team/a:*"], {"repository:team/a": ["*"]}),
        ("admin", ["repository:team/a:delete,pull,push"], {"repository:team/a": ["delete", "pull", "push"]}),
        ("writer", ["registry:catalog:*"], {"registry:catalog": ["*"]}),
        ("reader", ["registry:catalog:*"], {}),
        ("admin", ["plugin:team/a:pull", "organization:acme:admin", "nonsense", "::", "repository:team/a:", "a:b"], {}),
        ("admin", ["repository(plugin):team/a:pull"], {"repository:team/a": ["pull"]}),
        ("admin", ["repository:host:5000/a:pull"], {"repository:host:5000/a": ["pull"]}),
        ("admin", [f"repository:{'a' * 256}:pull"], {}),
        (None, ["repository:public/a:pull,push", "repository:team/a:pull"], {"repository:public/a": ["pull"]}),
    ],
)  # fmt: skip
def test_what_is_granted_is_what_is_asked_and_allowed(
    server: Server, name: str | None, scopes: list[str], expected: dict[str, list[str]]
) -> None:
    assert access(server, token_for(server, *scopes, name=name)) == expected


def test_a_hundred_repositories_and_no_more(server: Server) -> None:
    scopes = [f"repository:team/{number}:pull" for number in range(101)]
    assert len(access(server, token_for(server, *scopes[:100], name="writer"))) == 100
    for asked in (scopes, [" ".join(scopes)]):
        assert token_for(server, *asked, name="writer").status_code == 400


def test_a_query_that_cannot_be_read(server: Server) -> None:
    for query in ("scope=%ff", "&".join(["scope=a"] * 500)):
        assert ask(server, "GET", f"/auth/token?{query}").status_code == 400


def test_a_token_opens_what_it_is_for_and_nothing_else(server: Server) -> None:
    token = token_for(server, "repository:team/app:pull", name="writer").json()["token"]
    assert ask(server, "GET", "/v2/", token).status_code == 200
    assert ask(server, "GET", "/v2/team/app/manifests/v1", token).status_code == 404
    for method, path in (
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("GET", "/v2/team/b/manifests/v1"),
        ("GET", "/v2/_catalog"),
    ):
        answer = ask(server, method, path, token)
        # Its owner may, so that the client can get another: RFC 6750 section 3.1.
        assert answer.status_code == 401
        assert 'error="insufficient_scope"' in answer.headers.get_list("www-authenticate")[0]
    assert ask(server, "GET", "/v2/other/b/manifests/v1", token).status_code == 403


def test_a_token_of_everybody_opens_what_is_public(server: Server) -> None:
    token = token_for(server, "repository:public/a:pull").json()["token"]
    assert ask(server, "GET", "/v2/public/a/manifests/v1", token).status_code == 404
    assert ask(server, "GET", "/v2/team/a/manifests/v1", token).status_code == 401
    assert ask(server, "POST", "/v2/public/a/blobs/uploads/", token).status_code == 401


def test_a_mount_without_the_right_to_the_source_is_an_upload(server: Server) -> None:
    token = token_for(server, "repository:team/a:pull,push", "repository:other/b:pull", name="writer").json()["token"]
    digest = f"sha256:{'0' * 64}"
    answer = ask(server, "POST", f"/v2/team/a/blobs/uploads/?mount={digest}&from=other/b", token)
    assert answer.status_code == 202


@pytest.mark.parametrize("password", ["", "wrong", "drift_pat_0", "reader's password"])
def test_bad_credentials_get_nothing(server: Server, password: str) -> None:
    scope = "repository:public/a:pull"
    answer = httpx.get(f"{server.url}/auth/token?scope={scope}", auth=("writer", password))
    assert answer.status_code == 401
    assert "token" not in answer.json()
    answer = form(server, grant_type="password", username="writer", password=password, scope=scope)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_login_of_docker_is_renewed_until_it_is_revoked(server: Server) -> None:
    body = token_for(server, name="writer", offline_token="true", client_id="docker", account="writer").json()
    for _ in range(2):
        answer = form(
            server,
            grant_type="refresh_token",
            refresh_token=body["refresh_token"],
            scope="repository:team/a:pull,push,delete",
        )
        assert access(server, answer) == {"repository:team/a": ["pull", "push"]}
        assert answer.json()["refresh_token"] == body["refresh_token"]
        assert answer.json()["scope"] == "repository:team/a:pull,push"
    assert ask(server, "GET", "/v2/", answer.json()["token"]).status_code == 200


def test_the_form_of_oauth(server: Server) -> None:
    fields = {"grant_type": "password", "username": "reader", "password": PASSWORDS["reader"]}
    answer = form(server, **fields, scope="repository:team/a:pull,push")
    assert access(server, answer) == {"repository:team/a": ["pull"]}
    assert "refresh_token" not in answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert "refresh_token" in form(server, **fields, access_type="offline").json()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "drift_refresh_0"}, "invalid_grant"),
        ({"grant_type": "password", "username": "a:b", "password": "c"}, "invalid_grant"),
        ({"grant_type": "password"}, "invalid_grant"),
    ],
)
def test_errors_have_the_form_of_oauth(server: Server, fields: dict[str, str], error: str) -> None:
    answer = form(server, **fields)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_description"]


def test_a_body_without_end_is_refused(server: Server) -> None:
    answer = httpx.post(f"{server.url}/auth/token", content=b"a=" + b"b" * (1 << 20))
    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")


def test_a_client_of_the_original_asks_elsewhere(server: Server) -> None:
    answer = httpx.get(
        f"{server.url}/oauth2/token?service=drift&scope=repository:team/a:pull", auth=("reader", PASSWORDS["reader"])
    )
    assert access(server, answer) == {"repository:team/a": ["pull"]}


def test_the_token_of_a_login_gets_tokens_for_less(server: Server) -> None:
    login = log_in(server, "writer")["token"]
    answer = ask(server, "GET", "/auth/token?scope=repository:team/a:pull", login)
    token = answer.json()["token"]
    assert access(server, answer) == {"repository:team/a": ["pull"]}
    # Less never becomes more again, and nobody lives on it for ever.
    answer = ask(server, "GET", "/auth/token?scope=repository:team/a:pull,push&offline_token=true", token)
    assert access(server, answer) == {"repository:team/a": ["pull"]}
    assert "refresh_token" not in answer.json()


def test_keys_are_public_and_only_public(server: Server) -> None:
    answer = ask(server, "GET", "/auth/keys")
    assert answer.status_code == 200
    (key,) = answer.json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_no_secret_is_in_the_log(server: Server) -> None:
    body = token_for(server, name="writer", offline_token="true").json()
    form(server, grant_type="refresh_token", refresh_token=body["refresh_token"])
    form(server, grant_type="refresh_token", refresh_token=f"{body['refresh_token']}x")
    ask(server, "GET", "/v2/", f"{body['token']}x")
    time.sleep(0.2)
    log = server.log.read_text()
    assert "/auth/token" in log
    for secret in (body["token"], body["refresh_token"], *PASSWORDS.values()):
        assert secret not in log
        assert secret.rpartition("_")[2] not in log
