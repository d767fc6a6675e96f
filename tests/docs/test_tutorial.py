"""The tutorial's plugin, taken from the page, is built, installed and answers."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.plugins.installation import Installation
from tests.server import Server
from tests.tools import ROOT

PAGE = ROOT / "docs/tutorial/first-plugin.md"


def block(language: str, text: str) -> str:
    """Returns a page's one code block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    """A folder into which the tutorial's package was built and unpacked, as pip does."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(block("toml", PAGE.read_text()))
    (source / "drift_hello.py").write_text(block("python", PAGE.read_text()))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    return Installation(tmp_path / "site")


def test_the_tutorial_s_plugin_greets(installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.plugins()["hello"][0]["offers"] == ["features:hello"]
    monkeypatch.setenv("PYTHONPATH", os.fspath(installed.folder))
    with Server(tmp_path / "server", 'hello.greeting="good morning"') as server:
        answer = httpx.get(f"{server.url}/hello")
    assert (answer.status_code, answer.text) == (200, "good morning")


def test_a_misspelt_key_names_the_right_one(installed: Installation) -> None:
    done = installed.drift("config", "check", "--set", "hello.greting=1")
    assert done.returncode == 1
    assert "hello.greting" in done.stderr
    assert "greeting" in done.stderr


def test_the_tutorial_s_store_is_written_proved_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page, in its order; pip's part is done by building and unpacking."""
    text = (ROOT / "docs/tutorial/storage-plugin.md").read_text()
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    new, install, test, look, prove, serve = (shlex.split(command) for command in commands)
    installation = Installation(tmp_path / "site")
    assert installation.drift(*new[1:], "--folder", str(tmp_path)).returncode == 0
    source = tmp_path / install[-1].removesuffix("[test]")
    assert all((source / file).is_file() for file in re.findall(r"^\| `([\w/.]+)` \|", text, re.MULTILINE))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(installation.folder)
    monkeypatch.setenv("PYTHONPATH", os.fspath(installation.folder))
    override = block("python", text).replace("class TestTape(StorageSuite)", "class TestOverride(TestTape)")
    with (source / "tests/test_conformance.py").open("a") as file:
        file.write(f"\n\n{override}")
    # It has all rules of the one that it inherits from.
    command = [sys.executable, "-m", test[0], "-q", "-p", "no:cacheprovider", test[1], "-k", "TestOverride"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    # The template's store does what the page's does not: the override is an unexpected pass, not an error.
    assert (done.returncode, "1 xpassed" in done.stdout) == (0, True), done.stdout
    assert "storage:tape" in installation.drift(*look[1:]).stdout
    trial = [part.replace("/tmp", str(tmp_path)) for part in prove[1:]]
    proved = installation.drift(*trial)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    settings = [part.replace("/var/lib", str(tmp_path)) for part in serve[2:] if part != "--set"]
    with Server(tmp_path / "server", *settings) as server:
        assert httpx.get(f"{server.url}/v2/").status_code == 200
