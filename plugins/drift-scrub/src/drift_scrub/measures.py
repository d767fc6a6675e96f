"""What is measured: how much was read, and what was found."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Measures:
    """The metrics of one process; gauges are those of the process that does the background work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(name, documentation, registry=registry)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, registry=registry, multiprocess_mode="mostrecent")

        self.read = counter("drift_scrub_read_bytes", "Bytes of stored blobs that were read again.")
        self.checked = counter("drift_scrub_checked_blobs", "Stored blobs that were read again.")
        self.damaged = counter("drift_scrub_damaged_blobs", "Stored blobs that were damaged or missing.")
        self.unreadable = counter("drift_scrub_unreadable_blobs", "Stored blobs that the store did not give out.")
        self.quarantined = gauge("drift_scrub_quarantined_blobs", "Blobs in quarantine, as of the last look.")
        self.completed = gauge("drift_scrub_last_complete_timestamp_seconds", "When a pass was last complete.")
