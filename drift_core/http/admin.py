"""Endpoints for those who may do everything: the state of the cluster."""

from litestar import get
from litestar.handlers import HTTPRouteHandler

from drift_core.config import Config
from drift_core.metadata.cluster import ClusterState
from drift_core.registry.registry import Registry

CLUSTER = "/admin/cluster"


def admin_routes(registry: Registry, config: Config) -> list[HTTPRouteHandler]:
    """Returns the handler of `/admin/cluster`."""

    @get(CLUSTER)
    async def cluster() -> ClusterState:
        """Says which nodes share the database, who leads, and what waits to be told."""
        return await registry.cluster(config.cluster)

    return [cluster]
