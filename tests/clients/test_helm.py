"""Checks that helm keeps its charts in the registry."""

import json
import tarfile
from pathlib import Path

import pytest

from tests.clients.programs import Programs
from tests.clients.registry_api import RegistryApi
from tests.server import Server

CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def package(run: Programs, folder: Path, version: str) -> Path:
    """Writes a small chart, packs it with helm and returns the archive."""
    chart = folder / "drifting"
    (chart / "templates").mkdir(parents=True, exist_ok=True)
    document = {"apiVersion": "v2", "name": "drifting", "version": version, "description": "A chart that drifts"}
    (chart / "Chart.yaml").write_text(json.dumps(document))
    (chart / "values.yaml").write_text("replicas: 1\n")
    (chart / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: drifting\ndata:\n  replicas: '{{ .Values.replicas }}'\n"
    )
    run("helm", "package", chart, "--destination", folder)
    return folder / f"drifting-{version}.tgz"


@pytest.mark.parametrize(("version", "tag"), [("1.2.3", "1.2.3"), ("1.2.4-rc.1+build.7", "1.2.4-rc.1_build.7")])
def test_a_chart_comes_back_byte_for_byte(
    run: Programs, registry: Server, api: RegistryApi, repository: str, version: str, tag: str, tmp_path: Path
) -> None:
    """Helm pushes a chart and pulls the same archive; its manifest has the media types of charts."""
    archive = package(run, tmp_path, version)
    run("helm", "push", "--plain-http", archive, f"oci://{registry.host}/{repository}")
    served = api.manifest(f"{repository}/drifting", tag).json()
    assert served["config"]["mediaType"] == CONFIG
    assert [layer["mediaType"] for layer in served["layers"]] == [CHART]
    received = tmp_path / "received"
    received.mkdir()
    chart = f"oci://{registry.host}/{repository}/drifting"
    run("helm", "pull", "--plain-http", chart, "--version", version, "--destination", received)
    assert (received / archive.name).read_bytes() == archive.read_bytes()


def test_a_chart_is_shown_and_rendered(run: Programs, registry: Server, repository: str, tmp_path: Path) -> None:
    """Helm reads the newest of two versions out of the registry, and renders it."""
    chart = f"oci://{registry.host}/{repository}/drifting"
    for version in ("0.9.0", "0.10.0"):
        run("helm", "push", "--plain-http", package(run, tmp_path, version), chart.rpartition("/")[0])
    assert "version: 0.10.0" in run("helm", "show", "chart", "--plain-http", chart).text
    rendered = run("helm", "template", "--plain-http", "mine", chart, "--version", "0.9.0", "--set", "replicas=5")
    assert "replicas: '5'" in rendered.text


def test_other_clients_read_a_chart(
    run: Programs, registry: Server, api: RegistryApi, repository: str, tmp_path: Path
) -> None:
    """Oras pulls the archive that helm pushed, and what oras copied helm pulls."""
    archive = package(run, tmp_path, "2.0.0")
    run("helm", "push", "--plain-http", archive, f"oci://{registry.host}/{repository}")
    source, target = (f"{registry.host}/{repository}/{name}drifting" for name in ("", "copied/"))
    plain = ("--no-tty", "--from-plain-http", "--to-plain-http")
    run("oras", "cp", *plain, f"{source}:2.0.0", f"{target}:2.0.0")
    (layer,) = api.manifest(f"{repository}/copied/drifting", "2.0.0").json()["layers"]
    blob = run("oras", "blob", "fetch", "--plain-http", "--output", "-", f"{source}@{layer['digest']}")
    assert blob.data == archive.read_bytes()
    run("helm", "pull", "--plain-http", f"oci://{target}", "--version", "2.0.0", "--destination", run.home)
    with tarfile.open(run.home / archive.name) as unpacked:
        assert "drifting/Chart.yaml" in unpacked.getnames()
