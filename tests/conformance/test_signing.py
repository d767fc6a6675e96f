"""The signing suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

import pytest

from drift_core.api import Descriptor, Signature
from drift_core.conformance import SigningSuite
from drift_core.conformance.mutants.signing import MUTANTS
from drift_core.conformance.reference.signing import HmacSigning
from drift_core.conformance.suites.signing import SUBJECT, signed
from tests.conformance.mutation import failed_rules

NOW = 1_000_000.0
TRUSTED = {"release": b"r" * 32}
ROGUE = {"rogue": b"x" * 32}


class InMemory(SigningSuite):
    """Everything but the signer and the verifier, which are mutants or the reference."""

    @pytest.fixture
    def key_id(self) -> str:
        return "release"

    @pytest.fixture
    def other_key_id(self) -> str:
        return "rogue"

    @pytest.fixture
    async def expired(self) -> tuple[Descriptor, Signature]:
        past = HmacSigning(TRUSTED, lifetime=60, clock=lambda: NOW - 60)
        return SUBJECT, await signed(past, "release")


class Opened:
    """Opens a mutant, or the reference."""

    kind = HmacSigning

    @pytest.fixture
    def signer(self) -> HmacSigning:
        return self.kind(TRUSTED | ROGUE, clock=lambda: NOW)

    @pytest.fixture
    def verifier(self) -> HmacSigning:
        return self.kind(TRUSTED, clock=lambda: NOW)


class TestReference(Opened, InMemory):
    """The reference passes."""


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in SigningSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(InMemory, mutant) == {rule}
