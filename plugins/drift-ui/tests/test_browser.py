"""The console in a real browser: at a desk and on a phone, light and dark, for everybody."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.oci.content import Blob
from tests.server import Server
from tests.tools import ROOT, unavailable

from .browsing import PASSWORDS, Pusher, Visitor, layer_of

AXE = ROOT / ".tools/node/axe-core/node_modules/axe-core/axe.min.js"
PATIENCE = 20.0
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
SCREENSHOTS = ROOT / "docs/how-to/console"
SHOWN = {"dashboard": "/", "manifest": "/repositories/team/web/-/manifests/v1"}


class Seen:
    """A browser of somebody who looks at a registry with a few images."""

    def __init__(self, chrome: Chrome, server: Server) -> None:
        self.chrome = chrome
        self.origin = f"http://127.0.0.1:{server.ui_port}"

    def open(self, path: str) -> None:
        self.chrome.get(f"{self.origin}{path}")

    def text(self) -> str:
        found: str = self.chrome.find_element(By.TAG_NAME, "main").text
        return found

    def click(self, selector: str) -> None:
        """Clicks what leads to another page, and waits for that."""
        before = self.chrome.find_element(By.TAG_NAME, "html")
        self.chrome.find_element(By.CSS_SELECTOR, selector).click()
        WebDriverWait(self.chrome, PATIENCE).until(lambda _: _gone(before))

    def press(self, text: str) -> None:
        """Clicks the button of this text."""
        before = self.chrome.find_element(By.TAG_NAME, "html")
        self.chrome.find_element(By.XPATH, f"//main//button[normalize-space()='{text}']").click()
        WebDriverWait(self.chrome, PATIENCE).until(lambda _: _gone(before))

    def resize(self, size: str, theme: str) -> None:
        width, height = SIZES[size]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def _gone(element: Any) -> bool:
    try:
        element.is_enabled()
    except Exception:  # noqa: BLE001 - whatever the driver calls what is not there any more
        return True
    return False


@pytest.fixture(scope="module")
def paths(guarded: Server) -> list[str]:
    """Pages of some images, once they are listed."""
    bill = Blob(json.dumps({"spdxVersion": "SPDX-2.3", "packages": [{"name": "musl", "versionInfo": "1.2"}]}).encode())
    layer = layer_of(hosts=b"127.0.0.1\n", motd=b"hello")
    config = {
        "created": "2026-01-02T03:04:05Z",
        "config": {"Env": ["PATH=/bin"], "Labels": {"org.opencontainers.image.title": "web"}},
    }
    with Pusher(guarded, "root") as pusher:
        image = pusher.image("team/web", "v1", layer, config)
        pusher.image("team/web", "v2", layer_of(hosts=b"::1\n"), config)
        pusher.image("open/tool", "v1", layer, config)
        made = pusher.artifact("team/web", image, "application/spdx+json", bill, "application/spdx+json")
    visitor = Visitor(guarded)
    visitor.log_in("root")
    visitor.until("/repositories/team/web", "v2")
    visitor.http.close()
    return [
        "/",
        "/repositories",
        "/repositories/team/web",
        "/repositories/team/web/-/manifests/v1",
        f"/repositories/team/web/-/layers/{layer.digest}",
        f"/repositories/team/web/-/layers/{layer.digest}?under=etc",
        f"/repositories/team/web/-/sbom/{made.digest}",
        "/compare?left=team/web:v1&right=team/web:v2&files=1",
        "/search?q=web",
        "/search?q=size%3Ebig",
        "/preferences",
        "/cluster",
        "/collection",
        "/retention?repository=team/web",
        "/scrub",
        "/tokens",
        "/signing",
        "/plugins",
        "/configuration",
        "/nope",
    ]


@pytest.fixture
def seen(chrome: Chrome, guarded: Server, paths: list[str]) -> Seen:
    del paths
    seen = Seen(chrome, guarded)
    seen.resize("desk", "light")
    seen.open("/login")
    chrome.delete_all_cookies()
    chrome.get_log("browser")
    chrome.get_log("performance")
    return seen


def log_in(seen: Seen, name: str = "root") -> None:
    seen.open("/login")
    seen.chrome.find_element(By.ID, "username").send_keys(name)
    seen.chrome.find_element(By.ID, "password").send_keys(PASSWORDS[name])
    seen.press("Log in")


def requested(chrome: Chrome) -> set[str]:
    """Returns the origins from which anything was loaded since this was last asked."""
    messages = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return {"/".join(url.split("/")[:3]) for url in urls if not url.startswith("chrome")}


def complaints(chrome: Chrome) -> list[str]:
    """Returns what the console of the browser says, but that a page with an error has its status."""
    return [entry["message"] for entry in chrome.get_log("browser") if "status of 4" not in entry["message"]]


def test_a_person_logs_in_looks_around_and_leaves(seen: Seen) -> None:
    chrome = seen.chrome
    seen.open("/repositories/team/web")
    assert chrome.current_url.startswith(f"{seen.origin}/login?next=")
    chrome.find_element(By.ID, "username").send_keys("root")
    chrome.find_element(By.ID, "password").send_keys("wrong")
    seen.press("Log in")
    assert chrome.find_element(By.CSS_SELECTOR, "[role=alert]").is_displayed()
    assert chrome.find_element(By.ID, "username").get_attribute("value") == "root"
    chrome.find_element(By.ID, "password").send_keys(PASSWORDS["root"])
    seen.press("Log in")
    assert chrome.execute_script("return document.cookie") == ""
    seen.open("/")
    find = chrome.find_element(By.ID, "find")
    find.send_keys("wbe team", Keys.ENTER)
    WebDriverWait(chrome, PATIENCE).until(lambda _: "/search" in chrome.current_url)
    seen.open("/search?q=tag:v1")
    chrome.find_element(By.LINK_TEXT, "team/web:v1").click()
    WebDriverWait(chrome, PATIENCE).until(lambda _: "/manifests/v1" in chrome.current_url)
    seen.click("a[href*='/-/layers/']")
    seen.click("a[href*='under=etc']")
    assert "motd" in seen.text()
    seen.open("/repositories/team/web")
    chrome.find_element(By.CSS_SELECTOR, "button.copy[data-copy^='docker pull']").click()
    WebDriverWait(chrome, PATIENCE).until(lambda _: "Copied" in seen.text() or "Not copied" in seen.text())
    seen.open("/collection")
    seen.press("Dry run")
    assert "Would be removed now" in seen.text()
    seen.press("Collect garbage")
    assert "Do you really want it?" in seen.text()
    seen.press("Collect garbage")
    assert "The collection is done" in seen.text()
    seen.click(".who form[action='/logout'] button")
    assert chrome.current_url == f"{seen.origin}/login"
    assert complaints(chrome) == []
    assert requested(chrome) == {seen.origin}


@pytest.mark.parametrize(("size", "theme"), [(size, theme) for size in SIZES for theme in THEMES])
def test_every_page_can_be_used_by_everybody(seen: Seen, paths: list[str], size: str, theme: str) -> None:
    """No serious violation of WCAG by axe-core, nothing wider than the screen, no error, nothing from elsewhere."""
    if not AXE.is_file():
        unavailable("npm's axe-core is not installed; `make tools` installs it")
    chrome, axe = seen.chrome, AXE.read_text()
    log_in(seen)
    seen.resize(size, theme)
    # Colours and sizes are two things: with each of both every page is looked at, and a few with the other pairs.
    for path in paths if (size == "desk") == (theme == "light") else paths[2:5]:
        seen.open(path)
        assert violations(chrome, axe) == [], path
        overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert chrome.execute_script(overflow) <= 0, path
    assert complaints(chrome) == []
    assert requested(chrome) == {seen.origin}


def violations(chrome: Chrome, axe: str) -> list[str]:
    # The policy of the page lets no script in; that of the driver is not the page's.
    chrome.execute_script(axe)
    found = chrome.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations.map("
        "v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html + ' ' + n.failureSummary).join(' | ')])))"
    )
    return [f"{impact} {name}: {nodes}" for impact, name, nodes in found if impact in ("serious", "critical")]


def test_the_theme_is_chosen_and_kept(seen: Seen) -> None:
    log_in(seen)

    def ground() -> str:
        found: str = seen.chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
        return found

    light = ground()
    seen.click(".who form[action='/theme'] button")
    dark = ground()
    assert dark != light
    seen.open("/repositories")
    assert ground() == dark


def test_everything_is_reached_by_the_keyboard(seen: Seen) -> None:
    log_in(seen)
    seen.open("/repositories")
    seen.chrome.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert seen.chrome.switch_to.active_element.text == "Skip to the content"
    seen.chrome.switch_to.active_element.send_keys(Keys.ENTER)
    assert seen.chrome.switch_to.active_element.get_attribute("id") == "content"


def test_without_scripts_everything_works_but_copying(seen: Seen) -> None:
    seen.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        log_in(seen)
        seen.open("/repositories/team/web")
        buttons = seen.chrome.find_elements(By.CSS_SELECTOR, "button.copy")
        assert buttons
        assert not any(button.is_displayed() for button in buttons)
        seen.open("/collection")
        seen.press("Dry run")
        assert "Would be removed now" in seen.text()
    finally:
        seen.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_screenshots_are_made_of_what_there_is(seen: Seen, tmp_path: Path) -> None:
    """With SCREENSHOTS=1 those of the documentation are written anew."""
    folder = SCREENSHOTS if os.environ.get("SCREENSHOTS") == "1" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    log_in(seen)
    for name, path in SHOWN.items():
        seen.resize("desk", "dark" if name == "manifest" else "light")
        seen.open(path)
        picture = folder / f"{name}.png"
        assert seen.chrome.save_screenshot(str(picture))
        assert 5_000 < picture.stat().st_size < 150_000
