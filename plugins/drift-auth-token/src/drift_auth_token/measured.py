"""What is counted: plain numbers, which cost the request nothing, read when somebody asks for the metrics."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Measured(Collector):
    """Tokens made by kind, tokens refused, and how often a token was known already."""

    def __init__(self) -> None:
        self.issued: Counter[str] = Counter()
        self.verified: Counter[str] = Counter()
        self.refused = 0
        self.hits = 0

    def collect(self) -> Iterable[Metric]:
        """Returns the counters."""
        issued = CounterMetricFamily("drift_token_issued", "Tokens that were made.", labels=["kind"])
        for kind, count in self.issued.items():
            issued.add_metric([kind], count)
        verified = CounterMetricFamily("drift_token_verified", "Tokens that were checked and good.", labels=["kind"])
        for kind, count in self.verified.items():
            verified.add_metric([kind], count)
        return [
            issued,
            verified,
            CounterMetricFamily("drift_token_refused", "Tokens that were refused.", self.refused),
            CounterMetricFamily("drift_token_cache_hits", "Tokens that had been checked before.", self.hits),
        ]


@contextmanager
def measuring(registry: CollectorRegistry) -> Iterator[Measured]:
    """Yields the counters, which are in the registry until the end."""
    measured = Measured()
    registry.register(measured)
    try:
        yield measured
    finally:
        registry.unregister(measured)
