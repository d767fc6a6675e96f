"""The authorizer suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

from collections.abc import Awaitable, Callable

import pytest

from drift_core.api import Identity, Scope
from drift_core.conformance import AuthorizerSuite
from drift_core.conformance.mutants.authorizer import MUTANTS
from drift_core.conformance.reference.authorizer import ForeseeingAuthorizer, MemoryAuthorizer, PolicyRule
from tests.conformance.mutation import failed_rules

RULES = (
    PolicyRule("deny", "banned", "*", "*"),
    PolicyRule("allow", "*", "public/*", "pull"),
    PolicyRule("allow", "writers", "*", "push"),
    PolicyRule("allow", "ann", "team/*", "*"),
)
PUBLIC = Scope("repository", "public/base", "pull")


class InMemory(AuthorizerSuite):
    """Everything but the authorizer, which is a mutant or the reference."""

    @pytest.fixture
    def identities(self) -> list[Identity]:
        return [
            Identity("ann", "memory"),
            Identity("bob", "memory", groups=frozenset({"writers"})),
            Identity("eve", "memory", groups=frozenset({"writers", "banned"})),
        ]

    @pytest.fixture
    def scopes(self) -> list[Scope]:
        return [PUBLIC, *(Scope("repository", "team/app", action) for action in ("delete", "pull", "push"))]

    @pytest.fixture
    def public(self) -> list[Scope]:
        return [PUBLIC]

    @pytest.fixture
    def deny(self, authorizer: MemoryAuthorizer) -> Callable[[Identity, Scope], Awaitable[None]]:
        async def deny(identity: Identity, scope: Scope) -> None:
            authorizer.rules.append(PolicyRule("deny", identity.name, scope.name, scope.action))

        return deny


class Opened:
    """Opens a mutant, or the reference."""

    kind = MemoryAuthorizer

    @pytest.fixture
    def authorizer(self) -> MemoryAuthorizer:
        return self.kind(RULES)


class TestReference(Opened, InMemory):
    """The reference passes."""


class TestForeseeing(TestReference):
    """So does the one with the optional power."""

    kind = ForeseeingAuthorizer


def test_every_rule_can_fail() -> None:
    assert {rule.id for rule in AuthorizerSuite.rules()} == MUTANTS.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    mutant = Opened()
    mutant.kind = MUTANTS[rule]
    assert failed_rules(InMemory, mutant) == {rule}
