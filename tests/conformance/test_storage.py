"""The storage suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from drift_core.api import BlobStore
from drift_core.conformance import StorageSuite
from drift_core.conformance.mutants.storage import MUTANTS
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore, open_memory_store
from drift_core.conformance.suites.storage import MIB, Reopen
from tests.conformance.mutation import failed_rules


class InMemory(StorageSuite):
    """What memory cannot do; strict, so that these two rules are seen to fail."""

    @pytest.mark.xfail(reason="keeps blobs in memory", strict=True, raises=AssertionError)
    async def test_large_blob(self, store: BlobStore) -> None:
        await super().test_large_blob(store)

    @pytest.mark.xfail(reason="memory ends with its process", strict=True)
    async def test_kill_between_append_and_commit(self, store: BlobStore, reopen: Reopen) -> None:
        await super().test_kill_between_append_and_commit(store, reopen)


class InMemoryFixtures:
    """Opens a mutant, or the reference."""

    def __init__(self, kind: type[MemoryStore] = MemoryStore) -> None:
        self.kind = kind

    @pytest.fixture
    def reopen(self) -> Reopen:
        return partial(open_memory_store, MemoryPlace(), self.kind)

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        async with reopen() as store:
            yield store


class TestReference(InMemory):
    """The reference passes."""

    kind = MemoryStore
    reopen = InMemoryFixtures.reopen
    store = InMemoryFixtures.store


MODEL = "storage.any-sequence"
WITHOUT_MUTANT = {
    "storage.large-blob": "the reference itself fails it",
    "storage.kill-between-append-and-commit": "the reference itself fails it",
    MODEL: "which mistakes a walk meets is a matter of luck",
}


class Quick(InMemory):
    """Fewer bytes and one sequence, because more than thirty mutants run it."""

    large = 64 * MIB
    sequences = 1


def test_every_rule_can_fail() -> None:
    """Every rule has a mutant, or a reason why there is none."""
    assert {rule.id for rule in StorageSuite.rules()} == MUTANTS.keys() | WITHOUT_MUTANT.keys()


@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str) -> None:
    """A mutant fails the rule that it breaks, and no other but the model, which may notice any of them."""
    failed = failed_rules(Quick, InMemoryFixtures(MUTANTS[rule]))
    assert failed - {MODEL} == {rule}
