"""What people come to the console for, from its first page to the end, in a real browser, and by real clients."""

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.clients.programs import Output, Programs
from tests.server import DRIFT, Server

from .browsing import PATIENCE, Pusher, Visitor, layer_of
from .test_browser import AXE, Seen, complaints, log_in, requested, violations

LOOKS = (("desk", "light"), ("phone", "dark"))
ONCE = pytest.mark.parametrize("seen", LOOKS[:1], indirect=True, ids="-".join)
"""Where the size and the colours make no difference."""

PERMISSIONS = ["clipboardReadWrite", "clipboardSanitizedWrite"]


@pytest.fixture(scope="module")
def images(guarded: Server) -> None:
    """Two images of a repository, once they are listed."""
    with Pusher(guarded, "root") as pusher:
        for tag in ("v1", "v2"):
            pusher.image("team/site", tag, layer_of(motd=tag.encode()))
    visitor = Visitor(guarded)
    visitor.log_in("root")
    for tag in ("v1", "v2"):
        visitor.until("/repositories/team/site", f">{tag}</a>")
    visitor.http.close()


@pytest.fixture(params=LOOKS, ids="-".join)
def seen(request: pytest.FixtureRequest, chrome: Chrome, guarded: Server, images: None) -> Iterator[Seen]:
    """Root's browser; what it saw in the end is looked at, too."""
    del images
    seen = Seen(chrome, guarded)
    seen.open("/login")
    chrome.delete_all_cookies()
    seen.resize(*request.param)
    chrome.get_log("browser")
    chrome.get_log("performance")
    log_in(seen)
    yield seen
    assert complaints(chrome) == []
    assert requested(chrome) == {seen.origin}


@pytest.fixture
def run(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "home")


def check(seen: Seen) -> None:
    """Asserts that what is shown can be used by everybody, and fits on the screen."""
    assert violations(seen.chrome, AXE.read_text()) == []
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert seen.chrome.execute_script(overflow) <= 0


def listed(run: Programs, host: str, token: str) -> Output:
    """Lists tags with a token for a password."""
    run("crane", "auth", "login", host, "--username", "root", "--password-stdin", data=token.encode())
    return run("crane", "ls", "--insecure", f"{host}/team/site", may_fail=True)


def test_a_token_is_shown_once_used_and_revoked(seen: Seen, guarded: Server, run: Programs) -> None:
    chrome, name = seen.chrome, f"for a phone of {seen.chrome.get_window_size()['width']}"
    seen.click("nav.menu a[href='/tokens']")
    chrome.find_element(By.NAME, "name").send_keys(name)
    seen.press("Make")
    token = chrome.find_element(By.ID, "secret").text
    assert token.startswith("drift_pat_")
    check(seen)
    assert listed(run, guarded.host, token).lines() == ["v1", "v2"]
    # As whoever comes back, or presses F5 and does not send the form again.
    seen.open("/tokens")
    assert token not in chrome.page_source
    rows = chrome.find_elements(By.XPATH, f"//main//tr[td[normalize-space()='{name}']]/td[1]//code")
    identifier = rows[0].get_attribute("textContent")
    assert identifier is not None
    Select(chrome.find_element(By.NAME, "token")).select_by_visible_text(identifier)
    seen.press("Revoke")
    assert "Do you really want it?" in seen.text()
    check(seen)
    seen.press("Revoke")
    assert "The token is revoked" in seen.text()
    WebDriverWait(chrome, PATIENCE).until(lambda _: listed(run, guarded.host, token).code != 0)
    check(seen)


def test_what_a_collection_would_do(seen: Seen) -> None:
    seen.click("nav.menu a[href='/collection']")
    seen.press("Dry run")
    assert "nothing was removed" in seen.text()
    assert "Would be removed now" in seen.text()
    check(seen)


def test_why_a_tag_is_kept_or_dropped(seen: Seen) -> None:
    seen.click("nav.menu a[href='/retention']")
    seen.chrome.find_element(By.NAME, "repository").send_keys("team/site")
    seen.chrome.find_element(By.NAME, "tag").send_keys("v1")
    seen.press("Explain")
    text = seen.text()
    assert "keep[0] newest=1" in text
    assert "dropped" in text
    check(seen)
    tag = seen.chrome.find_element(By.NAME, "tag")
    tag.clear()
    tag.send_keys("v2")
    seen.press("Explain")
    assert "keeps it" in seen.text()


