"""A stranger's plugin with an idea of its own: begun by the template, proved by the kit, serving the OCI suite."""

import json
from pathlib import Path

import pytest

from tests.conformance_oci.suite import check_every_test_passes
from tests.plugins.test_template import Plugin
from tests.server import Server
from tests.tools import ROOT

STORE = ROOT / "examples/drift-storage-sqlite/store.py"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Plugin:
    return Plugin("storage", tmp_path_factory.mktemp("third-party"), "sqlite", STORE)


@pytest.mark.soak
def test_it_passes_its_own_tests_and_is_clean(plugin: Plugin) -> None:
    assert "passed" in plugin.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    plugin.run("mypy", "--strict", "--no-incremental", "src", "tests")


def test_it_is_proved_as_installed(plugin: Plugin, tmp_path: Path) -> None:
    settings = (
        "--set",
        "storage.type=sqlite",
        "--set",
        f"storage.sqlite.path={tmp_path}",
        "--json",
        str(tmp_path / "out.json"),
    )
    done = plugin.installation.drift("conformance", "storage:sqlite", *settings)
    assert done.returncode == 0, done.stdout
    assert {result["outcome"] for result in json.loads((tmp_path / "out.json").read_text())["rules"]} == {
        "pass",
        "skip",
    }


def test_it_serves_the_whole_oci_suite(plugin: Plugin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(plugin.installation.folder))
    settings = ("storage.type=sqlite", f"storage.sqlite.path={tmp_path / 'blobs'}", "registry.sparse_manifests=true")
    with Server(tmp_path / "registry", *settings) as server:
        check_every_test_passes("dev", server.host, tmp_path)
    assert (tmp_path / "blobs/blobs.sqlite").stat().st_size > 0
