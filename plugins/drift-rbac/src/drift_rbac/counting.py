"""What the policy counts, by the names that the original documents."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from drift_core.api import Verdict
from drift_rbac.policy import Policy


class DecisionCounters(Collector):
    """The counters that the original documents, kept as plain numbers until somebody reads them."""

    def __init__(self) -> None:
        self._results: dict[bool | None, int] = {True: 0, False: 0, None: 0}
        self._checks = self._hits = self._misses = 0

    def count(self, policy: Policy, verdicts: Sequence[Verdict]) -> None:
        """Counts a question and its answers."""
        self._checks += 1
        for verdict in verdicts:
            self._results[verdict.allowed] += 1
        self._hits += policy.known_holders
        self._misses += policy.new_holders
        policy.known_holders = policy.new_holders = 0

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        decided = CounterMetricFamily("drift_rbac_authorization", "Scopes that were decided.", labels=["result"])
        for result, allowed in (("allowed", True), ("denied", False), ("abstained", None)):
            decided.add_metric([result], self._results[allowed])
        yield decided
        for name, value, text in (
            ("permission_checks", self._checks, "Questions, of one or more scopes."),
            ("role_cache_hits", self._hits, "Questions of somebody whose roles were worked out."),
            ("role_cache_misses", self._misses, "Questions of somebody whose roles had to be worked out."),
        ):
            yield CounterMetricFamily(f"drift_rbac_{name}", text, value=value)
