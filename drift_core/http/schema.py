"""Says what the server answers beside the distribution specification, as OpenAPI, made of the routes themselves."""

import asyncio
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from http.client import responses as phrases
from typing import Any, Final

import msgspec
from litestar import Litestar, Response, get
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response.base import ASGIResponse
from litestar.routes import HTTPRoute
from msgspec import Struct

from drift_core import __version__
from drift_core.errors import RegistryError
from drift_core.guard import Guard
from drift_core.http.schema_page import CSP, page
from drift_core.model import EVERYTHING, Scope

SCHEMA, SCHEMA_JSON = "/schema", "/schema/openapi.json"

KNOWN = "whoever has logged in"
"""What a route needs whose scope is None."""

FROM_PATH = "a scope of the path"
"""What a route needs whose scope is made of its path, where that cannot be shown."""

ABOUT = """What this server answers beside `/v2`, with the plugins that it has. `/v2` is that of the distribution \
specification, <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>, but for the paths below it \
that are here. `x-drift-needs` is the right that a request needs, as KIND:NAME:ACTION, where somebody has to log in."""

NOTHING: Final = (None, type(None))
"""What a handler is annotated with that answers no content."""

UNSHOWN: Final = (bytes, Any)
"""Types that say nothing about the content."""

PARAMETER = re.compile(r"\{([^}]*)\}")
REFERENCE: Final = "#/components/schemas/{name}"
ERROR: Final = "Error"
"""The answer of 400 and above that most operations have; it is described once."""

JSON: Final = MediaType.JSON.value


class Group(Struct, frozen=True):
    """Routes, and whose they are: a plugin's name, or ``core``."""

    name: str
    routes: Sequence[Any]


class Error(Struct, frozen=True):
    """What went wrong; ``code`` is one of those of the distribution specification, ``detail`` names what is wrong."""

    code: str
    message: str
    detail: dict[str, Any]


class Errors(Struct, frozen=True):
    """The body of every answer of 400 and above, unless its route has another form."""

    errors: Sequence[Error]


