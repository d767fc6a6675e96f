"""A state machine that compares a store with a model in memory; a rule of `StorageSuite` runs it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from functools import partial
from typing import cast

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from drift_core.api import (
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    UploadId,
    UploadUnknown,
)

NUMBERS = st.integers(0, 6)
RARELY = st.sampled_from([False, False, False, True])
WORKERS = st.integers(0, 1)
ALGORITHMS = st.sampled_from(["sha256", "sha256", "sha256", "sha512"])
CHUNKS = st.lists(st.sampled_from([b"", b"a", b"bc"]), max_size=3)
SHIFTS = st.sampled_from([None, 0, 0, 0, 0, 1, -1])


def explore(
    portal: BlockingPortal, reopen: Callable[[], AbstractAsyncContextManager[BlobStore]], examples: int
) -> None:
    """Runs ``examples`` sequences in this thread, on stores that are opened in the portal's event loop."""
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        stateful_step_count=40,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    machine = cast("type[StoreMachine]", partial(StoreMachine, portal, reopen))  # it is documented to take a factory
    run_state_machine_as_test(machine, settings=chosen)


class SourceError(Exception):
    """What a broken source raises."""


async def source(chunks: list[bytes], *, breaks: bool) -> AsyncIterator[bytes]:
    """Yields the chunks, and then ends or raises."""
    for chunk in chunks:
        yield chunk
    if breaks:
        raise SourceError


class StoreMachine(RuleBasedStateMachine):
    """``workers`` share a place, which had the blobs ``before``; ``uploads`` and ``blobs`` are what they should add."""

    def __init__(self, portal: BlockingPortal, reopen: Callable[[], AbstractAsyncContextManager[BlobStore]]) -> None:
        super().__init__()
        self.portal = portal
        self.reopen_one = reopen
        self.stack = ExitStack()
        self.workers: list[BlobStore] = []
        self.uploads: dict[UploadId, bytes] = {}
        self.gone = UploadId("0" * 32)
        self.blobs: dict[Digest, bytes] = {}
        self.open()
        self.before = self.portal.call(self.found)

    def open(self) -> None:
        """Opens two workers, each of which is closed by the task that opened it."""
        self.workers = [
            self.stack.enter_context(self.portal.wrap_async_context_manager(self.reopen_one())) for _ in range(2)
        ]

    async def found(self) -> dict[Digest, int]:
        """Returns the size of every blob that a scan yields."""
        return {blob.digest: blob.size async for blob in self.workers[0].scan()}

    def teardown(self) -> None:
        """Leaves the place as it was."""

        async def empty() -> None:
            for upload in self.uploads:
                await self.workers[0].abort(upload)
            for digest in self.blobs:
                await self.workers[0].delete(digest)

        with self.stack:
            self.portal.call(empty)

    def pick(self, number: int) -> UploadId:
        """Returns one of the uploads that there are, or now and then the one that was gone last."""
        names = [*self.uploads, *self.uploads, *self.uploads, self.gone]
        return names[number % len(names)]

    @rule(really=RARELY)
    def reopen(self, really: bool) -> None:
        """Closes both workers and opens two others."""
        if not really:
            return
        self.stack.close()
        self.open()

    @precondition(lambda self: len(self.uploads) < 2)
    @rule(worker=WORKERS, hint=ALGORITHMS)
    def begin(self, worker: int, hint: str) -> None:
        """An upload has a name that no other has, and begins empty."""
        upload = self.portal.call(self.workers[worker].begin, hint)
        assert upload not in self.uploads
        self.uploads[upload] = b""

    @precondition(lambda self: self.uploads)
    @rule(number=NUMBERS, worker=WORKERS, chunks=CHUNKS, shift=SHIFTS, breaks=st.booleans())
    def append(self, number: int, worker: int, chunks: list[bytes], shift: int | None, breaks: bool) -> None:
        """An append adds what arrives, also before the source breaks, or is refused and adds nothing."""
        name = self.pick(number)
        held = self.uploads.get(name)
        offset = None if shift is None else len(held or b"") + shift
        call = partial(self.workers[worker].append, name, offset, source(chunks, breaks=breaks))
        if held is None:
            with pytest.raises(UploadUnknown):
                self.portal.call(call)
        elif shift:
            with pytest.raises(OffsetMismatch) as refused:
                self.portal.call(call)
            assert refused.value.received == len(held)
        else:
            self.uploads[name] = held + b"".join(chunks)
            if breaks:
                with pytest.raises(SourceError):
                    self.portal.call(call)
            else:
                assert self.portal.call(call) == len(self.uploads[name])

    @precondition(lambda self: self.uploads)
    @rule(
        number=NUMBERS, worker=WORKERS, algorithm=ALGORITHMS, right=st.sampled_from([True, True, False]), data=st.data()
    )
    def commit(self, number: int, worker: int, algorithm: str, right: bool, data: st.DataObject) -> None:
        """A commit makes exactly the bytes of the upload a blob, and ends the upload."""
        name = self.pick(number)
        held = self.uploads.get(name)
        asked = held or b""
        if not right:  # what the upload once was, or never
            asked = asked[: data.draw(st.integers(0, len(asked)))] if data.draw(st.booleans()) else b"x"
        digest = Digest.of(asked, algorithm)
        call = partial(self.workers[worker].commit, name, digest)
        if held is None:
            with pytest.raises(UploadUnknown):
                self.portal.call(call)
        elif asked != held:
            with pytest.raises(DigestInvalid):
                self.portal.call(call)
        else:
            made = self.portal.call(call)
            assert (made.digest, made.size) == (digest, len(held))
            self.blobs[digest] = self.uploads.pop(name)
            self.gone = name

    @rule(number=NUMBERS, worker=WORKERS, really=RARELY)
    def abort(self, number: int, worker: int, really: bool) -> None:
        """An abort ends an upload."""
        if not really:
            return
        self.gone = self.pick(number)
        self.portal.call(self.workers[worker].abort, self.gone)
        self.uploads.pop(self.gone, None)

    @precondition(lambda self: self.blobs)
    @rule(worker=WORKERS, data=st.data())
    def delete(self, worker: int, data: st.DataObject) -> None:
        """A delete ends a blob, at once and for the other worker too."""
        digest = data.draw(st.sampled_from([*sorted(self.blobs), Digest.of(b"absent")]))
        self.portal.call(self.workers[worker].delete, digest)
        self.blobs.pop(digest, None)
        with pytest.raises(BlobUnknown):
            self.portal.call(self.workers[1 - worker].stat, digest)

    @precondition(lambda self: self.blobs)
    @rule(worker=WORKERS, data=st.data())
    def read(self, worker: int, data: st.DataObject) -> None:
        """Any range of a blob is what was written."""
        for digest, content in self.blobs.items():
            start = data.draw(st.integers(0, len(content)))
            stop = data.draw(st.none() | st.integers(start, len(content)))

            async def whole(digest: Digest = digest, start: int = start, stop: int | None = stop) -> bytes:
                return b"".join([chunk async for chunk in self.workers[worker].read(digest, start, stop)])

            assert self.portal.call(whole) == content[start:stop]

    @invariant()
    def agrees(self) -> None:
        """Everything that one worker did is what the other sees."""

        async def held() -> dict[UploadId, int]:
            return {upload: await self.workers[1].received(upload) for upload in self.uploads}

        found = self.portal.call(self.found)
        assert list(found) == sorted(self.before.keys() | self.blobs.keys())
        assert found == self.before | {digest: len(content) for digest, content in self.blobs.items()}
        assert self.portal.call(held) == {upload: len(content) for upload, content in self.uploads.items()}
