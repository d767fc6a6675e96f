"""What is counted of tokens."""

from prometheus_client import CollectorRegistry, Counter


class Measured:
    """Tokens made by kind, tokens refused, and how often a token was known already."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str, *labels: str) -> Counter:
            return Counter(f"drift_token_{name}", documentation, labels, registry=registry)

        self.issued = counter("issued", "Tokens that were made.", "kind")
        self.verified = counter("verified", "Tokens that were checked and good.", "kind")
        self.refused = counter("refused", "Tokens that were refused.")
        self.hits = counter("cache_hits", "Tokens that had been checked before.")
