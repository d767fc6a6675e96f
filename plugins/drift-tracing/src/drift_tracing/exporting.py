"""Sends spans to a collector from a thread of its own, which holds nobody up, and says once that there is none."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import Counter

from drift_core.api import Feature, Services
from drift_tracing.config import TracingConfig
from drift_tracing.tracing import Tracing

BATCH_SECONDS: Final = 1.0
"""How long a span waits for others to be exported with it."""

BATCH_SPANS: Final = 512
LONGEST_VALUE: Final = 1024
"""Characters of an attribute: paths and names of programs are what clients make of them."""

FLUSH_SECONDS: Final = 3.0
"""How long the end waits for the last spans; the supervisor kills what takes longer than the drain and 5 seconds."""

EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
QUEUE: Final = "opentelemetry.sdk._shared_internal"
"""Loggers of the library whose lines are told in another way."""


class Reasons(logging.Handler):
    """Keeps what the library would write with every attempt: the first reason is told when something changes."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the first: what follows only says that it is given up. The library says nothing of headers."""
        self.first = self.first or record.getMessage()


class Overflow(logging.Handler):
    """Says that the queue was full, as rarely as the library does, and not while nothing is exported anyway."""

    def __init__(self, exporter: "Exporter", log: Any) -> None:
        super().__init__(logging.WARNING)
        self._exporter = exporter
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Says it."""
        if not self._exporter.failing:
            self._log.warning("some spans were not exported", reason=record.getMessage())


class Exporter(SpanExporter):
    """Another exporter, counted, of whose failures the first is logged, and the first success after them."""

    def __init__(self, inner: SpanExporter, services: Services, endpoint: str) -> None:
        self.failing = False
        self._inner = inner
        self._log = services.log
        self._endpoint = endpoint
        self._spans = Counter(
            "drift_tracing_spans", "Spans that were exported, or lost.", ["result"], registry=services.metrics
        )
        self._reasons = Reasons()
        for name, handler in ((EXPORTER, self._reasons), (QUEUE, Overflow(self, services.log))):
            library = logging.getLogger(name)
            library.handlers, library.propagate = [handler], False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports; called by the processor's thread alone."""
        self._reasons.first = ""
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever the library raises, the thread goes on
            self._reasons.first = f"{type(error).__name__}: {error}"
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        self._spans.labels("lost" if failed else "exported").inc(len(spans))
        if failed and not self.failing:
            said = "spans cannot be exported and are lost"
            self._log.warning(said, endpoint=self._endpoint, reason=self._reasons.first)
        elif self.failing and not failed:
            self._log.info("spans are exported again", endpoint=self._endpoint)
        self.failing = failed
        return result

    def shutdown(self) -> None:
        """Ends attempts that are still to be repeated."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing waits here."""
        return self._inner.force_flush(timeout_millis)


class Idle:
    """What a command opens: it serves no requests."""

    name = "tracing"


@asynccontextmanager
async def open_tracing(config: TracingConfig, services: Services) -> AsyncIterator[Feature]:
    """Yields the observer, in the process that serves: the thread that exports is not forked. Flushes at the end."""
    if not services.serving:
        yield Idle()
        return
    exporter = Exporter(_otlp(config), services, config.endpoint)
    release = version("drift-core")
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(config.sample_ratio)),
        resource=Resource.create({"service.name": config.service_name, "service.version": release}),
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_attribute_length=LONGEST_VALUE),
    )
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=config.queue_size,
        schedule_delay_millis=BATCH_SECONDS * 1000,
        max_export_batch_size=min(BATCH_SPANS, config.queue_size),
        export_timeout_millis=config.timeout_seconds * 1000,
    )
    provider.add_span_processor(processor)
    try:
        yield Tracing(provider.get_tracer("drift", release))
    finally:
        await _flush(provider, exporter, services.log)


def _otlp(config: TracingConfig) -> OTLPSpanExporter:
    return OTLPSpanExporter(
        endpoint=config.endpoint,
        certificate_file=config.ca_file,
        # Never none: then the library would take those of the environment.
        headers={
            "user-agent": f"drift/{version('drift-core')}",
            **{name: str(v) for name, v in config.headers.items()},
        },
        timeout=config.timeout_seconds,
        compression=Compression.Gzip,
    )


async def _flush(provider: TracerProvider, exporter: Exporter, log: Any) -> None:
    """Exports what waits, for a while; a collector that is away is not waited for."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def shut() -> None:
        provider.shutdown()
        with contextlib.suppress(RuntimeError):
            # The loop may be closed by now.
            loop.call_soon_threadsafe(over.set)

    # A thread of the loop's pool would be waited for, however long the library takes.
    threading.Thread(target=shut, name="drift-tracing-flush", daemon=True).start()
    if exporter.failing:
        return
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            await over.wait()
    except TimeoutError:
        log.warning("not every span was exported before the end")
