"""Builds the application: `/v2` by itself, and in Litestar the status endpoints and the routes of features."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from drift_core.errors import EndpointUnknown, PluginError, RegistryError, Unsupported
from drift_core.http.access import RequestLog, defect
from drift_core.http.guard import EVERYTHING, PUBLIC, Guard
from drift_core.http.message import Request as V2Request
from drift_core.http.message import error_reply
from drift_core.http.routes import PREFIX
from drift_core.http.status import status_routes
from drift_core.http.v2 import V2
from drift_core.protocols import AsgiApp, SupportsRoutes
from drift_core.registry.registry import Registry

ROOT, BELOW = PREFIX.encode(), f"{PREFIX}/".encode()


def build_app(registry: Registry, guard: Guard, features: Sequence[object] = ()) -> AsgiApp:
    """Returns the application that every transport serves.

    A route of a feature is behind the guard: it needs the scope in its handler's ``opt["scope"]``, else `EVERYTHING`.
    """
    v2 = V2(registry, guard)

    async def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if connection.scope["path"] in PUBLIC:
            return
        credentials = V2Request(connection.scope, None).credentials()
        identity = await guard.admit(credentials, (handler.opt.get("scope", EVERYTHING),))
        connection.scope["user"] = identity

    routes = [route for feature in features if isinstance(feature, SupportsRoutes) for route in _routes(feature)]
    others = Litestar(
        [*status_routes(registry), *routes],
        guards=[admit],
        exception_handlers={
            RegistryError: _answer_error,
            HTTPException: _answer_framework_error,
            Exception: _answer_unexpected,
        },
        openapi_config=None,
        logging_config=None,
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Not as a route of Litestar's, which would take as long to find it as it takes to answer.
        # By the raw path, which `/v2` reads anyway: an application around this one may have changed the other.
        path = scope.get("raw_path") or scope["path"].encode() if scope["type"] == "http" else b""
        if path == ROOT or path.startswith(BELOW):
            await v2(scope, receive, send)
        else:
            await others(scope, receive, send)

    return RequestLog(app, structlog.get_logger("drift.http"))


def _routes(feature: SupportsRoutes) -> Sequence[Any]:
    try:
        return list(feature.routes())
    except Exception as error:
        named = getattr(feature, "name", type(feature).__name__)
        raise PluginError(f"the routes of the feature {named!r}: {type(error).__name__}: {error}") from error


def _answer_error(_: Request[Any, Any, Any], error: RegistryError) -> Response[bytes]:
    reply = error_reply(error)
    content = reply.body if isinstance(reply.body, bytes) else b""
    headers: dict[str, str] = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in reply.headers):
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Response(content, status_code=reply.status, headers=headers, media_type="application/json")


def _answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    return _answer_error(request, defect(request.scope, error))


def _answer_framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    path = request.scope["path"]
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _answer_unexpected(request, error)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _answer_error(request, EndpointUnknown(path=path[:256]))
    allowed: set[str] = set()
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed.update(*(getattr(route, "methods", ()) for route in request.app.routes if route.path == path))
    reply = _answer_error(request, Unsupported(error.detail, tuple(sorted(allowed))))
    reply.status_code = error.status_code
    reply.headers.update(error.headers or {})
    return reply
