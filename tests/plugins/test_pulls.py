"""Who counts pulls is told of what clients were given, and of nothing else; its failure refuses nothing."""

from pathlib import Path

import pytest

from tests.oci.client import Registry
from tests.oci.content import EMPTY_CONFIG, image
from tests.plugins.installation import Installation
from tests.server import Server

FEATURE = """
from contextlib import asynccontextmanager
from drift_core.api import Driver, Struct, hookimpl

class Config(Struct, forbid_unknown_fields=True):
    file: str

class Count:
    name = "count"
    def __init__(self, file):
        self.file = file
    def pulled(self, repository, tag):
        with open(self.file, "a") as file:
            file.write(f"{repository} {tag}\\n")
        raise RuntimeError("a defect behind the count")

@asynccontextmanager
async def open_count(config, services):
    yield Count(config.file)

@hookimpl
def drift_features():
    return [Driver("count", Config, open_count)]
"""


def test_a_pull_is_what_a_client_was_given_by_a_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(tmp_path / "site")
    installation.add("acme-count", {"count": "acme_count"}, {"acme_count": FEATURE})
    monkeypatch.setenv("PYTHONPATH", str(installation.folder))
    file = tmp_path / "pulls"
    with Server(tmp_path / "server", f"count.file={file}") as server, Registry(server.url) as client:
        client.push_blob("team/app", EMPTY_CONFIG)
        manifest = client.push("team/app", image(EMPTY_CONFIG), "v1")
        path = "/v2/team/app/manifests"
        assert client.request("HEAD", f"{path}/v1").status_code == 200
        assert client.get(f"{path}/v2").status_code == 404
        assert not file.exists()
        for reference in ("v1", manifest.digest):
            assert client.get(f"{path}/{reference}").content == manifest.content
        assert client.get(f"{path}/v1", if_none_match=f'"{manifest.digest}"').status_code == 304
        assert file.read_text().splitlines() == ["team/app v1", "team/app None", "team/app v1"]
    assert "a pull could not be counted" in server.log.read_text()
