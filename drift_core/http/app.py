"""Builds the application: `/v2` by itself, and in Litestar the status endpoints and the routes of features."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from litestar import HttpMethod, Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, LitestarException
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from msgspec import Struct

from drift_core.asking import answer
from drift_core.config import Config
from drift_core.errors import EndpointUnknown, PluginError, RegistryError, Unsupported
from drift_core.http.access import RequestLog, defect, request_log
from drift_core.http.admin import CLUSTER, COLLECTION, COLLECTION_STATUS, admin_routes
from drift_core.http.client import Clients
from drift_core.http.limits import Limits
from drift_core.http.lookaside import ANNOUNCED, LOOKASIDE, lookaside_routes
from drift_core.http.measures import Measures
from drift_core.http.message import ClientGone, error_reply
from drift_core.http.routes import PREFIX, is_endpoint
from drift_core.http.schema import FROM_PATH, KNOWN, SCHEMA, SCHEMA_JSON, Document, Group
from drift_core.http.signing import KEYS, SIGN, VERIFY, signing_routes
from drift_core.http.status import status_routes
from drift_core.http.v2 import V2
from drift_core.model import EVERYTHING, Scope
from drift_core.protocols.features import SupportsHeaders, SupportsRoutes
from drift_core.runtime import Runtime
from drift_core.signing.exchange import Exchange

PUBLIC = frozenset({"/health", "/healthz", "/readyz", "/version"})
"""Every path of the core that answers without credentials; those of plugins say ``opt["public"]``, and
`drift plugins routes` lists them all."""

VARIABLE = re.compile(r"\{[^}]*\}")
"""A part of a route that may be anything but a slash."""

CORE = "core"
"""Whose the routes are that no plugin adds."""

ROOT, BELOW = PREFIX.encode(), f"{PREFIX}/".encode()


def build_app(config: Config, runtime: Runtime) -> RequestLog:
    """Returns the application that every transport serves.

    A route of a feature is behind the guard; see `SupportsRoutes`.
    """
    registry, guard, features = runtime.registry, runtime.guard, runtime.features
    clients = Clients(config.server.trusted_proxies)
    limits = Limits(config.registry, guard)
    exchange = Exchange(runtime.signing)
    v2 = V2(registry, guard, clients, limits, (ANNOUNCED,) if exchange.offered else ())

    async def admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        connection.scope["user"] = None
        if connection.scope["path"] in PUBLIC:
            return
        if registry.several_nodes:
            await registry.look()
        credentials = clients.credentials(connection.scope)
        connection.scope["auth"] = credentials
        answer(credentials)
        if handler.opt.get("public") is True:
            await limits.admit_anybody(credentials)
        else:
            connection.scope["user"] = await limits.admit(credentials, _needed(connection, handler))

    ours = [
        *status_routes(registry),
        *admin_routes(registry, config),
        *signing_routes(runtime.signing),
        *lookaside_routes(exchange),
    ]
    named = runtime.named_features
    theirs = [Group(plugin, _routes(feature)) for plugin, feature in named if isinstance(feature, SupportsRoutes)]
    schema = Document([Group(CORE, ours), *theirs], guard, PUBLIC)
    others = Litestar(
        [*ours, *schema.routes(), *(route for group in theirs for route in group.routes)],
        guards=[admit],
        exception_handlers={
            RegistryError: _answer_error,
            HTTPException: _answer_framework_error,
            Exception: _answer_unexpected,
        },
        openapi_config=None,
        logging_config=None,
    )

    beside = _beside(others)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Not as a route of Litestar's, which would take as long to find it as it takes to answer.
        # By the raw path, which `/v2` reads anyway: an application around this one may have changed the other.
        path = scope.get("raw_path") or scope["path"].encode() if scope["type"] == "http" else b""
        ours = path == ROOT or path.startswith(BELOW)
        if ours and beside is not None and beside.fullmatch(path):
            ours = is_endpoint(path.decode())
        if ours:
            await v2(scope, receive, send)
        else:
            await _answer(others, scope, receive, send)

    headers = [header for feature in features if isinstance(feature, SupportsHeaders) for header in feature.headers]
    return request_log(app, clients, Measures(runtime.metrics), runtime.observers, headers)


def _beside(others: Litestar) -> re.Pattern[bytes] | None:
    """Returns what the paths below `/v2` look like that features answer, or None where there are none."""
    paths = [route.path_format for route in others.routes if route.path_format.startswith(f"{PREFIX}/")]
    forms = ["[!-.0-~]+".join(map(re.escape, VARIABLE.split(path))) for path in paths]
    return re.compile("|".join(forms).encode()) if forms else None


async def _answer(others: Litestar, scope: Any, receive: Any, send: Any) -> None:
    """Lets Litestar answer; that the client left before the end, which it wraps, is nobody's fault."""
    try:
        await others(scope, receive, send)
    except LitestarException as error:
        if not isinstance(error.__cause__, ClientGone):
            raise


class Endpoint(Struct, frozen=True):
    """A route beside `/v2`, and who may use it: the scope that is needed, "public", or a sentence."""

    path: str
    methods: tuple[str, ...]
    needs: str


OURS = (
    *(
        Endpoint(path, methods, str(EVERYTHING))
        for path, methods in (
            (CLUSTER, ("GET",)),
            (COLLECTION, ("POST",)),
            (COLLECTION_STATUS, ("GET",)),
            (KEYS, ("GET",)),
            (SIGN, ("POST",)),
            (VERIFY, ("POST",)),
        )
    ),
    Endpoint(LOOKASIDE.replace(":path", ""), ("GET", "PUT"), FROM_PATH),
    *(Endpoint(path, ("GET",), KNOWN) for path in (SCHEMA, SCHEMA_JSON)),
)


def endpoints(features: Sequence[object]) -> list[Endpoint]:
    """Returns every route of features, in order of their paths, after those of the core that somebody may not use.

    Raises `PluginError`.
    """
    handlers = [route for feature in features if isinstance(feature, SupportsRoutes) for route in _routes(feature)]
    found = sorted(
        (
            Endpoint(route.path_format, tuple(sorted(handler.http_methods)), _described(handler))
            for route in Litestar(handlers, openapi_config=None, logging_config=None).routes
            if isinstance(route, HTTPRoute)
            for handler in route.route_handlers
            # Litestar adds answers to OPTIONS by itself, behind the same guard.
            if set(handler.http_methods) != {HttpMethod.OPTIONS}
        ),
        key=lambda endpoint: (endpoint.path, endpoint.methods),
    )
    return [*OURS, *found]


def _described(handler: BaseRouteHandler) -> str:
    scope = handler.opt.get("scope", EVERYTHING)
    if handler.opt.get("public") is True:
        return "public"
    if scope is None:
        return KNOWN
    return str(scope) if isinstance(scope, Scope) else FROM_PATH


def _needed(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> tuple[Scope, ...]:
    scope = handler.opt.get("scope", EVERYTHING)
    if scope is None:
        return ()
    return (scope if isinstance(scope, Scope) else scope(connection.path_params),)


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
