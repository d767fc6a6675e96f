"""Any sequence of calls, in two workers, gives what a model in memory gives."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import structlog
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.store import open_store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drift_core.api import (
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    ServerSettings,
    Services,
    UploadId,
    UploadUnknown,
)

SERVICES = Services("storage-fs", structlog.get_logger(), ServerSettings("127.0.0.1:0", 10, 1.0))
MEMORY = Path("/dev/shm")  # several times faster than a disk
NUMBERS = st.integers(0, 6)
RARELY = st.sampled_from([False, False, False, True])
WORKERS = st.integers(0, 1)
ALGORITHMS = st.sampled_from(["sha256", "sha256", "sha256", "sha512"])
CHUNKS = st.lists(st.sampled_from([b"", b"a", b"bc"]), max_size=3)
SHIFTS = st.sampled_from([None, 0, 0, 0, 0, 1, -1])


class SourceError(Exception):
    """What a broken source raises."""


async def source(chunks: list[bytes], *, breaks: bool) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if breaks:
        raise SourceError


class StoreMachine(RuleBasedStateMachine):
    """``workers`` share a folder; ``uploads`` and ``blobs`` are what they should hold."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.stack = AsyncExitStack()
        self.workers: list[BlobStore] = []
        self.uploads: dict[UploadId, bytes] = {}
        self.gone = UploadId("0" * 32)
        self.blobs: dict[Digest, bytes] = {}
        self.open()

    def open(self) -> None:
        async def enter() -> None:
            config = FilesystemConfig(self.folder.name, fsync=False)
            self.workers = [await self.stack.enter_async_context(open_store(config, SERVICES)) for _ in range(2)]

        self.runner.run(enter())

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.folder.cleanup()

    def pick(self, number: int) -> UploadId:
        """Returns one of the uploads that there are, or now and then the one that was gone last."""
        names = [*self.uploads, *self.uploads, *self.uploads, self.gone]
        return names[number % len(names)]

    @rule(really=RARELY)
    def reopen(self, really: bool) -> None:
        if not really:
            return
        self.runner.run(self.stack.aclose())
        self.open()

    @precondition(lambda self: len(self.uploads) < 2)
    @rule(worker=WORKERS, hint=ALGORITHMS)
    def begin(self, worker: int, hint: str) -> None:
        upload = self.runner.run(self.workers[worker].begin(hint))
        assert upload not in self.uploads
        self.uploads[upload] = b""

    @precondition(lambda self: self.uploads)
    @rule(number=NUMBERS, worker=WORKERS, chunks=CHUNKS, shift=SHIFTS, breaks=st.booleans())
    def append(self, number: int, worker: int, chunks: list[bytes], shift: int | None, breaks: bool) -> None:
        name = self.pick(number)
        held = self.uploads.get(name)
        offset = None if shift is None else len(held or b"") + shift
        call = self.workers[worker].append(name, offset, source(chunks, breaks=breaks))
        if held is None:
            with pytest.raises(UploadUnknown):
                self.runner.run(call)
        elif shift:
            with pytest.raises(OffsetMismatch) as refused:
                self.runner.run(call)
            assert refused.value.received == len(held)
        else:
            self.uploads[name] = held + b"".join(chunks)
            if breaks:
                with pytest.raises(SourceError):
                    self.runner.run(call)
            else:
                assert self.runner.run(call) == len(self.uploads[name])

    @precondition(lambda self: self.uploads)
    @rule(
        number=NUMBERS, worker=WORKERS, algorithm=ALGORITHMS, right=st.sampled_from([True, True, False]), data=st.data()
    )
    def commit(self, number: int, worker: int, algorithm: str, right: bool, data: st.DataObject) -> None:
        name = self.pick(number)
        held = self.uploads.get(name)
        asked = held or b""
        if not right:  # what the upload once was, or never
            asked = asked[: data.draw(st.integers(0, len(asked)))] if data.draw(st.booleans()) else b"x"
        digest = Digest.of(asked, algorithm)
        call = self.workers[worker].commit(name, digest)
        if held is None:
            with pytest.raises(UploadUnknown):
                self.runner.run(call)
        elif asked != held:
            with pytest.raises(DigestInvalid):
                self.runner.run(call)
        else:
            made = self.runner.run(call)
            assert (made.digest, made.size) == (digest, len(held))
            self.blobs[digest] = self.uploads.pop(name)
            self.gone = name

    @rule(number=NUMBERS, worker=WORKERS, really=RARELY)
    def abort(self, number: int, worker: int, really: bool) -> None:
        if not really:
            return
        self.gone = self.pick(number)
        self.runner.run(self.workers[worker].abort(self.gone))
        self.uploads.pop(self.gone, None)

    @precondition(lambda self: self.blobs)
    @rule(worker=WORKERS, data=st.data())
    def delete(self, worker: int, data: st.DataObject) -> None:
        digest = data.draw(st.sampled_from([*sorted(self.blobs), Digest.of(b"absent")]))
        self.runner.run(self.workers[worker].delete(digest))
        self.blobs.pop(digest, None)
        with pytest.raises(BlobUnknown):
            self.runner.run(self.workers[1 - worker].stat(digest))

    @precondition(lambda self: self.blobs)
    @rule(worker=WORKERS, data=st.data())
    def read(self, worker: int, data: st.DataObject) -> None:
        for digest, content in self.blobs.items():
            start = data.draw(st.integers(0, len(content)))
            stop = data.draw(st.none() | st.integers(start, len(content)))

            async def whole(digest: Digest = digest, start: int = start, stop: int | None = stop) -> bytes:
                return b"".join([chunk async for chunk in self.workers[worker].read(digest, start, stop)])

            assert self.runner.run(whole()) == content[start:stop]

    @invariant()
    def agrees(self) -> None:
        async def found() -> tuple[dict[Digest, int], dict[UploadId, int]]:
            blobs = {blob.digest: blob.size async for blob in self.workers[0].scan()}
            return blobs, {upload: await self.workers[1].received(upload) for upload in self.uploads}

        blobs, uploads = self.runner.run(found())
        assert list(blobs) == sorted(self.blobs)
        assert blobs == {digest: len(content) for digest, content in self.blobs.items()}
        assert uploads == {upload: len(content) for upload, content in self.uploads.items()}


StoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestStoreMachine = StoreMachine.TestCase
