"""The how-tos of quotas and of scrubbing: configuration, commands and answers are what the pages say."""

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import httpx
import msgspec
from drift_quota.config import QuotaConfig
from drift_quota.measures import Measures as QuotaMeasures
from drift_scrub.config import ScrubConfig
from drift_scrub.measures import Measures as ScrubMeasures
from prometheus_client import CollectorRegistry

from tests.oci.content import Blob, unique_blob
from tests.server import DRIFT, Server
from tests.tools import ROOT

QUOTA = (ROOT / "docs/how-to/quota.md").read_text()
SCRUB = (ROOT / "docs/how-to/scrub.md").read_text()
PATIENCE = 120.0


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def keys_of(page: str, table: str) -> dict[str, str]:
    """Returns the keys of a table of the configuration, and their defaults as the page has them."""
    (rows,) = re.findall(rf"\| Key of `\[{table}\]` \|.*\n\|-.*\n((?:\|.*\n)*)", page)
    return {key: default.strip("`") for key, default in re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", rows, re.MULTILINE)}


def defaults(config: type[msgspec.Struct]) -> dict[str, str]:
    def text(value: Any) -> str:
        return "none" if value is None else json.dumps(value).removesuffix(".0")

    return {field: text(getattr(config(), field)) for field in config.__struct_fields__}


def push(server: Server, repository: str, blob: Blob) -> httpx.Response:
    url = f"{server.url}/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    return httpx.post(url, content=blob.content, headers={"content-type": "application/octet-stream"})


def run(server: Server, line: str) -> str:
    words = [str(DRIFT), *line.removeprefix("$ drift ").split(), *server.arguments()]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "console") for line in block.splitlines()]


def test_the_keys_are_those_of_the_plugins() -> None:
    assert keys_of(QUOTA, "quota") == defaults(QuotaConfig)
    assert keys_of(SCRUB, "scrub") == defaults(ScrubConfig)


def test_quota(tmp_path: Path) -> None:
    (config,) = blocks(QUOTA, "toml")
    refusal, report = map(json.loads, blocks(QUOTA, "json"))
    file = tmp_path / "drift.toml"
    file.write_text(config)
    with Server(tmp_path / "server", "auth.mode=none", config=file, workers=1) as server:
        assert push(server, "acme/chart-web", unique_blob(400_000)).status_code == 201
        refused = push(server, "acme/chart-web", unique_blob(200_000))
        assert refused.status_code == 403
        (said,), (shown,) = refused.json()["errors"], refusal["errors"]
        assert (said["code"], said["message"]) == (shown["code"], shown["message"])
        assert shown["detail"].items() <= said["detail"].items()
        deadline = time.monotonic() + PATIENCE
        while (found := httpx.get(f"{server.url}/api/quota?limit=100").json()) != report:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        said_by = {line: run(server, line) for line in commands(QUOTA)}
    assert json.loads(said_by["$ drift quota show --json"]) == report
    assert "acme/chart-web" in said_by["$ drift quota show"]
    assert said_by["$ drift quota recount acme/chart-web"] == "acme/chart-web holds 400000 bytes\n"


def test_scrub(tmp_path: Path) -> None:
    (config,) = blocks(SCRUB, "toml")
    assert tomllib.loads(config)["scrub"]["enabled"]
    file = tmp_path / "drift.toml"
    file.write_text(config)
    with Server(tmp_path / "server", "auth.mode=none", config=file, workers=1) as server:
        assert push(server, "app", unique_blob(1000)).status_code == 201
        said_by = {line: run(server, line) for line in commands(SCRUB)}
    assert said_by["$ drift scrub run --rate 200"].startswith("read 1 blobs, 1000 bytes; 0 damaged")
    assert json.loads(said_by["$ drift scrub status --json"])["quarantined"] == []
    assert "nothing is in quarantine" in said_by["$ drift scrub status"]


def test_the_metrics_are_those_of_the_plugins() -> None:
    for page, measures, prefix in ((QUOTA, QuotaMeasures, "drift_quota"), (SCRUB, ScrubMeasures, "drift_scrub")):
        registry = CollectorRegistry()
        measures(registry)
        known = {metric.name + ("_total" if metric.type == "counter" else "") for metric in registry.collect()}
        assert set(re.findall(rf"`({prefix}_\w+)", page)) == known
