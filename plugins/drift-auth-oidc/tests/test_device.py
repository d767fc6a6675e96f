"""`drift login`, from the command to a push, and how the device flow is attacked."""

import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.server import DRIFT, Server
from tests.tools import tool

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def environment(folder: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DRIFT_")}
    return plain | {"DOCKER_CONFIG": str(folder)}


def begin_login(drift: Server, folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """Starts the command and returns it with the URL that it shows."""
    command = [str(DRIFT), "login", drift.host, *options]
    process = subprocess.Popen(
        command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    return process, process.stderr.readline().removeprefix("Open ").strip()


def confirm(person: Any, url: str, decision: str = "allow") -> httpx.Response:
    """Does on the page what a person would."""
    page = person.client.get(url).text
    fields = dict(re.findall(r'name="(csrf_token|user_code)" value="([^"]+)"', page))
    return person.ask("POST", "/auth/device", data={**fields, "decision": decision})


def begin(drift: Server) -> dict[str, Any]:
    answer = httpx.post(f"{drift.url}/auth/device/code", data={"client_name": "a test"})
    assert answer.status_code == 200
    return dict(answer.json())


def poll(drift: Server, device_code: str) -> httpx.Response:
    return httpx.post(f"{drift.url}/auth/device/token", data={"grant_type": GRANT, "device_code": device_code})


def image(folder: Path) -> Path:
    """Returns a tarball of one file, which crane makes an image of."""
    (folder / "hello").write_text("hello")
    with tarfile.open(folder / "layer.tar", "w") as layer:
        layer.add(folder / "hello", "hello")
    return folder / "layer.tar"


def test_a_person_logs_in_the_command_and_crane_pushes(drift: Server, chrome: Chrome, tmp_path: Path) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {"other.example": {"auth": "eDp5"}}, "detachKeys": "q"}))
    process, url = begin_login(drift, folder)
    chrome.get(url)
    chrome.find_element(By.ID, "login-oidc").click()
    chrome.find_element(By.NAME, "login").send_keys("ann")
    chrome.find_element(By.NAME, "password").send_keys("any")
    chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(chrome, 30).until(lambda _: "Authorize" in chrome.page_source or "Continue" in chrome.page_source)
    chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    chrome.find_element(By.ID, "allow").click()
    WebDriverWait(chrome, 30).until(lambda _: "logged in" in chrome.title)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert "logged in as oidc:ann" in error
    written = folder / "config.json"
    assert written.stat().st_mode & 0o777 == 0o600
    document = json.loads(written.read_text())
    assert document["detachKeys"] == "q"
    assert document["auths"]["other.example"] == {"auth": "eDp5"}
    assert set(document["auths"]) == {"other.example", drift.host}
    push = [tool("crane"), "append", "--insecure", "-f", str(image(tmp_path)), "-t", f"{drift.host}/acme/app:v1"]
    subprocess.run(push, env=environment(folder), check=True, capture_output=True)
    subprocess.run([DRIFT, "oidc", "revoke", "oidc:ann", *drift.arguments()], check=True, capture_output=True)
    time.sleep(1)
    refused = subprocess.run(push, env=environment(folder), check=False, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "401 Unauthorized" in refused.stderr


def test_the_command_prints_a_token_that_is_listed_and_revoked(drift: Server, person: Any, tmp_path: Path) -> None:
    person.log_in()
    process, url = begin_login(drift, tmp_path, "--print", "--provider", "oidc")
    assert url.endswith("&provider=oidc")
    confirm(person, url)
    token, error = process.communicate(timeout=30)
    assert process.returncode == 0, error
    assert not (tmp_path / "config.json").exists()
    ask = {"authorization": f"Bearer {token.strip()}"}
    assert httpx.get(f"{drift.url}/auth/user", headers=ask).json()["name"] == "oidc:ann"
    listed = [one for one in person.ask("GET", "/auth/tokens").json() if one["kind"] == "cli"]
    assert [one["label"] for one in listed] == ["drift login"]
    by_command = subprocess.run(
        [DRIFT, "oidc", "list", "--json", "--name", "oidc:ann", *drift.arguments()], check=True, capture_output=True
    )
    assert listed[0]["id"] in {one["id"] for one in json.loads(by_command.stdout)}
    csrf = {"x-csrf-token": person.csrf()}
    assert person.ask("DELETE", f"/auth/tokens/{listed[0]['id']}", headers=csrf).status_code == 200
    time.sleep(1)
    for _ in range(10):
        assert httpx.get(f"{drift.url}/auth/user", headers=ask).status_code == 401


def test_a_refusal_reaches_the_command(drift: Server, person: Any, tmp_path: Path) -> None:
    person.log_in()
    process, url = begin_login(drift, tmp_path)
    confirm(person, url, "deny")
    _, error = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "refused" in error


def test_a_device_waits_slows_down_and_gets_one_token(drift: Server, person: Any) -> None:
    begun = begin(drift)
    assert poll(drift, begun["device_code"]).json()["error"] == "authorization_pending"
    assert poll(drift, begun["device_code"]).json()["error"] == "slow_down"
    person.log_in()
    assert confirm(person, begun["verification_uri_complete"]).status_code == 200
    given = poll(drift, begun["device_code"])
    assert given.status_code == 200
    assert given.json()["access_token"].startswith("drift_cli_")
    assert given.headers["cache-control"] == "no-store"
    assert poll(drift, begun["device_code"]).json()["error"] == "expired_token"
    assert confirm(person, begun["verification_uri_complete"]).status_code in (403, 404)


def test_a_device_is_not_confirmed_without_its_page(drift: Server, person: Any) -> None:
    begun = begin(drift)
    fields = {"user_code": begun["user_code"], "decision": "allow"}
    assert person.ask("POST", "/auth/device", data=fields).status_code == 401
    person.log_in()
    for more in ({}, {"csrf_token": "0" * 64}):
        assert person.ask("POST", "/auth/device", data={**fields, **more}).status_code == 403
    evil = {"origin": "https://evil.example"}
    wrong = person.ask("POST", "/auth/device", data={**fields, "csrf_token": person.csrf()}, headers=evil)
    assert wrong.status_code == 403
    assert poll(drift, begun["device_code"]).json()["error"] == "authorization_pending"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": GRANT}, "expired_token"),
        ({"grant_type": GRANT, "device_code": "guessed"}, "expired_token"),
    ],
)
def test_a_question_that_is_wrong_is_refused(drift: Server, fields: dict[str, str], error: str) -> None:
    answer = httpx.post(f"{drift.url}/auth/device/token", data=fields)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_session_is_no_token(drift: Server, person: Any) -> None:
    """And a token no session: each is good only for what it was made for."""
    person.log_in()
    secret = person.session()
    for headers in ({"authorization": f"Bearer {secret}"}, {"authorization": f"Bearer drift_cli_{secret}"}):
        assert httpx.get(f"{drift.url}/auth/user", headers=headers).status_code == 401
    begun = begin(drift)
    confirm(person, begun["verification_uri_complete"])
    token = poll(drift, begun["device_code"]).json()["access_token"]
    assert httpx.get(f"{drift.url}/auth/user", cookies={"drift-session": token}).status_code == 401


def test_an_address_has_only_so_many_devices_waiting(provider: Any, lab: Any, tmp_path: Path) -> None:
    with Server(tmp_path, *lab.settings(provider), workers=1) as server:
        answers = [httpx.post(f"{server.url}/auth/device/code").status_code for _ in range(21)]
    assert answers == [200] * 20 + [429]


@pytest.mark.parametrize("content", ['{"credsStore": "pass"}', '{"credHelpers": {"HOST": "pass"}}', "[]", "{"])
def test_what_the_command_cannot_write_it_says_first(drift: Server, tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content.replace("HOST", drift.host))
    before = file.read_text()
    process, error = begin_login(drift, tmp_path)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert str(file) in error or "docker-credential-pass" in error
    assert file.read_text() == before
    assert "Traceback" not in error


@pytest.mark.parametrize("address", ["http://registry.example.org", "ftp://localhost", "", "https://"])
def test_the_command_asks_no_address_that_is_wrong(tmp_path: Path, address: str) -> None:
    done = subprocess.run(
        [DRIFT, "login", address], env=environment(tmp_path), check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
