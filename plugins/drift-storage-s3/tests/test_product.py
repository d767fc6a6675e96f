"""The driver in the whole product: the examples of its page, a server on a bucket, and `drift conformance`."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from drift_core.api import Digest
from drift_core.conformance.suites.storage import content_of
from tests.server import DRIFT, Server
from tests.services.minio import Minio
from tests.tools import ROOT

MIB = 1 << 20
PAGE = ROOT / "docs/how-to/object-storage.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
VARIABLES = re.findall(r'env = "(\w+)"', PAGE.read_text())


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_configuration(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "value")
    file = tmp_path / "drift.toml"
    file.write_text(example)
    done = subprocess.run([DRIFT, "config", "check", "--config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "storage" not in done.stdout + done.stderr, "a key of it is read by nobody"


def test_the_page_has_every_key() -> None:
    schema = subprocess.run([DRIFT, "config", "schema"], capture_output=True, text=True, check=True).stdout
    storage = json.loads(schema)["properties"]["storage"]["properties"]["s3"]
    keys = set(storage.get("properties") or json.loads(schema)["$defs"]["S3Config"]["properties"])
    table = PAGE.read_text().partition("| Key of `[storage.s3]`")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == keys


@pytest.mark.parametrize("redirect", [False, True])
def test_server_on_a_bucket(minio: Minio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirect: bool) -> None:
    """As the first example of the page says; what was pushed is there after a restart."""
    monkeypatch.setenv("S3_ACCESS_KEY", minio.access_key)
    monkeypatch.setenv("S3_SECRET_KEY", minio.secret_key)
    file = tmp_path / "drift.toml"
    file.write_text(EXAMPLES[0].replace("http://127.0.0.1:9000", minio.endpoint).replace('"drift"', f'"t{minio.port}"'))
    content = content_of(12 * MIB + 1)
    digest = Digest.of(content)
    server = Server(tmp_path / "server", f"storage.s3.redirect={str(redirect).lower()}", config=file)
    with server, httpx.Client(base_url=server.url, timeout=60) as client:
        location = client.post("/v2/app/blobs/uploads/").headers["location"]
        location = client.patch(location, content=content[: 9 * MIB]).headers["location"]
        location = client.patch(location, content=content[9 * MIB :]).headers["location"]
        assert client.put(location, params={"digest": digest}).status_code == 201
        assert client.get("/readyz").status_code == 200
    with server, httpx.Client(base_url=server.url, timeout=60) as client:
        head = client.head(f"/v2/app/blobs/{digest}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
        answer = client.get(f"/v2/app/blobs/{digest}")
        assert answer.status_code == (307 if redirect else 200)
        assert client.get(f"/v2/app/blobs/{digest}", follow_redirects=True).content == content
        part = client.get(f"/v2/app/blobs/{digest}", headers={"range": "bytes=5-9"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, content[5:10])
        metrics = client.get("/metrics")
    if metrics.status_code == 200:
        assert "drift_s3_requests_total" in metrics.text


def test_conformance_from_the_command_line(minio: Minio, tmp_path: Path) -> None:
    """With the database of the configuration; nothing but a bucket is needed."""
    settings = [*minio.settings(minio.new_bucket()), f"storage.path={tmp_path}"]
    options = [part for setting in settings for part in ("--set", setting)]
    rules = ["storage.round-trip", "storage.resume-after-reopen", "storage.kill-between-append-and-commit"]
    only = [part for rule in rules for part in ("--rule", rule)]
    done = subprocess.run(
        [DRIFT, "conformance", "storage:s3", *options, *only, "--json", tmp_path / "out.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "out.json").read_text())
