"""A person logs in to the console by a button that this plugin offers, whichever console it is."""

import subprocess
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from tests.server import DRIFT, Server


def test_a_button_of_the_console_leads_to_the_provider_and_back(
    chrome: Chrome, provider: Any, lab: Any, tmp_path: Path
) -> None:
    server = Server(tmp_path, *lab.settings(provider), "auth.oidc.client_id=drift-console", workers=1)
    console = f"http://127.0.0.1:{server.ui_port}"
    provider.control("client", client_id="drift-console", redirect_uris=[f"{console}/auth/oidc/callback"])

    def leaves_to(path: str) -> None:
        WebDriverWait(chrome, lab.PATIENCE).until(lambda _: chrome.current_url.startswith(f"{console}{path}"))

    def nobody_is_known() -> None:
        """Both logins have ended: that of the console, and that of the registry, by which it was begun."""
        chrome.implicitly_wait(0)
        assert chrome.find_elements(By.XPATH, "//button[starts-with(normalize-space(), 'Continue as')]") == []
        chrome.implicitly_wait(lab.PATIENCE)
        chrome.get(f"{console}/auth/user")
        assert "UNAUTHORIZED" in chrome.page_source

    with server:
        chrome.get(f"{console}/preferences")
        chrome.find_element(By.LINK_TEXT, "Log in with oidc").click()
        chrome.find_element(By.NAME, "login").send_keys("ann")
        chrome.find_element(By.NAME, "password").send_keys("any")
        chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        WebDriverWait(chrome, lab.PATIENCE).until(
            lambda _: "Authorize" in chrome.page_source or "Continue" in chrome.page_source
        )
        chrome.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        WebDriverWait(chrome, lab.PATIENCE).until(lambda _: chrome.current_url == f"{console}/preferences")
        assert "oidc:ann" in chrome.find_element(By.TAG_NAME, "main").text
        # What the operator takes away is away, also in the console.
        subprocess.run([DRIFT, "oidc", "revoke", "oidc:ann", *server.arguments()], check=True, capture_output=True)
        chrome.get(f"{console}/preferences")
        leaves_to("/login?next=")
        # The provider still knows who it is.
        chrome.find_element(By.LINK_TEXT, "Log in with oidc").click()
        leaves_to("/preferences")
        chrome.find_element(By.CSS_SELECTOR, ".who form[action='/logout'] button").click()
        leaves_to("/login")
        nobody_is_known()
        assert chrome.get_cookie("drift-session") is None
        # The same everywhere, whatever the browser keeps.
        chrome.get(f"{console}/preferences")
        chrome.find_element(By.LINK_TEXT, "Log in with oidc").click()
        leaves_to("/preferences")
        kept = chrome.get_cookie("drift-session")
        for _ in range(2):
            button = chrome.find_element(By.XPATH, "//main//button[normalize-space()='End all sessions']")
            button.click()
            # The page that asks again has a button of the same name.
            WebDriverWait(chrome, lab.PATIENCE).until(staleness_of(button))
        leaves_to("/login")
        nobody_is_known()
        assert chrome.get_cookie("drift-session") == kept
