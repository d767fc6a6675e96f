"""What is measured of QUIC in one process: the metrics of the original, and what its answers count."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LABELS: Final = ["backend"]
HANDSHAKES: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROUND_TRIPS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Measures:
    """The metrics of one process, all with the label ``backend``."""

    def __init__(self, registry: CollectorRegistry, backend: str) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(f"drift_quic_{name}", documentation, LABELS, registry=registry).labels(backend)

        def histogram(name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
            made = Histogram(f"drift_quic_{name}", documentation, LABELS, buckets=buckets, registry=registry)
            return made.labels(backend)

        active = Gauge(
            "drift_quic_connections_active",
            "Connections that are open.",
            LABELS,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.active = active.labels(backend)
        self.connections = counter("connections", "Connections that were begun.")
        self.bytes_sent = counter("bytes_sent", "Bytes of UDP payload that were sent.")
        self.bytes_received = counter("bytes_received", "Bytes of UDP payload that arrived.")
        self.packets_sent = counter("packets_sent", "Datagrams that were sent.")
        self.packets_received = counter("packets_received", "Datagrams that arrived.")
        self.connection_errors = counter("connection_errors", "Connections that ended by an error.")
        self.stream_errors = counter("stream_errors", "Streams that were broken off by either side.")
        self.retries = counter("retries", "Clients that had to prove their address first.")
        self.refused = counter("refused", "Clients that were refused, since there are too many, or at a stop.")
        self.abandoned = counter("abandoned_handshakes", "Handshakes that were given up.")
        self.forwarded = counter("forwarded", "Datagrams that another process of this server serves.")
        self.resumed = counter("sessions_resumed", "Connections that resumed an earlier session.")
        self.early = counter("early_data_accepted", "Connections whose first flight carried requests.")
        self.handshake = histogram("handshake_duration_seconds", "From the first datagram on.", HANDSHAKES)
        self.rtt = histogram("rtt_seconds", "The smoothed round trip when a connection ends.", ROUND_TRIPS)


def value(measured: Counter | Gauge) -> int:
    """Returns what a counter or gauge stands at."""
    (metric,) = measured.collect()
    return int(metric.samples[0].value)
