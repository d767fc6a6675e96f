"""Logins in a real browser."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.server import Server, free_port


def log_in(chrome: Chrome, drift: Server, user: str = "ann") -> None:
    """As a person does it: the form of the provider, its question, and back."""
    chrome.get(f"{drift.url}/auth/login")
    chrome.find_element(By.ID, "login-oidc").click()
    chrome.find_element(By.NAME, "login").send_keys(user)
    chrome.find_element(By.NAME, "password").send_keys("any")
    chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(chrome, 30).until(lambda _: "Authorize" in chrome.page_source or "Continue" in chrome.page_source)
    chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(chrome, 30).until(lambda _: chrome.current_url == f"{drift.url}/auth/login")


def text(chrome: Chrome, element: str) -> str:
    return chrome.find_element(By.ID, element).text


@pytest.fixture
def evil() -> Iterator[str]:
    """A page of another origin that sends a form to Drift as soon as it is seen."""

    class Page(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name in the base class
            pass

        def do_GET(self) -> None:
            target = self.path.partition("?")[2]
            body = (
                f'<html><body onload="document.forms[0].submit()"><form method="post" action="{target}">'
                '<input name="csrf_token" value="guessed"></form></body></html>'
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_person_logs_in_and_out_everywhere(chrome: Chrome, drift: Server) -> None:
    log_in(chrome, drift)
    assert text(chrome, "name") == "oidc:ann"
    (cookie,) = [cookie for cookie in chrome.get_cookies() if cookie["name"] == "drift-session"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert chrome.execute_script("return document.cookie") == ""
    chrome.get(f"{drift.url}/health")
    user = chrome.execute_async_script("const done = arguments[0]; fetch('/auth/user').then(a => a.json()).then(done)")
    assert user["roles"] == ["read-write"]
    assert user["groups"] == ["acme/backend", "developers"]
    chrome.get(f"{drift.url}/auth/login")
    chrome.find_element(By.ID, "logout-everywhere").click()
    assert chrome.find_element(By.ID, "login-oidc").is_displayed()
    assert [cookie for cookie in chrome.get_cookies() if cookie["name"] == "drift-session"] == []


def test_a_page_of_another_site_logs_nobody_out(chrome: Chrome, drift: Server, evil: str) -> None:
    log_in(chrome, drift)
    for path in ("/auth/logout", "/auth/logout-everywhere"):
        chrome.get(f"{evil}/?{drift.url}{path}")
        WebDriverWait(chrome, 30).until(lambda _, path=path: chrome.current_url == f"{drift.url}{path}")
        assert "DENIED" in chrome.page_source or "another site" in chrome.page_source
    chrome.get(f"{drift.url}/auth/login")
    assert text(chrome, "name") == "oidc:ann"


def test_a_script_of_the_site_changes_something_with_its_token(chrome: Chrome, drift: Server) -> None:
    log_in(chrome, drift)
    # The pages of the login itself let no script run.
    chrome.get(f"{drift.url}/health")
    script = """
    const [headers, done] = arguments;
    fetch('/v2/acme/app/blobs/uploads/', {method: 'POST', headers}).then(a => done(a.status))
    """
    token = chrome.execute_async_script(
        "const done = arguments[0]; fetch('/auth/user').then(a => a.json()).then(u => done(u.csrf_token))"
    )
    assert chrome.execute_async_script(script, {}) == 403
    assert chrome.execute_async_script(script, {"X-CSRF-Token": token}) == 202


def test_over_https_the_cookie_is_only_this_host_s(
    chrome: Chrome, provider: Any, lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = lab.certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = (f"tls.cert_file={certificate}", f"tls.key_file={key}", "auth.oidc.client_id=drift-tls")
    server = Server(tmp_path / "server", *lab.settings(provider), *tls, workers=1)
    server.url = f"https://{server.host}"
    provider.control("client", client_id="drift-tls", redirect_uris=[f"{server.url}/auth/oidc/callback"])
    with server:
        log_in(chrome, server)
        assert text(chrome, "name") == "oidc:ann"
        (cookie,) = [cookie for cookie in chrome.get_cookies() if "session" in cookie["name"] and cookie["secure"]]
        assert cookie["name"] == "__Host-drift-session"
        assert cookie["httpOnly"]
        chrome.find_element(By.ID, "logout").click()
        assert chrome.find_element(By.ID, "login-oidc").is_displayed()


def test_keys_rotate_while_a_person_logs_in(chrome: Chrome, drift: Server, provider: Any) -> None:
    chrome.get(f"{drift.url}/auth/login")
    provider.control("rotate")
    log_in(chrome, drift)
    assert text(chrome, "name") == "oidc:ann"
