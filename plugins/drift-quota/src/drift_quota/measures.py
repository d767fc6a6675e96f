"""What is measured: refusals, and how much was added up and counted."""

from prometheus_client import CollectorRegistry, Counter


class Measures:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        self.refusals = counter("drift_quota_refusals", "Pushes that a quota refused, by whose it is.", "kind")
        self.folded = counter("drift_quota_folded", "Changes of what a repository holds that were added up.")
        self.counted = counter("drift_quota_counted", "Repositories whose blobs were counted.")
        self.corrected = counter("drift_quota_corrected", "Counts that gave another size than was known.")
