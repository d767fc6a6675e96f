"""What is measured: attempts by target and outcome, and what waits."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Measures:
    """The metrics of one process; gauges are those of the process that does the background work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "drift_webhooks_attempts",
            "Attempts to tell a target of an event, by outcome: delivered, failed, or put aside after the last one.",
            ("target", "outcome"),
            registry=registry,
        )
        self.waiting = Gauge(
            "drift_webhooks_waiting_events",
            "Events of which a target has still to be told.",
            ("target",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.aside = Gauge(
            "drift_webhooks_aside_events",
            "Events of which a target could not be told.",
            ("target",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
