"""A collector of traces: keeps what OTLP over HTTP brings as it came, and reads it by the official messages."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from drift_core.api import Struct
from tests.faults.inspection import eventually
from tests.server import free_port

Value = str | int


class Span(Struct, frozen=True):
    """A span as it arrived; ids in hexadecimal, ``parent`` "" for none, ``status`` 0 unset, 2 error."""

    trace: str
    id: str
    parent: str
    name: str
    kind: int
    status: int
    attributes: dict[str, Value]
    resource: dict[str, Value]


class Collector:
    """Listens within a ``with``; the port stays its own before and after. Answers 503 while ``ill``."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}/v1/traces"
        self.ill = False
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/x-protobuf"
                if not collector.ill:
                    collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                    collector.bodies.append(gzip.decompress(body))
                self.send_response(503 if collector.ill or self.path != "/v1/traces" else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        """Everything that has arrived."""
        return [span for body in tuple(self.bodies) for span in _spans(body)]

    def of(self, trace: str) -> list[Span]:
        """Returns the spans of a trace that have arrived."""
        return [span for span in self.spans if span.trace == trace]

    def named(self, name: str, trace: str | None = None) -> list[Span]:
        """Returns the spans of a name."""
        return [span for span in self.spans if span.name == name and trace in {None, span.trace}]

    def wait(self, name: str, trace: str | None = None) -> Span:
        """Returns the first span of a name, when it is there."""
        eventually(lambda: bool(self.named(name, trace)), f"a span {name}")
        return self.named(name, trace)[0]


def _spans(body: bytes) -> list[Span]:
    return [
        Span(
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.name,
            span.kind,
            span.status.code,
            _values(span.attributes),
            _values(one.resource.attributes),
        )
        for one in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in one.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Value]:
    return {one.key: one.value.int_value or one.value.string_value for one in attributes}
