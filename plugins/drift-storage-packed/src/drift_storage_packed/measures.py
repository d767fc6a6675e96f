"""What is measured: what lies packed, what was left as it is and why, and what was found damaged."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from drift_storage_packed.forms import Totals


class Measures:
    """The metrics of one process; gauges are those of the process that does the background work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, registry=registry, multiprocess_mode="mostrecent")

        self.blobs = gauge("drift_packed_blobs", "Blobs that lie packed, as of the last look.")
        self.before = gauge("drift_packed_original_bytes", "Bytes of the blobs that lie packed, before.")
        self.after = gauge("drift_packed_bytes", "Bytes that the packed blobs take.")
        self.read = counter("drift_packed_read_bytes", "Bytes of blobs that were read to pack them.")
        self.packed = counter("drift_packed_packed_blobs", "Blobs that were packed.")
        self.skipped = counter(
            "drift_packed_skipped_blobs", "Blobs that were looked at and left as they are.", "reason"
        )
        self.damaged = counter("drift_packed_damaged_reads", "Reads that met a damaged packed blob.")

    def tell(self, totals: Totals) -> None:
        """Sets the gauges."""
        self.blobs.set(totals.blobs)
        self.before.set(totals.size)
        self.after.set(totals.packed_size)
