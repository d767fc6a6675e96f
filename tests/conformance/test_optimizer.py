"""The optimizer suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

import gzip
import zlib

import pytest

from drift_core.conformance import OptimizerSuite
from drift_core.conformance.mutants.optimizer import MUTANTS
from drift_core.conformance.reference.optimizer import GzipOptimizer
from drift_core.conformance.suites.optimizer import MIB, bomb, damaged
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
    """Fewer bytes, because a mutant for each rule runs it."""

    large = 32 * MIB
    bomb = 32 * MIB


@pytest.mark.parametrize(("damage", "content"), list(damaged()))
def test_damaged_layers_are_damaged(damage: str, content: bytes) -> None:
    """Otherwise the rule would ask an optimizer to refuse what is in order."""
    try:
        unpacked = gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        return
    assert (damage, unpacked) == ("empty", b"")


def test_a_bomb_is_a_bomb() -> None:
    packed = bomb(4 * MIB)
    assert len(gzip.decompress(packed)) == 4 * MIB
    assert len(packed) * 900 < 4 * MIB


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in OptimizerSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(Quick, mutant) == {rule}
