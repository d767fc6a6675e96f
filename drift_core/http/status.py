"""Endpoints for those who run the server: alive, ready, version."""

from litestar import HttpMethod, Response, route
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec

from drift_core import __version__
from drift_core.errors import Unavailable
from drift_core.registry.registry import Registry

READ = [HttpMethod.GET, HttpMethod.HEAD]
UNREADY = ResponseSpec(dict[str, str], generate_examples=False, description="Not ready, with the reason")


def status_routes(registry: Registry) -> list[HTTPRouteHandler]:
    """Returns the handlers of `/health`, `/healthz`, `/readyz` and `/version`."""

    @route(["/health", "/healthz"], http_method=READ, sync_to_thread=False)
    def health() -> dict[str, str]:
        """Says that the process answers; it asks nothing else."""
        return {"status": "ok"}

    @route("/readyz", http_method=READ, responses=dict.fromkeys((503, 507), UNREADY))
    async def ready() -> Response[dict[str, str]]:
        """Says whether storage and database work at this moment: 200, or 503 or 507 with the reason."""
        try:
            await registry.check()
        except Unavailable as error:
            return Response({"status": "unavailable", "reason": error.message}, status_code=error.status)
        return Response({"status": "ready"})

    @route("/version", http_method=READ, sync_to_thread=False)
    def version() -> dict[str, str]:
        """Says which version runs, and which API it speaks."""
        return {"name": "drift", "version": __version__, "api_version": "registry/2.0"}

    return [health, ready, version]