class OpenApi(Struct, frozen=True):
    """A document of the OpenAPI specification, version 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


class Made(Struct, frozen=True):
    """The document in both forms."""

    json: bytes
    html: bytes


class Document:
    """The document of a server, made when it is first asked for: in a thread, since that takes a tenth of a second.

    The first of ``groups`` is the core's, and gets the routes of the document, too. ``public`` are paths that ask
    nobody, beside those of handlers that say so.
    """

    def __init__(self, groups: Sequence[Group], guard: Guard, public: Collection[str]) -> None:
        first, *others = groups
        self._groups = [Group(first.name, [*first.routes, *self.routes()]), *others]
        self._guard = guard
        self._public = public
        self._turn = asyncio.Lock()
        self._made: Made | None = None

    def routes(self) -> list[HTTPRouteHandler]:
        """Returns the handlers of `/schema`. Who may use the server may know what it can do; nobody else has to."""

        @get(SCHEMA, scope=None, answers={"text/html": bytes})
        async def shown() -> Response[bytes]:
            """Shows what this server answers beside the distribution specification, to read in a browser."""
            headers = {"content-security-policy": CSP, "x-content-type-options": "nosniff"}
            return _reply((await self.made()).html, "text/html", headers)

        @get(SCHEMA_JSON, scope=None, answers=OpenApi)
        async def document_of_server() -> Response[bytes]:
            """Answers the same as an OpenAPI 3.1 document, for programs."""
            return _reply((await self.made()).json, "application/json")

        return [shown, document_of_server]

    async def made(self) -> Made:
        """Returns the document, which whoever asks first waits for."""
        async with self._turn:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)
        return self._made

    def _make(self) -> Made:
        found = document(self._groups, self._guard.schemes, self._public)
        return Made(msgspec.json.encode(found), page(found).encode())


def document(groups: Sequence[Group], schemes: Sequence[str], public: Collection[str]) -> dict[str, Any]:
    """Returns the OpenAPI document of some routes; ``schemes`` are those by which clients log in, such as ``basic``.

    ``public`` are paths that ask nobody.

    Paths and parameters are what Litestar finds in the handlers; bodies and answers are shown by msgspec, which reads
    and writes them, from the handlers' annotations and what their ``opt`` says; see `SupportsRoutes`.
    """
    config = OpenAPIConfig(
        "Drift",
        __version__,
        description=ABOUT,
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        components=Components(security_schemes={name: SecurityScheme("http", scheme=name) for name in schemes}),
        # Where Litestar would serve its own; what it is asked here serves nothing.
        path="/-",
    )
    found: dict[str, Any] = {}
    operations: list[_Operation] = []
    for group in groups:
        # Applications of their own, so that nobody who does not ask pays for it: not at the start, and not in memory.
        # No routers of our own: those would be copied with all that the handlers are methods of.
        app = Litestar([*group.routes], openapi_config=config, logging_config=None)
        part: dict[str, Any] = app.openapi_schema.to_schema()
        routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
        operations += [one for route in routes for one in _operations(part, route, group.name)]
        found = found or {**part, "paths": {}}
        for path, item in part["paths"].items():
            found["paths"].setdefault(path, {}).update(item)
    kinds = [Errors, *(kind for one in operations for kind in one.kinds)]
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_shown, ref_template=REFERENCE)
    shown, components = iter(_portable(schemas)), _portable(components)
    errors = next(shown)
    for one in operations:
        one.describe(schemes, public, errors, [next(shown) for _ in one.kinds], components)
    # Litestar's own are those of bodies and answers, which do not name them any more.
    found["components"]["schemas"] = components
    found["components"]["responses"] = {ERROR: {"description": "An error", "content": {JSON: {"schema": errors}}}}
    return found


def _operations(document: Mapping[str, Any], route: HTTPRoute, group: str) -> list["_Operation"]:
    return [
        _Operation(document["paths"][route.path_format or "/"][method.lower()], handler, route.path_format, group)
        for handler in route.route_handlers
        if handler.resolve_include_in_schema()
        for method in handler.http_methods
    ]


def needs(handler: HTTPRouteHandler, path: str) -> str:
    """Returns who may use a route, as it is shown: a scope that may name parameters of the path, or a sentence."""
    if handler.opt.get("public") is True:
        return "public"
    scope = handler.opt.get("scope", EVERYTHING)
    if scope is None:
        return KNOWN
    if isinstance(scope, Scope):
        return str(scope)
    try:
        return str(scope({name: f"{{{name}}}" for name in PARAMETER.findall(path)}))
    except (RegistryError, LookupError, ValueError):
        return FROM_PATH


class _Operation:
    """A method of a path, whose part of the document Litestar has begun."""

    def __init__(self, found: dict[str, Any], handler: HTTPRouteHandler, path: str, group: str) -> None:
        self._found = found
        self._handler = handler
        self._path = path
        self._group = group
        data = handler.parsed_fn_signature.parameters.get("data")
        others = {str(status): one.data_container for status, one in (handler.responses or {}).items()}
        wanted: dict[str, Any] = {
            "body": handler.opt.get("body", None if data is None else data.raw),
            "query": handler.opt.get("query"),
            "answers": _answer_of(handler),
            "errors": handler.opt.get("errors"),
            **others,
        }
        self._contents = {place: _contents(kind) for place, kind in wanted.items()}
        self._kinds = {
            (place, media_type): kind
            for place, content in self._contents.items()
            for media_type, kind in content.items()
            if kind not in UNSHOWN and _is_known(kind)
        }

    @property
    def kinds(self) -> list[Any]:
        """The types of which the document has to have the schemas."""
        return list(self._kinds.values())

    def describe(
        self,
        schemes: Sequence[str],
        public: Collection[str],
        errors: Any,
        schemas: Sequence[Any],
        components: Mapping[str, Any],
    ) -> None:
        """Writes what Litestar cannot know; ``schemas`` are those of `kinds`."""
        found, handler = self._found, self._handler
        known = dict(zip(self._kinds, schemas, strict=True))
        shown = {
            place: {media: {"schema": known[place, media]} if (place, media) in known else {} for media in content}
            for place, content in self._contents.items()
        }
        text = re.sub(r"``([^`]*)``", r"`\1`", found.pop("description", ""))
        summary, _, more = (part.strip() for part in text.partition("\n\n"))
        found["summary"] = " ".join(summary.split())
        if more:
            found["description"] = inspect.cleandoc(more)
        found["tags"] = [self._group]
        needed = "public" if self._path in public else needs(handler, self._path)
        found["x-drift-needs"] = needed
        rights = [] if needed in (KNOWN, FROM_PATH) else [needed]
        found["security"] = [] if needed == "public" else [{scheme: rights} for scheme in schemes]
        found.pop("requestBody", None)
        if shown["body"]:
            found["requestBody"] = {"content": shown["body"]}
        if ("query", JSON) in known:
            found.setdefault("parameters", []).extend(_parameters(known["query", JSON], components))
        found["responses"] = self._responses(shown, errors)

    def _responses(self, shown: Mapping[str, dict[str, Any]], errors: Any) -> dict[str, Any]:
        status = self._handler.status_code
        found = {str(status): _answer(phrases.get(status, "An answer"), shown["answers"])}
        for other, one in (self._handler.responses or {}).items():
            found[str(other)] = _answer(one.description, shown[str(other)])
        failure: Any = {"$ref": f"#/components/responses/{ERROR}"}
        if own := shown["errors"]:
            # Who answers all errors in a form of its own has no others.
            usual = {} if RegistryError in self._handler.resolve_exception_handlers() else {JSON: {"schema": errors}}
            both = {JSON: {"schema": {"anyOf": [own[JSON].get("schema", {}), errors]}}} if usual and JSON in own else {}
            failure = _answer("An error", {**usual, **own, **both})
        return {**found, "default": failure}


def _answer(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, **({"content": content} if content else {})}


def _contents(said: Any) -> dict[str, Any]:
    """Returns the types of a body by media type: a type alone is that of JSON."""
    if isinstance(said, Mapping):
        return {**said}
    return {} if said in NOTHING else {JSON: said}


def _answer_of(handler: HTTPRouteHandler) -> Any:
    """Returns the type of what a handler answers, or types by media type."""
    if "answers" in handler.opt:
        return handler.opt["answers"]
    returned = handler.parsed_fn_signature.return_type
    kind = returned.raw
    if returned.is_subclass_of((Response, ASGIResponse)):
        kind = returned.inner_types[0].raw if returned.inner_types else Any
    media_type = getattr(handler.media_type, "value", handler.media_type)
    if kind in UNSHOWN and not media_type:
        return None
    return {media_type: kind} if media_type and kind not in NOTHING else kind


def _is_known(kind: Any) -> bool:
    """Says whether msgspec can show a type: a plugin may answer what another library writes."""
    try:
        msgspec.json.schema_components([kind], schema_hook=_shown)
    except (TypeError, NameError, NotImplementedError):
        return False
    return True


def _shown(kind: type[Any]) -> dict[str, Any]:
    """Shows what msgspec reads by itself only as its base class, such as a `Digest`."""
    if isinstance(kind, type) and issubclass(kind, str):
        return {"type": "string"}
    raise NotImplementedError


def _portable(schema: Any) -> Any:
    """Returns a schema whose patterns are those of ECMA-262, to which the end of a text is ``$`` (JSON Schema 6.4)."""
    if isinstance(schema, list | tuple):
        return [_portable(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: _portable(one) for name, one in schema.items()}
    pattern = found.get("pattern")
    return {**found, "pattern": re.sub(r"\\Z$", "$", pattern)} if isinstance(pattern, str) else found


def _parameters(query: Mapping[str, Any], components: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the fields of a Struct as parameters of a query."""
    struct = components[query["$ref"].rpartition("/")[2]]
    return [
        {"name": name, "in": "query", "required": name in struct.get("required", ()), "schema": schema}
        for name, schema in struct["properties"].items()
    ]


def _operation_id(_: HTTPRouteHandler, method: Any, components: list[Any]) -> str:
    """Returns a name that no other operation has: method and path."""
    parts = [part if isinstance(part, str) else f"by-{part.name}" for part in components]
    return "-".join([str(getattr(method, "value", method)).lower(), *parts])


def _reply(content: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(content, media_type=media_type, headers={"cache-control": "no-store", **(headers or {})})
