"""What is measured: what was given out from copies, what was not, and how many bytes they take."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Measures:
    """The metrics of one opened layer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(name, documentation, registry=registry)

        self.hits = counter("drift_cached_hits", "Times that a blob or a part of it was asked for and a copy was here.")
        self.misses = counter("drift_cached_misses", "Times that the store beneath was asked, since no copy was here.")
        self.bytes = counter("drift_cached_bytes", "Bytes of what was asked for and was here.")
        self.copies = counter("drift_cached_copies", "Copies that were made.")
        self.evictions = counter("drift_cached_evictions", "Copies that made room for others.")
        self.failures = counter("drift_cached_failures", "Times that the disk failed, was full or too slow.")
        self.held = Gauge(
            "drift_cached_held_bytes",
            "Bytes that all copies of this node take.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
