"""What is counted of every request: how many of each kind, how they ended, how long they took, and their bytes."""

import asyncio
from collections import Counter as Counts
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from drift_core.metrics import Metrics

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""What is said of a method that nobody knows, and of an endpoint beside `/v2`: clients can invent any."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

TELL_SECONDS: Final = 0.05
"""How long after a request it is known at the latest; a process that is killed takes as much with it."""


class Measures:
    """The label ``endpoint`` is the kind of a request, such as ``manifest``; see `drift_core.http.routes`.

    To be used by the event loop alone.
    """

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.everything
        self._metrics = metrics
        self._requests = Counter(
            "drift_requests", "Requests that were answered.", ["endpoint", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "drift_request_seconds",
            "From the head of a request to the end of its answer.",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self._received = Counter(
            "drift_received_bytes", "Bytes of bodies that clients sent.", ["endpoint"], registry=registry
        )
        self._sent = Counter("drift_sent_bytes", "Bytes of bodies of answers.", ["endpoint"], registry=registry)
        self._under_way = Gauge(
            "drift_requests_under_way",
            "Requests that are not answered yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._histograms: dict[str, Histogram] = {}
        # To count where other processes see it takes ten times as long as here.
        self._ended: Counts[tuple[str, str, int]] = Counts()
        self._bytes: Counts[tuple[Counter, str]] = Counts()
        self._running = 0
        self._told = True

    def begin(self) -> None:
        """Counts a request as one that is under way."""
        self._running += 1
        self._tell_soon()

    def end(self, endpoint: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Counts a request as ended; one without an answer has the status that the log gives it."""
        self._running -= 1
        self._tell_soon()
        self._ended[endpoint, method if method in METHODS else OTHER, status] += 1
        if received:
            self._bytes[self._received, endpoint] += received
        if sent:
            self._bytes[self._sent, endpoint] += sent
        histogram = self._histograms.get(endpoint)
        if histogram is None:
            histogram = self._histograms[endpoint] = self._seconds.labels(endpoint)
        histogram.observe(seconds)

    def _tell_soon(self) -> None:
        if self._told:
            self._told = False
            asyncio.get_running_loop().call_later(TELL_SECONDS, self.tell)

    def tell(self) -> None:
        """Makes what was counted known to whoever reads the metrics."""
        self._told = True
        self._metrics.tell()
        for labels, count in self._ended.items():
            self._requests.labels(*labels).inc(count)
        for (counter, endpoint), size in self._bytes.items():
            counter.labels(endpoint).inc(size)
        self._ended.clear()
        self._bytes.clear()
        self._under_way.set(self._running)
