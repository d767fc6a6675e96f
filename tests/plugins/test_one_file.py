"""The plugin in one file, of `examples/`, is built, installed and guards its repositories."""

import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.oci.content import EMPTY_CONFIG, image
from tests.plugins.installation import Installation
from tests.server import Server
from tests.tools import ROOT

SOURCE = ROOT / "examples/drift-semver-tags"
PUSHES = {
    "release/app:1.2.0": 201,
    "release/app:v1.2.0-rc.1": 201,
    "release/app:1.2": 403,
    "release/app:01.2.0": 403,
    "release/app:latest": 403,
    "team/app:latest": 201,
}


@pytest.fixture
def installed(tmp_path: Path) -> Installation:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(SOURCE)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    return Installation(tmp_path / "site")


def test_only_versions_are_tags(installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed.plugins()["semver-tags"][0]["offers"] == ["features:semver_tags"]
    monkeypatch.setenv("PYTHONPATH", str(installed.folder))
    manifest, answers = image(EMPTY_CONFIG), {}
    with Server(tmp_path / "server", 'semver_tags.repositories=["release/*"]') as server:
        for name in PUSHES:
            repository, _, tag = name.partition(":")
            url = f"{server.url}/v2/{repository}"
            httpx.post(f"{url}/blobs/uploads/?digest={EMPTY_CONFIG.digest}", content=EMPTY_CONFIG.content)
            headers = {"content-type": manifest.media_type}
            answers[name] = httpx.put(f"{url}/manifests/{tag}", content=manifest.content, headers=headers)
    assert {name: answer.status_code for name, answer in answers.items()} == PUSHES
    (error,) = answers["release/app:latest"].json()["errors"]
    assert error["message"] == "the plugin semver-tags refuses: latest is not a semantic version"