def test_the_files_of_a_layer_and_the_command_that_pulls_it(seen: Seen, guarded: Server, run: Programs) -> None:
    chrome = seen.chrome
    granted = {"origin": seen.origin, "permissions": PERMISSIONS}
    chrome.execute_cdp_cmd("Browser.grantPermissions", granted)
    seen.click("nav.menu a[href='/repositories']")
    seen.click("main a[href='/repositories/team/site']")
    button = chrome.find_element(
        By.XPATH, "//tr[td[1][normalize-space()='v2']]//button[contains(@class, 'copy')][contains(., 'docker pull')]"
    )
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    WebDriverWait(chrome, PATIENCE).until(lambda _: "Copied" in button.text)
    command = chrome.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert command == f"docker pull {guarded.host}/team/site:v2"
    check(seen)
    reference = str(command).removeprefix("docker pull ")
    run("crane", "auth", "login", guarded.host, "--username", "root", "--password-stdin", data=b"the password of root")
    digest = run("crane", "digest", "--insecure", reference).text
    seen.click("main a[href='/repositories/team/site/-/manifests/v2']")
    assert digest in chrome.page_source
    seen.click("main a[href*='/-/layers/']")
    seen.click("main a[href*='under=etc']")
    assert "motd" in seen.text()
    check(seen)


@ONCE
def test_progress_moves_without_a_reload(seen: Seen, guarded: Server) -> None:
    chrome = seen.chrome

    def collect() -> None:
        command = [DRIFT, "gc", "run", "--dry-run", *guarded.arguments()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def runs() -> int:
        return len(chrome.find_elements(By.XPATH, "//*[@id='live']//tr[td[normalize-space()='command']]"))

    def moved(before: int) -> None:
        WebDriverWait(chrome, PATIENCE).until(lambda _: runs() > before)

    seen.click("nav.menu a[href='/collection']")
    chrome.execute_script("window.never = 'loaded anew'")
    before = runs()
    collect()
    moved(before)
    check(seen)
    # Who is at a place within stays there.
    region = chrome.find_element(By.CSS_SELECTOR, "#live .scroll")
    chrome.execute_script("arguments[0].focus()", region)
    pause = chrome.find_element(By.ID, "pause")
    before = runs()
    collect()
    moved(before)
    assert chrome.execute_script("return document.activeElement.matches('#live .scroll')")
    pause.click()
    assert pause.text == "Go on updating"
    before = runs()
    collect()
    pause.click()
    moved(before)
    assert chrome.execute_script("return window.never") == "loaded anew"


@ONCE
def test_without_scripts_a_page_is_loaded_anew_by_a_link(seen: Seen, guarded: Server) -> None:
    seen.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        seen.open("/collection")
        assert not seen.chrome.find_element(By.ID, "pause").is_displayed()
        command = [DRIFT, "gc", "run", "--dry-run", *guarded.arguments()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        seen.click(".following a")
        assert "command" in seen.text()
    finally:
        seen.chrome.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


class Plain(Server):
    """`drift serve` in an empty folder, as `make serve` runs it, but for its addresses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.cwd = folder
        self.settings = [f"server.bind_addr={self.host}", f"server.ui_addr=127.0.0.1:{self.ui_port}"]


def test_a_newcomer_pushes_an_image_and_sees_it(chrome: Chrome, tmp_path: Path, run: Programs) -> None:
    """What the README promises: nothing is configured, and only links are followed."""
    layer = tmp_path / "layer.tar"
    (tmp_path / "hello.txt").write_text("hello\n")
    with tarfile.open(layer, "w") as archive:
        archive.add(tmp_path / "hello.txt", "srv/hello.txt")
    with Plain(tmp_path / "empty") as server:
        chrome.delete_all_cookies()
        seen = Seen(chrome, server)
        seen.resize("desk", "light")
        seen.open("/")
        assert "Nothing was pushed yet" in seen.text()
        run("crane", "append", "--insecure", "-f", str(layer), "-t", f"{server.host}/team/app:1.0")
        visitor = Visitor(server)
        visitor.until("/", "team/app")
        visitor.http.close()
        seen.open("/")
        seen.click("main a[href='/repositories/team/app']")
        seen.click("main a[href='/repositories/team/app/-/manifests/1.0']")
        seen.click("main a[href*='/-/layers/']")
        seen.click("main a[href*='under=srv']")
        assert "hello.txt" in seen.text()
        assert (tmp_path / "empty/data").is_dir()
