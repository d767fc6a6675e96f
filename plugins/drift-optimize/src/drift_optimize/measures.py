"""What is measured: jobs by what came of them, and layers by form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.1, 1, 5, 15, 60, 300, 1800)


class Measures:
    """The metrics of one process; gauges are those of the process that does the background work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Counter(
            "drift_optimize_jobs", "Images that were worked on, by what came of them.", ["state"], registry=registry
        )
        self.saved = Counter(
            "drift_optimize_saved_bytes", "Bytes by which new forms are smaller than the layers.", registry=registry
        )
        self.read = Counter("drift_optimize_read_bytes", "Bytes of layers that were read.", registry=registry)
        self.seconds = Histogram(
            "drift_optimize_job_seconds", "Seconds of work on one image.", buckets=BUCKETS, registry=registry
        )
        self.waiting = Gauge(
            "drift_optimize_waiting_jobs",
            "Images that wait, as of the last look.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
