"""What is measured: the runs that the limit of ``max_share`` has stopped; what is removed, the core counts."""

from prometheus_client import CollectorRegistry, Counter


class Measures:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused_runs = Counter(
            "drift_gc_refused_runs", "Runs that would have removed too large a share.", registry=registry
        )
