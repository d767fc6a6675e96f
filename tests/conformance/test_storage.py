"""The reference store keeps every rule of the storage suite, and each mutant breaks exactly one."""

from collections.abc import AsyncIterator
from contextlib import nullcontext

import pytest

from drift_core.conformance import StorageSuite, open_memory_store
from drift_core.conformance.mutants.storage import MUTANTS, WITHOUT_MUTANT
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore
from drift_core.conformance.runner import run
from drift_core.conformance.suites.storage import Reopen


class TestReference(StorageSuite):
    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()

    @pytest.fixture
    async def store(self, place: MemoryPlace) -> AsyncIterator[MemoryStore]:
        async with open_memory_store(place) as store:
            yield store

    @pytest.fixture
    def reopen(self, place: MemoryPlace) -> Reopen:
        return lambda: open_memory_store(place)

    @pytest.mark.xfail(reason="it keeps its blobs in memory", strict=True)
    async def test_bounded_memory(self, store: MemoryStore, large: int) -> None:
        await super().test_bounded_memory(store, large)


def suite_of(mutant: type[MemoryStore]) -> type[StorageSuite]:
    class Mutated(StorageSuite):
        @pytest.fixture
        def place(self) -> MemoryPlace:
            return MemoryPlace()

        @pytest.fixture
        async def store(self, place: MemoryPlace) -> MemoryStore:
            return mutant(place)

        @pytest.fixture
        def reopen(self, place: MemoryPlace) -> Reopen:
            return lambda: nullcontext(mutant(place))

    return Mutated


@pytest.mark.parametrize("rule", MUTANTS)
def test_a_mutant_fails_exactly_its_rule(rule: str) -> None:
    results = run(suite_of(MUTANTS[rule]), mib=1)
    failed = {result.rule: result.why for result in results if result.outcome == "fail"}
    assert list(failed) == [rule], failed


def test_every_rule_has_a_mutant_or_a_reason() -> None:
    assert {rule.id for rule in StorageSuite.rules()} == MUTANTS.keys() | WITHOUT_MUTANT.keys()
    assert all(rule.sentence.endswith(".") for rule in StorageSuite.rules())
