"""The tutorial's plugin, taken from the page, is built, installed and answers."""

import os
import re
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


def block(language: str) -> str:
    """Returns the page's one code block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    """A folder into which the tutorial's package was built and unpacked, as pip does."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(block("toml"))
    (source / "drift_hello.py").write_text(block("python"))
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
