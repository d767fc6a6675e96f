"""Makes a span of each request and of each question to a driver, as OpenTelemetry's conventions for HTTP name them."""

import asyncio
import re
from collections.abc import Mapping
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from drift_core.api import Call, RegistryError

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Those of RFC 9110 and RFC 5789; another is ``_OTHER`` (semantic conventions, "http.request.method")."""

TRACE_CONTEXT: Final = frozenset({b"traceparent", b"tracestate"})
HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,255})(?::(\d{1,5}))?")
FAILED: Final = 500
"""From this status on a request counts as failed; what is below is the client's fault."""

NO_FIELDS: Final[Mapping[str, str]] = {}


class Observed:
    """A span, and if others are made within it, what was current before."""

    __slots__ = ("_method", "_span", "_token", "fields")

    def __init__(self, span: Span, token: Token[Context] | None, fields: Mapping[str, str], method: str = "") -> None:
        self._span = span
        self._token = token
        self._method = method
        self.fields = fields

    def end(self, error: BaseException | None, status: int | None = None, route: str = "") -> None:
        """See `Observation`."""
        span = self._span
        if self._token is not None:
            contexts.detach(self._token)
        if span.is_recording():
            if route:
                span.set_attribute("http.route", route)
                span.update_name(f"{self._method} {route}")
            if status is not None:
                span.set_attribute("http.response.status_code", status)
            if status is not None and status >= FAILED:
                span.set_attribute("error.type", str(status))
                span.set_status(StatusCode.ERROR)
            elif error is not None and not isinstance(error, GeneratorExit):
                # No message: it may quote what is secret.
                span.set_attribute("error.type", type(error).__qualname__)
                if _is_failure(error):
                    span.set_status(StatusCode.ERROR)
        span.end()


UNRECORDED: Final = Observed(INVALID_SPAN, None, NO_FIELDS)
"""What is asked within a request that is not recorded."""


class Tracing:
    """The observer. Its spans are the current ones of OpenTelemetry, so that those of libraries are within them."""

    name = "tracing"

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    def observe_request(self, scope: Any, client_address: str) -> Observed:
        """See `SupportsObserving`."""
        carrier: dict[str, str] = {}
        for name, value in scope["headers"]:
            if name in TRACE_CONTEXT:
                key = name.decode()
                # RFC 9110 section 5.3; of two parents none is one (Trace Context, "traceparent Header").
                carrier[key] = ",".join(filter(None, (carrier.get(key), value.decode("latin-1"))))
        parent = self._propagator.extract(carrier, Context()) if carrier else Context()
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        named = "HTTP" if method == "_OTHER" else method
        span = self._tracer.start_span(named, parent, SpanKind.SERVER)
        if span.is_recording():
            # Of most requests nothing is recorded.
            span.set_attributes(_attributes(scope, method, client_address))
        fields = {"trace_id": format_trace_id(span.get_span_context().trace_id)}
        return Observed(span, contexts.attach(set_span_in_context(span, parent)), fields, named)

    def observe_call(self, call: Call) -> Observed:
        """See `SupportsObserving`; what is within a stream may run in another task, where it cannot be current."""
        current = get_current_span().get_span_context()
        if current.is_valid and not current.trace_flags.sampled:
            return UNRECORDED
        attributes = {"drift.plugin": call.plugin, **{f"drift.{name}": value for name, value in call.about.items()}}
        span = self._tracer.start_span(f"{call.asked}.{call.method}", attributes=attributes)
        token = None if call.stream else contexts.attach(set_span_in_context(span))
        return Observed(span, token, NO_FIELDS)


def _attributes(scope: Any, method: str, client_address: str) -> dict[str, str | int]:
    """Returns what is said of a request (semantic conventions, "HTTP server span"): of its headers only these two."""
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"],
        "client.address": client_address,
        "network.protocol.version": scope["http_version"],
    }
    if method == "_OTHER":
        attributes["http.request.method_original"] = scope["method"]
    for name, value in scope["headers"]:
        if name == b"user-agent":
            attributes["user_agent.original"] = value.decode("latin-1")
        elif name == b"host" and (host := HOST.fullmatch(value.decode("latin-1"))):
            attributes["server.address"] = host[1].strip("[]")
            if host[2]:
                attributes["server.port"] = int(host[2])
    return attributes


def _is_failure(error: BaseException) -> bool:
    """Tells what somebody has to look into from a refusal, an unknown digest, or a client that left."""
    if isinstance(error, RegistryError):
        return error.status >= FAILED
    return not isinstance(error, asyncio.CancelledError)
