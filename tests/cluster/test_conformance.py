"""The OCI suite where no two requests of a test meet the same node, and where the records are SQLite's."""

from pathlib import Path

import pytest

from tests.cluster.conftest import NODES, BuildCluster
from tests.cluster.nodes import tracebacks
from tests.conformance_oci.suite import FEWEST, check_every_test_passes
from tests.server import Server
from tests.services.minio import Minio

REDIRECTS = pytest.mark.parametrize(
    "redirect", [pytest.param(False, id="streams"), pytest.param(True, id="redirects", marks=pytest.mark.soak)]
)
VERSION = pytest.mark.parametrize("version", ["1.1", pytest.param("dev", marks=pytest.mark.soak)])


def without(redirect: bool) -> tuple[str, ...]:
    """Returns what the suite is not to ask for: after a redirect the object store answers, without the header."""
    return ("BLOBS_DIGEST_HEADER",) if redirect else ()


@VERSION
@REDIRECTS
def test_through_three_nodes(version: str, redirect: bool, build_cluster: BuildCluster, tmp_path: Path) -> None:
    cluster = build_cluster("registry.sparse_manifests=true", f"storage.s3.redirect={str(redirect).lower()}")
    check_every_test_passes(version, cluster.balancer.host, tmp_path, without(redirect))
    for node in cluster.nodes:
        # A request has a line of its own in the log.
        asked = sum('"path": "/v2/conformance/' in line for line in node.log.read_text().splitlines())
        assert asked > FEWEST / NODES, f"{node.name} was asked {asked} times"
    assert not list(tracebacks(cluster.nodes))


@VERSION
@REDIRECTS
def test_with_records_in_sqlite(version: str, redirect: bool, minio: Minio, tmp_path: Path) -> None:
    settings = (
        *minio.settings(minio.new_bucket()),
        "registry.sparse_manifests=true",
        f"storage.s3.redirect={str(redirect).lower()}",
    )
    with Server(tmp_path / "registry", *settings) as server:
        check_every_test_passes(version, server.host, tmp_path, without(redirect))
