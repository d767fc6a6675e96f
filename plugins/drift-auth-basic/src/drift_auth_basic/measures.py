"""What is measured of logins."""

from prometheus_client import CollectorRegistry, Counter


class Measures:
    """The counters of logins by name and password."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(f"drift_auth_basic_{name}", documentation, registry=registry)

        self.verifications = counter("verifications", "Passwords that were tried against a hash.")
        self.failures = counter("failures", "Passwords that were tried and refused.")
        self.remembered = counter("remembered", "Requests whose credentials were remembered, right or wrong.")
        self.throttled = counter("throttled", "Requests that were refused for too many wrong passwords before them.")
