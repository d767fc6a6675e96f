"""What is measured: how much was recorded or lost, and how far behind sinks are."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Measures:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(name, documentation, labels, registry=registry)

        self.recorded = counter("drift_audit_records", "Records of the audit trail, by the type of the event.", "type")
        self.failed = counter("drift_audit_failures", "Changes that were made though they could not be recorded.")
        self.dropped = counter("drift_audit_dropped", "Events that were not recorded, since the buffer was full.")
        self.sink_failures = counter("drift_audit_sink_failures", "Deliveries that a sink did not take.", "sink")
        self.sink_refusals = counter("drift_audit_sink_refusals", "Records that a sink will never take.", "sink")
        self.sink_lag = Gauge(
            "drift_audit_sink_lag",
            "Records that a sink has not taken yet.",
            ["sink"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
