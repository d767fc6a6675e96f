"""What is measured: which tags were dropped or stayed, and when the last run was."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Measures:
    """The metrics of one process; but for the pulls, those of the process that does the background work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(name, documentation, registry=registry)

        self.dropped = counter("drift_retention_dropped_tags", "Tags that were dropped.")
        self.refused = counter("drift_retention_refused_tags", "Tags that no rule keeps, and that may not be deleted.")
        self.failed = counter("drift_retention_failed_tags", "Tags that could not be dropped.")
        self.lost = counter("drift_retention_lost_pulls", "Pulls for which there was no room.")
        self.ended = Gauge(
            "drift_retention_last_run_timestamp_seconds",
            "When the last run ended.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
