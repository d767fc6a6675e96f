"""The storage suite is tested: the reference passes it, and each mutant fails exactly the rule that it breaks."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from drift_core.api import BlobStore
from drift_core.conformance import FaultProxy, StorageSuite
from drift_core.conformance.mutants.storage import MUTANTS
from drift_core.conformance.reference.storage import (
    MemoryPlace,
    MemoryStore,
    RemoteStore,
    open_endpoint,
    open_memory_store,
)
from drift_core.conformance.suites.storage import Faulty, Reopen
from tests.conformance.mutation import RULES, asked, failed_rules


class InMemory(StorageSuite):
    """What memory cannot do; strict, so that these two rules are seen to fail."""

    answer_seconds = 20.0

    @pytest.fixture
    async def faulty(self, remote: type[RemoteStore] | None) -> AsyncIterator[Faulty]:
        if remote is None:
            pytest.skip("this one has no endpoint, and the waiting for it takes seconds")
        async with open_endpoint() as port, FaultProxy("127.0.0.1", port) as proxy:
            yield remote(MemoryPlace(), proxy.port), proxy

    @pytest.mark.xfail(reason="keeps blobs in memory", strict=True, raises=AssertionError)
    async def test_large_blob(self, store: BlobStore) -> None:
        await super().test_large_blob(store)

    @pytest.mark.xfail(reason="memory ends with its process", strict=True)
    async def test_kill_between_append_and_commit(self, store: BlobStore, reopen: Reopen) -> None:
        await super().test_kill_between_append_and_commit(store, reopen)


class InMemoryFixtures:
    """Opens a mutant, or the reference."""

    def __init__(self, kind: type[MemoryStore] = MemoryStore) -> None:
        self.remote_kind = kind if issubclass(kind, RemoteStore) else None
        self.kind = MemoryStore if self.remote_kind else kind

    @pytest.fixture
    def remote(self) -> type[RemoteStore] | None:
        return self.remote_kind

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
    remote_kind = RemoteStore
    remote = InMemoryFixtures.remote
    reopen = InMemoryFixtures.reopen
    store = InMemoryFixtures.store


MODEL = "storage.any-sequence"
WITHOUT_MUTANT = {
    "storage.large-blob": "the reference itself fails it",
    "storage.kill-between-append-and-commit": "the reference itself fails it",
    MODEL: "which mistakes a walk meets is a matter of luck",
}


class Quick(InMemory):
    """One sequence, and nothing of what memory cannot do, because more than thirty mutants run it."""

    sequences = 1

    @pytest.mark.xfail(reason="the reference fails it", run=False)
    async def test_large_blob(self) -> None:  # type: ignore[override]
        raise AssertionError

    @pytest.mark.xfail(reason="the reference fails it", run=False)
    async def test_kill_between_append_and_commit(self) -> None:  # type: ignore[override]
        raise AssertionError


def test_every_rule_can_fail() -> None:
    """Every rule has a mutant, or a reason why there is none."""
    assert {rule.id for rule in StorageSuite.rules()} == MUTANTS.keys() | WITHOUT_MUTANT.keys()


@RULES
@pytest.mark.parametrize("rule", MUTANTS)
def test_mutant(rule: str, extent: str) -> None:
    """A mutant fails the rule that it breaks, and no other but the model, which may notice any of them."""
    failed = failed_rules(Quick, InMemoryFixtures(MUTANTS[rule]), asked(rule, extent))
    assert failed - {MODEL} == {rule}
