"""The rules of every `BlobStore`."""

import asyncio
import hashlib
import multiprocessing
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import ClassVar, Literal

import pytest
from anyio import Path, to_thread
from anyio.from_thread import BlockingPortal

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    StorageFull,
    SupportsLocalPath,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadUnknown,
)
from drift_core.conformance.faults import Fault, FaultProxy
from drift_core.conformance.rules import Suite, power
from drift_core.conformance.suites.storage_model import explore

MIB = 1 << 20
Reopen = Callable[[], AbstractAsyncContextManager[BlobStore]]
Faulty = tuple[BlobStore, FaultProxy]

DOWN = {
    "refuses": None,
    "resets": Fault("reset", direction="up"),
    "hangs up": Fault("cut", direction="up"),
    "503": Fault("503", direction="up"),
}
"""The ways in which an endpoint is down before it has heard the request; None is a port on which nobody listens."""


def content_of(size: int, seed: int = 0) -> bytes:
    """Returns the same bytes for the same size and seed; none compresses."""
    return random.Random(seed).randbytes(size)


async def chunked(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Yields the content in chunks of ``size``, and lets other tasks run after each."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(0)


async def push(store: BlobStore, content: bytes, chunk: int = 64 * 1024, algorithm: str = "sha256") -> BlobStat:
    """Commits the content by one append."""
    upload = await store.begin(algorithm)
    assert await store.append(upload, 0, chunked(content, chunk)) == len(content)
    return await store.commit(upload, Digest.of(content, algorithm))


async def read(store: BlobStore, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
    """Returns the bytes ``[start, stop)`` of a blob."""
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


async def scanned(
    store: BlobStore, after: Digest | None = None, among: Collection[Digest] | None = None
) -> list[Digest]:
    """Returns the digests of a scan, of which a store that had content before yields more than those ``among``."""
    return [blob.digest async for blob in store.scan(after) if among is None or blob.digest in among]


class BrokenSourceError(Exception):
    """What a source raises when the connection of the client breaks."""


async def breaking(content: bytes, chunk: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Sends the content and then raises, like a connection that breaks."""
    async for part in chunked(content, chunk):
        yield part
    raise BrokenSourceError


async def stalling(content: bytes, stalled: asyncio.Event, chunk: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Sends the content and then nothing for ever, like a client that hangs."""
    async for part in chunked(content, chunk):
        yield part
    stalled.set()
    await asyncio.Event().wait()


async def reached(stalled: asyncio.Event, task: "asyncio.Task[int]") -> None:
    """Returns when the source has nothing more to give; an append that ends before that is let out."""
    waiting = asyncio.ensure_future(stalled.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        pytest.fail(f"the append ended before its source: {task.result()}")


def append_and_wait(reopen: Reopen, content: bytes, told: Connection) -> None:
    """Tells the name of an upload that holds ``content``, and waits to be killed; runs in a process of its own."""

    async def append() -> None:
        async with reopen() as store:
            upload = await store.begin()
            await store.append(upload, 0, chunked(content))
            told.send(upload)
            await asyncio.Event().wait()

    asyncio.run(append())


class StorageSuite(Suite):
    """The rules of a `BlobStore`; every test gets an empty one, or one whose content it leaves alone.

    Fixtures: ``store``, the opened driver; ``reopen``, a function without arguments that opens the same place once
    more, as a second worker does. ``reopen`` can be pickled (a module's function, or `functools.partial` of one),
    because a rule kills a process that uses it. ``large`` is the size in bytes of the blob that has to pass through in
    bounded memory, ``sequences`` the number of random sequences of calls that are compared with a model.

    Optional: ``faulty``, an empty store that reaches its endpoint over plain HTTP, and the `FaultProxy` through which
    it does. It has ``answer_seconds`` to give up an endpoint that is silent.
    """

    family = "storage"
    subject = "store"
    large: ClassVar[int] = 256 * MIB
    sequences: ClassVar[int] = 100
    answer_seconds: ClassVar[float] = 60.0

    @pytest.fixture
    def faulty(self) -> Faulty:
        """A store that is opened, and the proxy before its endpoint."""
        pytest.skip("no fixture: faulty")

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1])
    async def test_round_trip(self, store: BlobStore, size: int) -> None:
        """What was committed is read back, whatever its size."""
        content = content_of(size)
        made = await push(store, content)
        assert (made.digest, made.size) == (Digest.of(content), size)
        assert await store.stat(made.digest) == made
        assert await read(store, made.digest) == content

    @pytest.mark.parametrize("size", [1000, 300 * 1024, MIB, 8 * MIB])
    async def test_chunks(self, store: BlobStore, size: int) -> None:
        """The bytes may arrive in chunks of any size."""
        content = content_of(2 * MIB + 1)
        assert await read(store, (await push(store, content, size)).digest) == content

    async def test_large_blob(self, store: BlobStore) -> None:
        """A blob of any size passes through, up and down, in 32 MiB of memory."""
        hashed, size = hashlib.sha256(), 0

        async def chunks() -> AsyncIterator[bytes]:
            for n in range(self.large // MIB):
                chunk = n.to_bytes(8, "big") * (MIB // 8)
                hashed.update(chunk)
                yield chunk

        upload = await store.begin()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await store.append(upload, 0, chunks())
            made = await store.commit(upload, Digest("sha256:" + hashed.hexdigest()))
            async for chunk in store.read(made.digest):
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == made.size == self.large
        assert peak - before < 32 * MIB

    async def test_modified(self, store: BlobStore) -> None:
        """A blob tells when it was committed, within a few minutes, by which its age is known."""
        made = await push(store, b"new")
        assert abs(made.modified - time.time()) < 300

    @pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
    @pytest.mark.parametrize("hint", ["sha256", "sha512", "md5"])
    async def test_algorithms(self, store: BlobStore, algorithm: str, hint: str) -> None:
        """Every algorithm can be committed, whatever was hinted at."""
        content = content_of(MIB + 1)
        digest = Digest.of(content, algorithm)
        upload = await store.begin(hint)
        await store.append(upload, None, chunked(content))
        await store.commit(upload, digest)
        assert await read(store, digest) == content

    async def test_ranges(self, store: BlobStore) -> None:
        """A range is cut at exactly its edges."""
        content = content_of(2 * MIB + 7)
        digest = (await push(store, content)).digest
        edges = sorted({0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, len(content) - 1, len(content)})
        for start in edges:
            assert await read(store, digest, start) == content[start:]
            for stop in (edge for edge in edges if edge >= start):
                assert await read(store, digest, start, stop) == content[start:stop]

    async def test_unknown_blob(self, store: BlobStore) -> None:
        """A blob that was never committed is `BlobUnknown` for stat and for read, before any chunk."""
        digest = Digest.of(b"never pushed")
        with pytest.raises(BlobUnknown):
            await store.stat(digest)
        for start, stop in ((0, None), (0, 0), (5, 10)):
            with pytest.raises(BlobUnknown):
                await read(store, digest, start, stop)

    @pytest.mark.parametrize(
        "upload", ["0" * 32, "", "../x", "a/b", "..", "0" * 31 + "\n", "0" * 32 + "\n", "x" * 5000]
    )
    async def test_unknown_upload(self, store: BlobStore, upload: str) -> None:
        """An upload that was never begun is `UploadUnknown`, also under an impossible name; to abort it is no error."""
        unknown = UploadId(upload)
        with pytest.raises(UploadUnknown):
            await store.received(unknown)
        with pytest.raises(UploadUnknown):
            await store.append(unknown, None, chunked(b"x"))
        with pytest.raises(UploadUnknown):
            await store.commit(unknown, Digest.of(b"x"))
        await store.abort(unknown)

    async def test_same_digest_twice(self, store: BlobStore) -> None:
        """A digest may be committed again."""
        content = content_of(1000)
        digest = (await push(store, content)).digest
        assert (await push(store, content)).digest == digest
        assert await scanned(store, among=[digest]) == [digest]
        assert await read(store, digest) == content

    async def test_offsets(self, store: BlobStore) -> None:
        """An append elsewhere than at the end is refused with what is held, and writes nothing."""
        upload = await store.begin()
        assert await store.append(upload, 0, chunked(b"abc")) == 3
        for wrong in (0, 2, 4):
            with pytest.raises(OffsetMismatch) as refused:
                await store.append(upload, wrong, chunked(b"xyz"))
            assert refused.value.received == 3
        assert await store.received(upload) == 3
        assert await store.append(upload, 3, chunked(b"def")) == 6
        assert await store.append(upload, None, chunked(b"")) == 6
        await store.commit(upload, Digest.of(b"abcdef"))
        with pytest.raises(UploadUnknown):
            await store.received(upload)

    async def test_many_appends(self, store: BlobStore) -> None:
        """An upload may arrive in any number of pieces."""
        content = content_of(3 * MIB)
        upload, offset = await store.begin(), 0
        for size in (1, 100, MIB - 1, 17, MIB, MIB - 117):
            offset = await store.append(upload, offset, chunked(content[offset : offset + size]))
        assert offset == len(content)
        digest = (await store.commit(upload, Digest.of(content))).digest
        assert await read(store, digest) == content

    async def test_wrong_digest_keeps_upload(self, store: BlobStore) -> None:
        """A wrong digest is refused and the upload stays: it can be appended to and committed."""
        upload = await store.begin()
        await store.append(upload, 0, chunked(b"abc"))
        for algorithm in ("sha256", "sha512", "sha256"):
            with pytest.raises(DigestInvalid):
                await store.commit(upload, Digest.of(b"other", algorithm))
        assert await store.append(upload, 3, chunked(b"def")) == 6
        digests = [Digest.of(content) for content in (b"abc", b"abcdef", b"other")]
        await store.commit(upload, digests[1])
        assert await scanned(store, among=digests) == [digests[1]]

    async def test_resume_after_reopen(self, store: BlobStore, reopen: Reopen) -> None:
        """An upload outlives the store that began it, and workers may take turns."""
        content = content_of(3 * MIB)
        upload = await store.begin()
        await store.append(upload, 0, chunked(content[:MIB]))
        async with reopen() as second:
            assert await second.received(upload) == MIB
            await second.append(upload, MIB, chunked(content[MIB : 2 * MIB]))
        await store.append(upload, 2 * MIB, chunked(content[2 * MIB :]))
        async with reopen() as third:
            with pytest.raises(DigestInvalid):
                await third.commit(upload, Digest.of(content[:MIB]))
            digest = (await third.commit(upload, Digest.of(content))).digest
        assert await read(store, digest) == content

    async def test_abort(self, store: BlobStore) -> None:
        """An aborted upload is gone; to abort again is no error, and other uploads are untouched."""
        upload, other = await store.begin(), await store.begin()
        await store.append(upload, 0, chunked(b"abc"))
        await store.append(other, 0, chunked(b"other"))
        await store.abort(upload)
        await store.abort(upload)
        with pytest.raises(UploadUnknown):
            await store.received(upload)
        with pytest.raises(UploadUnknown):
            await store.append(upload, 3, chunked(b"def"))
        with pytest.raises(UploadUnknown):
            await store.commit(upload, Digest.of(b"abc"))
        await store.commit(other, Digest.of(b"other"))

    async def test_abort_during_append(self, store: BlobStore) -> None:
        """An abort does not wait for an append, which then cannot bring the upload back."""
        upload, stalled = await store.begin(), asyncio.Event()
        task = asyncio.create_task(store.append(upload, 0, stalling(b"abc", stalled)))
        await reached(stalled, task)
        async with asyncio.timeout(15):
            await store.abort(upload)
        task.cancel()
        with pytest.raises((UploadUnknown, asyncio.CancelledError)):
            await task
        with pytest.raises(UploadUnknown):
            await store.commit(upload, Digest.of(b"abc"))

    async def test_delete(self, store: BlobStore) -> None:
        """A deleted blob is unknown, to delete again is no error, and it can be pushed again."""
        content = content_of(1000)
        kept = (await push(store, b"kept")).digest
        digest = (await push(store, content)).digest
        await store.delete(digest)
        await store.delete(digest)
        await store.delete(Digest.of(b"never pushed"))
        with pytest.raises(BlobUnknown):
            await store.stat(digest)
        with pytest.raises(BlobUnknown):
            await read(store, digest)
        assert await scanned(store, among=[kept, digest]) == [kept]
        await push(store, content)
        assert await read(store, digest) == content

    async def test_scan(self, store: BlobStore) -> None:
        """A scan yields every blob once in ascending order with its size, and can begin behind any digest."""
        before = set(await scanned(store))
        blobs = {
            (await push(store, content_of(n, n), algorithm=("sha256", "sha512")[n % 2])).digest: n for n in range(60)
        }
        found = [blob async for blob in store.scan() if blob.digest not in before]
        assert [blob.digest for blob in found] == sorted(blobs)
        assert {blob.digest: blob.size for blob in found} == blobs
        for after in [
            *sorted(blobs),
            Digest.of(b"absent"),
            Digest.of(b"absent", "sha384"),
            Digest("sha512:" + "f" * 128),
        ]:
            assert await scanned(store, after, blobs) == [digest for digest in sorted(blobs) if digest > after]

    async def test_scan_while_deleting(self, store: BlobStore) -> None:
        """A blob that is deleted during a scan is yielded or not; all others are."""
        digests = sorted([(await push(store, content_of(10, n))).digest for n in range(30)])
        found = []
        async with aclosing(store.scan()) as blobs:  # type: ignore[type-var]
            async for blob in blobs:
                if blob.digest in digests:
                    found.append(blob.digest)
                if len(found) == 1:
                    for digest in digests[1::2]:
                        await store.delete(digest)
        assert set(digests[0::2]) <= set(found)
        assert found == sorted(set(found))

    async def test_uncommitted_is_invisible(self, store: BlobStore) -> None:
        """No blob is visible before its commit, or after one that was refused."""
        content, stalled = content_of(2 * MIB), asyncio.Event()
        digest = Digest.of(content)
        upload = await store.begin()
        task = asyncio.create_task(store.append(upload, 0, stalling(content, stalled)))
        await reached(stalled, task)
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                await store.stat(digest)
            assert await scanned(store, among=[digest]) == []
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                with pytest.raises(DigestInvalid):
                    await store.commit(upload, Digest.of(b"other"))
        await store.commit(upload, digest)
        assert await scanned(store, among=[digest]) == [digest]

    async def test_concurrent_commits_of_one_digest(self, store: BlobStore, reopen: Reopen) -> None:
        """32 commits of one digest from as many uploads, in two workers, all succeed; the blob is whole throughout."""
        content = content_of(MIB + 5)
        digest = Digest.of(content)
        uploads = [await store.begin() for _ in range(32)]
        await asyncio.gather(*(store.append(upload, 0, chunked(content)) for upload in uploads))

        async def watch() -> None:
            seen = False
            while True:
                try:
                    assert await read(store, digest) == content
                    seen = True
                except BlobUnknown:
                    assert not seen, "a blob that was there is gone"
                await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        async with reopen() as second:
            stores = (store, second)
            made = await asyncio.gather(*(stores[n % 2].commit(upload, digest) for n, upload in enumerate(uploads)))
        assert {(blob.digest, blob.size) for blob in made} == {(digest, len(content))}
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        assert await scanned(store, among=[digest]) == [digest]

    async def test_concurrent_commits_of_one_upload(self, store: BlobStore) -> None:
        """Of several commits of one upload exactly one succeeds; the others learn that it is gone."""
        upload = await store.begin()
        await store.append(upload, 0, chunked(b"abc"))
        commits = (store.commit(upload, Digest.of(b"abc")) for _ in range(8))
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert sum(isinstance(result, BlobStat) for result in results) == 1
        assert sum(isinstance(result, UploadUnknown) for result in results) == 7

    async def test_one_append_at_a_time(self, store: BlobStore, reopen: Reopen) -> None:
        """While one append runs another is `UploadBusy`, in this worker and in others, and so is a commit."""
        upload, stalled = await store.begin(), asyncio.Event()
        task = asyncio.create_task(store.append(upload, 0, stalling(b"abc", stalled)))
        await reached(stalled, task)
        async with reopen() as second, asyncio.timeout(15):
            attempts = (
                store.append(upload, None, chunked(b"x")),
                second.append(upload, None, chunked(b"x")),
                second.commit(upload, Digest.of(b"abc")),
            )
            results = await asyncio.gather(*attempts, return_exceptions=True)
        assert [type(result) for result in results] == [UploadBusy] * 3
        task.cancel()
        await asyncio.wait([task])
        assert await store.append(upload, 3, chunked(b"def")) == 6
        await store.commit(upload, Digest.of(b"abcdef"))

    async def test_append_waits_for_a_broken_one(self, store: BlobStore) -> None:
        """A client that comes back at once is not refused because its broken connection has not ended yet."""
        upload, stalled = await store.begin(), asyncio.Event()
        task = asyncio.create_task(store.append(upload, 0, stalling(b"abc", stalled)))
        await reached(stalled, task)
        again = asyncio.create_task(store.append(upload, None, chunked(b"def")))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        assert await again == 6
        await asyncio.wait([task])

    async def test_read_while_deleting(self, store: BlobStore) -> None:
        """A blob that is deleted while it is read is read whole, or the read raises."""
        content = content_of(4 * MIB)
        digest = (await push(store, content)).digest
        parts = []
        try:
            async with aclosing(store.read(digest)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    parts.append(chunk)
                    await store.delete(digest)
        except BlobUnknown:
            return
        assert b"".join(parts) == content

    async def test_readers_and_deleters(self, store: BlobStore) -> None:
        """Under pushes and deletes of one blob every read is whole or `BlobUnknown`."""
        content = content_of(2 * MIB + 1)
        digest = Digest.of(content)

        async def churn() -> None:
            for turns in range(10):
                await push(store, content)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await store.delete(digest)

        async def watch() -> None:
            while not churning.done():
                with suppress(BlobUnknown):
                    assert await read(store, digest) == content
                await asyncio.sleep(0)

        churning = asyncio.create_task(churn())
        await asyncio.gather(churning, *(watch() for _ in range(4)))

    async def test_abandoned_read(self, store: BlobStore) -> None:
        """A reader may go away in the middle, by leaving or by being cancelled, any number of times."""
        digest = (await push(store, content_of(3 * MIB))).digest
        for _ in range(50):
            async with aclosing(store.read(digest)) as chunks:  # type: ignore[type-var]
                async for _chunk in chunks:
                    break
            task = asyncio.create_task(read(store, digest))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    @pytest.mark.parametrize("size", [0, 10, MIB, 3 * MIB + 10])
    async def test_broken_source_keeps_bytes(self, store: BlobStore, size: int) -> None:
        """What arrived before the source raised stays, the error comes through, and the upload goes on from there."""
        content = content_of(size + 5)
        upload = await store.begin()
        with pytest.raises(BrokenSourceError):
            await store.append(upload, 0, breaking(content[:size]))
        assert await store.received(upload) == size
        await store.append(upload, size, chunked(content[size:]))
        assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content

    @pytest.mark.parametrize("size", [0, 10, MIB, 3 * MIB + 10])
    async def test_cancelled_append_keeps_bytes(self, store: BlobStore, size: int) -> None:
        """What arrived before the task was cancelled stays, and the upload is free at once."""
        content, stalled = content_of(size + 5), asyncio.Event()
        upload = await store.begin()
        task = asyncio.create_task(store.append(upload, 0, stalling(content[:size], stalled)))
        await reached(stalled, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.received(upload) == size
        await store.append(upload, size, chunked(content[size:]))
        assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content

    async def test_cancel_append_at_every_await(self, store: BlobStore) -> None:
        """Wherever an append is cancelled, even twice, a prefix stays, and the upload can be completed."""
        content = content_of(2 * MIB + 1000)
        for steps in range(60):
            upload = await store.begin()
            task = asyncio.create_task(store.append(upload, 0, chunked(content)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            held = await store.append(upload, None, chunked(b""))
            assert held == await store.received(upload) <= len(content)
            await store.append(upload, held, chunked(content[held:]))
            await store.commit(upload, Digest.of(content))

    async def test_cancel_commit_at_every_await(self, store: BlobStore) -> None:
        """Wherever a commit is cancelled, the blob appears whole or the upload is still there."""
        for steps in range(30):
            content = content_of(1000, steps)
            upload = await store.begin()
            await store.append(upload, 0, chunked(content))
            task = asyncio.create_task(store.commit(upload, Digest.of(content)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            with suppress(UploadUnknown):
                await store.commit(upload, Digest.of(content))
            assert await read(store, Digest.of(content)) == content

    async def test_many_uploads_at_once(self, store: BlobStore) -> None:
        """Uploads do not disturb one another."""
        contents = [content_of(MIB // 2 + n, n) for n in range(40)]
        made = await asyncio.gather(*(push(store, content, 10_000 + n) for n, content in enumerate(contents)))
        for content, blob in zip(contents, made, strict=True):
            assert blob.digest == "sha256:" + hashlib.sha256(content).hexdigest()
            assert await read(store, blob.digest) == content

    async def test_check(self, store: BlobStore) -> None:
        """A store that works says so, and leaves nothing behind."""
        before = await scanned(store)
        await store.check()
        assert await scanned(store) == before

    async def test_kill_between_append_and_commit(self, store: BlobStore, reopen: Reopen) -> None:
        """After kill -9 of the process that appended, the upload goes on in another process where it ended."""
        content, more = content_of(2 * MIB + 1), b"the rest"
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=append_and_wait, args=(reopen, content, there))
        process.start()
        there.close()
        try:
            upload = await to_thread.run_sync(here.recv)
        finally:
            process.kill()
            await to_thread.run_sync(process.join)
            process.close()
            here.close()
        assert await store.received(upload) == len(content)
        with pytest.raises(BlobUnknown):
            await store.stat(Digest.of(content))
        assert await store.append(upload, len(content), chunked(more)) == len(content + more)
        made = await store.commit(upload, Digest.of(content + more))
        assert await read(store, made.digest) == content + more

    async def test_any_sequence(self, reopen: Reopen) -> None:
        """Any sequence of calls, in two workers that come and go, gives what a model in memory gives."""
        async with BlockingPortal() as portal:
            await to_thread.run_sync(partial(explore, portal, reopen, self.sequences))

    @pytest.mark.parametrize("fault", DOWN.values(), ids=DOWN)
    async def test_endpoint_down(self, faulty: Faulty, fault: Fault | None) -> None:
        """While its endpoint is down a call is `Unavailable`: no blob seems absent, deleted or committed."""
        store, proxy = faulty
        digest = (await push(store, b"kept")).digest
        upload = await store.begin()
        await store.append(upload, 0, chunked(b"abc"))
        if fault is None:
            await proxy.refuse()
        else:
            proxy.inject(fault)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.stat(digest),
            lambda: read(store, digest),
            lambda: store.commit(upload, Digest.of(b"abc")),
            lambda: store.delete(digest),
            lambda: scanned(store),
            store.check,
        ]
        for call in calls:
            async with asyncio.timeout(self.answer_seconds):
                with pytest.raises(Unavailable):
                    await call()
        await proxy.heal()
        assert await scanned(store) == [digest]
        await store.commit(upload, Digest.of(b"abc"))
        await store.check()

    async def test_endpoint_breaks_append(self, faulty: Faulty) -> None:
        """An append whose connection breaks is `Unavailable`, or was repeated; it goes on where `received` says."""
        store, proxy = faulty
        content = content_of(8 * MIB)
        upload = await store.begin()
        await store.append(upload, 0, chunked(content[:MIB], MIB))
        proxy.inject(Fault("reset", MIB // 2, "up"))
        with suppress(Unavailable):
            await store.append(upload, MIB, chunked(content[MIB:], MIB))
        await proxy.heal()
        held = await store.received(upload)
        assert MIB <= held <= len(content)
        await store.append(upload, held, chunked(content[held:], MIB))
        made = await store.commit(upload, Digest.of(content))
        assert await read(store, made.digest) == content

    @pytest.mark.parametrize("kind", ["reset", "cut"])
    async def test_endpoint_breaks_read(self, faulty: Faulty, kind: Literal["reset", "cut"]) -> None:
        """A read whose connection breaks is `Unavailable`, or whole; it never ends short."""
        store, proxy = faulty
        content = content_of(4 * MIB)
        digest = (await push(store, content, MIB)).digest
        parts = []
        with suppress(Unavailable):
            async for chunk in store.read(digest):
                parts.append(chunk)
                if len(parts) == 1:
                    proxy.inject(Fault(kind, 1000))
            assert b"".join(parts) == content
        await proxy.heal()
        assert await read(store, digest) == content

    async def test_endpoint_silent(self, faulty: Faulty) -> None:
        """A call that gets no answer gives up as `Unavailable`."""
        store, proxy = faulty
        digest = (await push(store, b"kept")).digest
        proxy.inject(Fault("stall"))
        with pytest.raises(Unavailable):
            async with asyncio.timeout(self.answer_seconds):
                await store.stat(digest)

    async def test_endpoint_slow(self, faulty: Faulty) -> None:
        """An endpoint that takes its time, but gets on, is waited for."""
        store, proxy = faulty
        content = content_of(128 * 1024)
        proxy.inject(Fault("slow", direction="up", rate=256 * 1024))
        assert await read(store, (await push(store, content)).digest) == content

    async def test_endpoint_full(self, faulty: Faulty) -> None:
        """Where the endpoint says 507, Insufficient Storage, a push is `StorageFull`, and there is no blob."""
        store, proxy = faulty
        upload = await store.begin()
        proxy.inject(Fault("507", direction="up"))

        async def rest() -> None:
            await store.append(upload, 0, chunked(b"abc"))
            await store.commit(upload, Digest.of(b"abc"))

        with pytest.raises(StorageFull):
            await rest()
        await proxy.heal()
        with pytest.raises(BlobUnknown):
            await store.stat(Digest.of(b"abc"))

    @power(SupportsLocalPath)
    async def test_local_path(self, store: BlobStore) -> None:
        """The path of a blob is absolute, has its bytes once it was read, and is no file before or once deleted."""
        assert isinstance(store, SupportsLocalPath)
        content = content_of(MIB + 1)
        path = Path(store.local_path(Digest.of(content)))
        assert path.is_absolute()
        assert not await path.exists()
        digest = (await push(store, content)).digest
        # Some keep a blob as a file only once somebody wants it.
        assert await read(store, digest) == content
        assert await path.read_bytes() == content
        await store.delete(digest)
        assert not await path.exists()
