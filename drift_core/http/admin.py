"""Endpoints for those who may do everything: the state of the cluster, and the garbage collector."""

from typing import Any, Literal, TypeVar

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from drift_core.config import Config
from drift_core.errors import QueryInvalid
from drift_core.metadata.cluster import ClusterState
from drift_core.metadata.runs import Run
from drift_core.registry.collecting import Report
from drift_core.registry.registry import Registry

B = TypeVar("B", bound=Struct)

CLUSTER, COLLECTION, COLLECTION_STATUS = "/admin/cluster", "/admin/gc", "/admin/gc/status"


class ToCollect(Struct, forbid_unknown_fields=True):
    """The body of a wish to collect; a dry run removes nothing."""

    dry_run: bool = False


class Collected(Struct, frozen=True):
    """What `POST /admin/gc` answers once the run has ended."""

    success: bool
    message: str
    metrics: Report


class CollectorStatus(Struct, frozen=True):
    """What waits for the collector, and its last runs, the newest first; beside the keys of its configuration."""

    status: Literal["configured", "not_configured"]
    waiting: int
    runs: list[Run]


def admin_routes(registry: Registry, config: Config) -> list[HTTPRouteHandler]:
    """Returns the handlers of `/admin/cluster` and `/admin/gc`."""

    @get(CLUSTER)
    async def cluster() -> ClusterState:
        """Says which nodes share the database, who leads, and what waits to be told."""
        return await registry.cluster(config.cluster)

    @post(COLLECTION, status_code=200, body=ToCollect)
    async def collect(request: Request[Any, Any, Any]) -> Collected:
        """Runs the collector now and answers when it has ended; ``{"dry_run": true}`` removes nothing."""
        wanted = await body_of(request, ToCollect)
        report = Report()
        async for item in registry.collecting.run("request", request.user, dry_run=wanted.dry_run):
            if isinstance(item, Report):
                report = item
        done = "a dry run: nothing was removed" if wanted.dry_run else "the collection is done"
        return Collected(success=True, message=done, metrics=report)

    @get(COLLECTION_STATUS, answers=CollectorStatus)
    async def collection_status() -> dict[str, Any]:
        """Says how the collector is configured, what waits for it, and what the last runs did."""
        status = await registry.collecting.status()
        found: dict[str, Any] = msgspec.to_builtins(status)
        del found["settings"]
        return {**status.settings, **found}

    return [cluster, collect, collection_status]


async def body_of(request: Request[Any, Any, Any], kind: type[B]) -> B:
    """Returns the body of a request, an empty one like ``{}``. Raises `QueryInvalid`."""
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QueryInvalid(f"the body is not as expected: {error}") from error
