"""The collector suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

from functools import partial

import pytest

from drift_core.conformance import CollectorSuite
from drift_core.conformance.mutants.collector import MUTANTS
from drift_core.conformance.reference.collector import MemoryCollector, open_memory_collector
from drift_core.conformance.suites.collector import OpenCollector
from tests.conformance.mutation import failed_rules

MODEL = "collector.random-registries"


class Opened:
    """Opens a mutant, or the reference."""

    kind: type[MemoryCollector] = MemoryCollector

    @pytest.fixture
    def open_collector(self) -> OpenCollector:
        return partial(open_memory_collector, kind=self.kind)


class TestReference(Opened, CollectorSuite):
    """The reference passes."""


class Quick(CollectorSuite):
    """Few random registries, because every mutant but one collects them in vain."""

    registries = 5


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in CollectorSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant fails the rule that it breaks, and no other but the model, which may notice any of them."""
    mutant, kind = Opened(), MUTANTS[rule]
    if issubclass(kind, MemoryCollector):
        mutant.kind = kind
    else:
        monkeypatch.setattr("drift_core.conformance.suites.collector.MemoryContents", kind)
    failed = failed_rules(CollectorSuite if rule == MODEL else Quick, mutant)
    assert failed - ({MODEL} - {rule}) == {rule}
