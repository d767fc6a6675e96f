"""What logins are answered is what the document says, with a session, a device and a job at a real provider."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.http.described import Described
from tests.server import Server

AUDIENCE = "https://registry.example.org"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
JOB = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}


@pytest.fixture(scope="module")
def registry(lab: Any, provider: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    rules = '{name = "ci", claims = {repository = "acme/*"}, scopes = ["repository:acme/app:pull"]}'
    jobs = f'auth.oidc.workloads=[{{issuer = "{provider.issuer}", audience = "{AUDIENCE}", rules = [{rules}]}}]'
    with Server(tmp_path_factory.mktemp("described"), *lab.settings(provider), jobs, workers=1) as server:
        yield server


def ask(client: httpx.Client, method: str, path: str, status: int, **options: Any) -> Any:
    answer = client.request(method, f"/auth/{path}", **options)
    assert answer.status_code == status, (method, path, answer.text)
    return answer.json() if "json" in answer.headers.get("content-type", "") else None


def test_logins_are_answered_as_the_document_says(lab: Any, provider: Any, registry: Server) -> None:
    person = lab.wanderer(registry.url)
    with person.client as client:
        person.log_in()
        described = Described(registry.url, person.ask("GET", "/schema/openapi.json").raise_for_status().json())
        client.base_url = registry.url
        described.watch(client)
        for begin in ("/auth/oidc", "/auth/login/oidc"):
            person.log_in(path=begin)
        back = person.to_callback("/auth/oidc", "ann")
        assert client.get(back.replace("/auth/oidc/callback", "/auth/callback/oidc")).status_code == 303
        assert client.get(back).status_code == 401
        for path in ("user", "user/organizations", "user/teams", "user/repositories", "login", "tokens", "device"):
            ask(client, "GET", path, 200)
        csrf = {"x-csrf-token": person.csrf()}
        waiting, codes = (ask(client, "POST", "device/code", 200, data={"client_name": "a test"}) for _ in range(2))
        poll = {"grant_type": DEVICE, "device_code": waiting["device_code"]}
        assert ask(client, "POST", "device/token", 400, data=poll)["error"] == "authorization_pending"
        decided = {"csrf_token": person.csrf(), "user_code": codes["user_code"], "decision": "allow"}
        ask(client, "GET", "device", 200, params={"user_code": codes["user_code"]})
        ask(client, "POST", "device", 200, data=decided)
        ask(client, "POST", "device", 404, data=decided)
        ask(client, "POST", "device/token", 200, data={**poll, "device_code": codes["device_code"]})
        (held,) = (one for one in ask(client, "GET", "tokens", 200) if one["kind"] == "cli")
        ask(client, "DELETE", f"tokens/{held['id']}", 200, headers=csrf)
        ask(client, "DELETE", f"tokens/{held['id']}", 404, headers=csrf)
        ask(client, "DELETE", f"tokens/{held['id']}", 403)
        token = provider.sign(aud=AUDIENCE, sub="repo:acme/app", repository="acme/app")
        ask(client, "POST", "workload/token", 200, data={**JOB, "subject_token": token})
        ask(client, "POST", "workload/token", 400, data={**JOB, "subject_token": "none"})
        ask(client, "POST", "logout", 200, headers=csrf)
        person.log_in()
        ask(client, "POST", "logout", 303, data={"csrf_token": person.csrf()})
        person.log_in()
        ask(client, "POST", "logout-everywhere", 200, headers={"x-csrf-token": person.csrf()})
    theirs = {(method, path) for path, method, one in described.operations() if one["tags"] == ["auth-oidc"]}
    assert theirs <= described.answered
