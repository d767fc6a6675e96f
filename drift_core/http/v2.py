"""The `/v2` application: finds the endpoint, asks the guard, and answers every error in the specification's form."""

from typing import Any

from msgspec.structs import replace

from drift_core.asking import answer
from drift_core.errors import RegistryError, Unsupported
from drift_core.guard import Guard
from drift_core.http.access import ENDPOINT, defect
from drift_core.http.blobs import delete_blob, get_blob
from drift_core.http.client import Clients
from drift_core.http.discovery import get_base, get_catalog, get_extensions, get_referrers, get_tags
from drift_core.http.exchange import Endpoint, Exchange
from drift_core.http.limits import Limits
from drift_core.http.manifests import delete_manifest, get_manifest, put_manifest
from drift_core.http.message import ClientGone, Headers, Reply, Request, error_reply
from drift_core.http.routes import PREFIX, Route, parse_path
from drift_core.http.uploads import append_chunk, begin_upload, cancel_upload, commit_upload, upload_status
from drift_core.model import CATALOG, Identity, Scope
from drift_core.registry.registry import Registry

ENDPOINTS: dict[str, dict[str, Endpoint]] = {
    "base": {"GET": get_base},
    "catalog": {"GET": get_catalog},
    "extensions": {"GET": get_extensions},
    "tags": {"GET": get_tags},
    "referrers": {"GET": get_referrers},
    "manifest": {"GET": get_manifest, "PUT": put_manifest, "DELETE": delete_manifest},
    "blob": {"GET": get_blob, "DELETE": delete_blob},
    "uploads": {"POST": begin_upload},
    "upload": {"GET": upload_status, "PATCH": append_chunk, "PUT": commit_upload, "DELETE": cancel_upload},
}
"""Every endpoint by method; HEAD is GET without a body."""

ACTIONS = {"GET": "pull", "POST": "push", "PUT": "push", "PATCH": "push", "DELETE": "delete"}


BASE = (PREFIX, f"{PREFIX}/")
"""Paths by which clients find out what a registry can do."""


class V2:
    """An ASGI application for everything below `/v2`; answers of `/v2/` itself have the headers ``announced``."""

    def __init__(
        self, registry: Registry, guard: Guard, clients: Clients, limits: Limits, announced: Headers = ()
    ) -> None:
        self._registry = registry
        self._looks = registry.several_nodes
        self._announced = announced
        self._guard = guard
        self._clients = clients
        # Not a call more where nothing is counted: this is on the path of every request.
        self._admitted = guard.admit if limits.off else limits.admit
        self._asks_nobody = guard.open and not guard.trail.auditors and limits.off

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request, unless its client leaves."""
        request = Request(scope, receive)
        try:
            try:
                reply = await self._answer(request)
            except RegistryError as error:
                reply = error_reply(error)
            except ClientGone:
                raise
            except Exception as error:  # noqa: BLE001 - a defect of ours is answered like any error
                reply = error_reply(defect(scope, error))
            if self._announced and request.raw_path in BASE:
                reply = replace(reply, headers=[*reply.headers, *self._announced])
            await reply.send(request, send)
        except ClientGone:
            return

    async def _answer(self, request: Request) -> Reply:
        route = parse_path(request.raw_path)
        method = "GET" if request.method == "HEAD" else request.method
        request.scope["state"][ENDPOINT] = route.endpoint
        methods = ENDPOINTS[route.endpoint]
        endpoint = methods.get(method)
        if endpoint is None:
            allowed = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            raise Unsupported(f"{request.method[:16]} is not supported here", allowed)
        if self._looks:
            await self._registry.look()
        identity = await self._admit(request, route, method)
        return await endpoint(Exchange(request, route, self._registry, self._guard, self._clients, identity))

    async def _admit(self, request: Request, route: Route, method: str) -> Identity | None:
        if self._asks_nobody:
            return None
        credentials = self._clients.credentials(request.scope)
        answer(credentials)
        return await self._admitted(credentials, _scopes(route, method))


def _scopes(route: Route, method: str) -> tuple[Scope, ...]:
    if route.endpoint == "catalog":
        return (CATALOG,)
    if not route.name:
        return ()
    # Who asks for the state of an upload, or gives it up, is somebody who pushes.
    action = "push" if route.endpoint == "upload" else ACTIONS[method]
    return (Scope("repository", route.name, action),)
