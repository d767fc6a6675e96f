"""The plugins of the how-tos, taken from the pages: they do what the pages say."""

import json
import re
import time
from pathlib import Path

import httpx
import pytest

from drift_core.api import ACTIONS
from tests.oci.content import EMPTY_CONFIG, image
from tests.plugins.installation import Installation
from tests.server import Server
from tests.tools import ROOT

PAGE = ROOT / "docs/how-to/gates-and-subscribers.md"
TABLES = ROOT / "docs/how-to/tables-and-metrics.md"
PATIENCE = 30.0
"""Seconds after which something counts as never happening."""


def test_the_freezing_plugin_refuses_and_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (config,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    installation = Installation(tmp_path / "site")
    installation.add("drift-freeze", {"freeze": "drift_freeze"}, {"drift_freeze": source})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    file = tmp_path / "drift.toml"
    file.write_text(config)
    manifest = image(EMPTY_CONFIG)
    answers = {}
    with Server(tmp_path / "server", config=file) as server:
        for repository in ("legacy/app", "app"):
            url = f"{server.url}/v2/{repository}"
            httpx.post(f"{url}/blobs/uploads/?digest={EMPTY_CONFIG.digest}", content=EMPTY_CONFIG.content)
            headers = {"content-type": manifest.media_type}
            answers[repository] = httpx.put(f"{url}/manifests/v1", content=manifest.content, headers=headers)
        (error,) = answers["legacy/app"].json()["errors"]
        while '"event": "pushed"' not in server.log.read_text():
            assert server.process is not None
            assert server.process.poll() is None
    assert (answers["legacy/app"].status_code, answers["app"].status_code) == (403, 201)
    assert error["message"] == "the plugin freeze refuses: legacy/* is frozen"
    assert error["message"] in text.replace("\\", "")
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert [line["repository"] for line in lines if line["event"] == "pushed"] == ["app"]


def test_the_table_has_every_action() -> None:
    assert set(re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", PAGE.read_text(), re.MULTILINE)) == set(ACTIONS)


def push(server: Server, repository: str) -> None:
    manifest, url = image(EMPTY_CONFIG), f"{server.url}/v2/{repository}"
    httpx.post(f"{url}/blobs/uploads/?digest={EMPTY_CONFIG.digest}", content=EMPTY_CONFIG.content)
    headers = {"content-type": manifest.media_type}
    assert httpx.put(f"{url}/manifests/v1", content=manifest.content, headers=headers).status_code == 201


def await_tally(server: Server, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := httpx.get(f"{server.url}/tally").json()) != expected:
        assert time.monotonic() < deadline, found


def test_the_tallying_plugin_counts_across_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = re.findall(r"^`([\w/]+)\.py`:\n\n```python\n(.*?)```", TABLES.read_text(), re.DOTALL | re.MULTILINE)
    installation = Installation(tmp_path / "site")
    installation.add("drift-tally", {"tally": "drift_tally.plugin"}, dict(files))
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    with Server(tmp_path / "server") as server:
        push(server, "app")
        push(server, "app")
        push(server, "other")
        await_tally(server, {"app": 2, "other": 1})
    with Server(tmp_path / "server") as server:
        push(server, "app")
        await_tally(server, {"app": 3, "other": 1})
