"""One PostgreSQL and one MinIO for every test here; each registry has a database and a bucket of its own in them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.client import Client
from tests.cluster.nodes import Cluster, Node
from tests.services.minio import Minio
from tests.services.postgresql import Postgresql

NODES = 3

BuildCluster = Callable[..., Cluster]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def minio() -> Iterator[Minio]:
    with Minio() as server:
        yield server


@pytest.fixture(scope="module")
def build_cluster(
    tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql, minio: Minio
) -> Iterator[BuildCluster]:
    """Makes a database and a bucket and starts nodes on them; later settings win over earlier ones."""
    with ExitStack() as started:

        def build(*settings: str, nodes: int = NODES, variables: dict[str, str] | None = None) -> Cluster:
            folder = tmp_path_factory.mktemp("cluster")
            every = (*shared(postgresql, minio), *settings)
            members = [Node(folder / f"node{number}", *every, variables=variables) for number in range(nodes)]
            return started.enter_context(Cluster(folder, members))

        yield build


@pytest.fixture(scope="module")
def cluster(build_cluster: BuildCluster) -> Cluster:
    """Three nodes, whose answers to pulls are streams and no redirects."""
    return build_cluster("storage.s3.redirect=false")


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    """A client of the balancer."""
    cluster.whole()
    with Client(cluster.url) as client:
        yield client


def shared(postgresql: Postgresql, minio: Minio) -> list[str]:
    """Returns the settings of a registry on a new database and in a new bucket."""
    return [
        f"metadata.url={postgresql.url(postgresql.new_database())}",
        *minio.settings(minio.new_bucket()),
        "registry.immutable_tags=[]",
        "cluster.enabled=true",
    ]
