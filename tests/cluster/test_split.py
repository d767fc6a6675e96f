"""A node that is cut off from the database, and from nothing else, by a network of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.cluster.client import Client
from tests.cluster.conftest import NODES, shared
from tests.cluster.load import MOVING, Load
from tests.cluster.nodes import Cluster, Node, leading
from tests.cluster.split import Island
from tests.faults.inspection import PATIENCE, eventually
from tests.oci.content import index
from tests.services.minio import Minio
from tests.services.postgresql import Postgresql

LEASE = 6.0
"""Seconds after which others lead where a leader on PostgreSQL says nothing any more."""

_serial = count()


@pytest.fixture
def repository(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return f"split/{request.node.originalname.replace('_', '-')}-{next(_serial)}"


@contextmanager
def islander(tmp_path: Path, postgresql: Postgresql, minio: Minio) -> Iterator[tuple[Cluster, Node, Island]]:
    """Starts nodes of which the last lives in a network namespace of its own."""
    every = shared(postgresql, minio)
    with Island(tmp_path / "island", postgresql.port, minio.port) as island:
        database = every[0].replace(postgresql.address, island.database)
        storage = f"storage.s3.endpoint=http://{island.storage}"
        apart = Node(
            tmp_path / "apart",
            *every,
            database,
            storage,
            'auth.mode="none"',
            "storage.s3.redirect=false",
            address=island.address,
            prefix=island.prefix,
        )
        near = [Node(tmp_path / f"node{number}", *every, "storage.s3.redirect=false") for number in range(NODES - 1)]
        with Cluster(tmp_path, [*near, apart]) as cluster:
            cluster.whole()
            yield cluster, apart, island


def test_a_node_is_split_from_the_database(
    tmp_path: Path, postgresql: Postgresql, minio: Minio, repository: str
) -> None:
    """It says that it cannot answer, and never what was true before the split; the others go on, and then it does."""
    with islander(tmp_path, postgresql, minio) as (cluster, apart, island), Load(cluster.url, repository) as load:
        load.goes_on()
        with Client(apart.url, timeout=PATIENCE) as client:
            client.pull(repository, MOVING)
            island.cut()
            moved = len(load.moved)
            eventually(lambda: len(load.moved) > moved + 1, "a tag that was moved past the split")
            began = time.monotonic()
            for path in (f"manifests/{MOVING}", "tags/list", f"manifests/{load.moved[0].digest}"):
                answer = client.ask("GET", f"/v2/{repository}/{path}", accept="*/*")
                assert answer.status_code == 503, f"{path}: {answer.status_code} {answer.text}"
            late = index(annotations={"written": "during the split"})
            answer = client.ask(
                "PUT", f"/v2/{repository}/manifests/{MOVING}", None, late.content, content_type=late.media_type
            )
            assert answer.status_code == 503, answer.text
            assert time.monotonic() - began < PATIENCE
            eventually(lambda: not cluster.balancer.standing()[apart.name], "the node out of the balancer")
            load.goes_on()
            island.mend()
            cluster.whole()
            # What it was asked to write while it could not must not be written now.
            assert client.pull(repository, MOVING)[1] != late.content
            load.goes_on()
            assert client.ask("HEAD", f"/v2/{repository}/manifests/{late.digest}").status_code == 404


def test_a_leader_is_split_from_the_database(
    tmp_path: Path, postgresql: Postgresql, minio: Minio, repository: str
) -> None:
    with islander(tmp_path, postgresql, minio) as (cluster, apart, island), Load(cluster.url, repository) as load:
        for node in cluster.others(apart):
            assert node.stop(PATIENCE) == 0
        eventually(lambda: leading(apart.cluster()) == apart.name, "the node apart leads")
        for node in cluster.others(apart):
            node.start(PATIENCE)
        cluster.whole()
        load.goes_on()
        island.cut()
        new = cluster.successor(apart)
        epoch = new.cluster()["lease"]["epoch"]
        load.goes_on()
        island.mend()
        cluster.whole()
        time.sleep(LEASE)
        assert cluster.leader() is new
        assert new.cluster()["lease"]["epoch"] == epoch
        load.goes_on()
