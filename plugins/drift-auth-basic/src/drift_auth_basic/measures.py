"""What is measured of logins."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Measures(Collector):
    """Plain numbers, which cost nothing to count up."""

    def __init__(self) -> None:
        self.verifications = 0
        self.failures = 0
        self.remembered = 0
        self.throttled = 0

    def describe(self) -> Iterable[Metric]:
        """Announces no names: the driver may be open more than once in a process."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yields every counter."""
        for name, text, value in (
            ("verifications", "Passwords that were tried against a hash.", self.verifications),
            ("failures", "Passwords that were tried and refused.", self.failures),
            ("remembered", "Requests whose credentials were remembered, right or wrong.", self.remembered),
            ("throttled", "Requests that were refused for too many wrong passwords before them.", self.throttled),
        ):
            yield CounterMetricFamily(f"drift_auth_basic_{name}", text, value=value)
