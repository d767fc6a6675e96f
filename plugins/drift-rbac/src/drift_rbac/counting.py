"""What the policy counts, by the names that the original documents."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from drift_core.api import Verdict
from drift_rbac.policy import Policy


class DecisionCounters:
    """The counters that the original documents."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, documentation: str) -> Counter:
            return Counter(f"drift_rbac_{name}", documentation, registry=registry)

        decided = Counter("drift_rbac_authorization", "Scopes that were decided.", ["result"], registry=registry)
        results = (("allowed", True), ("denied", False), ("abstained", None))
        self._results = {allowed: decided.labels(result) for result, allowed in results}
        self._checks = counter("permission_checks", "Questions, of one or more scopes.")
        self._hits = counter("role_cache_hits", "Questions of somebody whose roles were worked out.")
        self._misses = counter("role_cache_misses", "Questions of somebody whose roles had to be worked out.")

    def count(self, policy: Policy, verdicts: Sequence[Verdict]) -> None:
        """Counts a question and its answers."""
        self._checks.inc()
        for verdict in verdicts:
            self._results[verdict.allowed].inc()
        if policy.known_holders:
            self._hits.inc(policy.known_holders)
        if policy.new_holders:
            self._misses.inc(policy.new_holders)
        policy.known_holders = policy.new_holders = 0
