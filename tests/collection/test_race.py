"""Writers that share layers, delete and push again beside a collector without grace: what they were told stays."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.nodes import Cluster, Node, tracebacks
from tests.collection.writers import LAYERS, REPOSITORIES, Writers
from tests.faults.inspection import PATIENCE, eventually, fsck, tracebacks_in_log
from tests.server import Server
from tests.services.minio import Minio
from tests.services.postgresql import Postgresql

LEASE = 4.0

SHORT, LONG = 20.0, 600.0
"""Seconds of writing, in `make test` and in `make soak`."""

SETTINGS = (
    "garbage_collector.enabled=true",
    "garbage_collector.grace_period_hours=0",
    "garbage_collector.interval_hours=0.0001",
    "garbage_collector.max_share=1.0",
    "garbage_collector.removals_per_second=0",
    "garbage_collector.dry_first=false",
    "registry.restore_hours=0",
    "registry.min_age_days=0",
    "registry.immutable_tags=[]",
    f"registry.lease_seconds={LEASE}",
)
"""Everything goes as soon as no lease keeps it, and its bytes as soon as nobody can be told of them."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "server", *SETTINGS) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, postgresql: Postgresql) -> Iterator[Cluster]:
    with Minio() as minio:
        shared = (
            f"metadata.url={postgresql.url(postgresql.new_database())}",
            *minio.settings(minio.new_bucket()),
            "storage.s3.redirect=false",
            "cluster.enabled=true",
        )
        nodes = [Node(tmp_path / f"node{number}", *shared, *SETTINGS) for number in range(2)]
        with Cluster(tmp_path, nodes) as cluster:
            cluster.whole()
            yield cluster


def race(server: Server, url: str, seconds: float) -> None:
    with Writers(url, LEASE) as writers:
        writers.go_on(seconds)
    # The test itself must have tested something.
    assert writers.pushed > seconds
    assert writers.reused > seconds
    assert writers.deleted > seconds / 2
    with httpx.Client(base_url=server.url, timeout=30) as client:
        runs = client.get("/admin/gc/status").json()["runs"]
        assert not [run for run in runs if run["state"] == "failed"], runs
        writers_are_gone(client, server)


def writers_are_gone(client: httpx.Client, server: Server) -> None:
    """Deletes every tag, after which nothing is left but what nobody may rely on any more."""
    for repository in REPOSITORIES:
        for tag in client.get(f"/v2/{repository}/tags/list").json()["tags"]:
            assert client.delete(f"/v2/{repository}/manifests/{tag}").status_code == 202
    deadline = time.monotonic() + PATIENCE
    while left := stored(client):
        runs = client.get("/admin/gc/status").json()["runs"]
        assert time.monotonic() < deadline, f"{left} are still there, after {runs}"
        time.sleep(LEASE / 4)
    eventually(lambda: fsck(server).clean, "nothing unrecorded, nothing lost")


def stored(client: httpx.Client) -> list[str]:
    paths = [f"/v2/{repository}/blobs/{layer.digest}" for repository in REPOSITORIES for layer in LAYERS]
    return [path for path in paths if client.get(path).status_code == 200]


def test_files_and_sqlite(server: Server) -> None:
    race(server, server.url, SHORT)
    assert not tracebacks_in_log(server)


@pytest.mark.soak
def test_files_and_sqlite_for_ten_minutes(server: Server) -> None:
    race(server, server.url, LONG)
    assert not tracebacks_in_log(server)


def test_two_nodes_on_postgresql_and_minio(cluster: Cluster) -> None:
    race(cluster.nodes[0], cluster.url, SHORT)
    assert not list(tracebacks(cluster.nodes))


@pytest.mark.soak
def test_two_nodes_on_postgresql_and_minio_for_ten_minutes(cluster: Cluster) -> None:
    race(cluster.nodes[0], cluster.url, LONG)
    assert not list(tracebacks(cluster.nodes))
