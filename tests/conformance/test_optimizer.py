"""The optimizer suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

import pytest

from drift_core.conformance import OptimizerSuite
from drift_core.conformance.mutants.optimizer import MUTANTS
from drift_core.conformance.reference.optimizer import GzipOptimizer
from drift_core.conformance.suites.optimizer import MIB
from tests.conformance.mutation import failed_rules


class Opened:
    """Opens a mutant, or the reference."""

    kind = GzipOptimizer

    @pytest.fixture
    def optimizer(self) -> GzipOptimizer:
        return self.kind()


class TestReference(Opened, OptimizerSuite):
    """The reference passes."""


class Quick(OptimizerSuite):
    """Fewer bytes, because every mutant reads them."""

    large = 16 * MIB


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in OptimizerSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(Quick, mutant) == {rule}
