"""What is measured: requests to the service, bytes both ways, and the memory for parts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Measures:
    """The metrics of one opened store; ``driver`` begins their names, since two may be open while blobs move."""

    def __init__(self, driver: str, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"drift_{driver}_{name}", documentation, labels, registry=registry)

        self.requests = counter("requests", "Requests to the service, each with its retries.", "operation", "outcome")
        self.retries = counter("retries", "Requests that were begun again after a failure.", "operation")
        self.seconds = Histogram(
            f"drift_{driver}_request_seconds",
            "How long requests took, with their retries.",
            ["operation"],
            registry=registry,
        )
        self.bytes = counter("bytes", "Bytes sent to the service, and received from it.", "direction")
        self.buffers = Gauge(
            f"drift_{driver}_buffer_bytes",
            "Memory that holds parts.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.waits = counter("buffer_waits", "Uploads that waited for memory.")
        self.spills = counter("buffer_spills", "Buffers that slow senders had to give up.")
        self.swept = counter("swept", "Objects and multipart uploads that were removed since nothing needed them.")
