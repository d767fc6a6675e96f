"""The rules of every `BlobStore`."""

import asyncio
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    SupportsLocalPath,
    SupportsRedirect,
    UploadBusy,
    UploadId,
    UploadUnknown,
)
from drift_core.conformance.rules import Suite, power

MIB = 1 << 20
BOUND = 32 * MIB
"""Most bytes of Python objects that a transfer may hold, whatever its size."""

Reopen = Callable[[], AbstractAsyncContextManager[BlobStore]]


def content_of(size: int, seed: int = 0) -> bytes:
    """Returns bytes that no compression shortens, the same for the same ``seed``."""
    return random.Random(seed).randbytes(size)


async def chunked(content: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Sends the content in chunks, as a connection does."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(0)


async def push(store: BlobStore, content: bytes, chunk: int = 64 * 1024, algorithm: str = "sha256") -> BlobStat:
    """Commits the content as a blob."""
    upload = await store.begin(algorithm)
    assert await store.append(upload, 0, chunked(content, chunk)) == len(content)
    return await store.commit(upload, Digest.of(content, algorithm))


async def read(store: BlobStore, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
    """Returns what a read yields."""
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


async def scanned(store: BlobStore, after: Digest | None = None) -> list[Digest]:
    """Returns what a scan yields."""
    return [blob.digest async for blob in store.scan(after)]


class BrokenSourceError(Exception):
    """What a source raises when the connection of the client breaks."""


async def breaking(content: bytes, chunk: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Sends the content and then breaks."""
    async for part in chunked(content, chunk):
        yield part
    raise BrokenSourceError


async def stalling(content: bytes, stalled: asyncio.Event, chunk: int = 64 * 1024) -> AsyncIterator[bytes]:
    """Sends the content and then nothing for ever, like a client that hangs."""
    async for part in chunked(content, chunk):
        yield part
    stalled.set()
    await asyncio.Event().wait()


class StorageSuite(Suite):
    """What an author gives: the fixtures ``store``, an opened and empty one, and ``reopen``.

    ``reopen()`` is an async context manager that opens the same place once more, as a second worker does. An append
    that finds its upload busy should give up within some seconds there: one rule waits for it.
    """

    family = "storage"
    subject = "store"

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1])
    @pytest.mark.parametrize("chunk", [1000, 64 * 1024, 300 * 1024, 8 * MIB])
    async def test_round_trip(self, store: BlobStore, size: int, chunk: int) -> None:
        """What was committed is read back, whatever its size and however it arrived."""
        content = content_of(size)
        made = await push(store, content, chunk)
        assert (made.digest, made.size) == (Digest.of(content), size)
        assert await store.stat(made.digest) == made
        assert await read(store, made.digest) == content

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
        assert await scanned(store) == [digest]
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
        await store.commit(upload, Digest.of(b"abcdef"))
        assert await scanned(store) == [Digest.of(b"abcdef")]

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
        await stalled.wait()
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
        assert await scanned(store) == [kept]
        await push(store, content)
        assert await read(store, digest) == content

    async def test_scan(self, store: BlobStore) -> None:
        """A scan yields every blob once in ascending order with its size, and can begin behind any digest."""
        assert await scanned(store) == []
        blobs = {
            (await push(store, content_of(n, n), algorithm=("sha256", "sha512")[n % 2])).digest: n for n in range(60)
        }
        found = [blob async for blob in store.scan()]
        assert [blob.digest for blob in found] == sorted(blobs)
        assert {blob.digest: blob.size for blob in found} == blobs
        for after in [
            *sorted(blobs),
            Digest.of(b"absent"),
            Digest.of(b"absent", "sha384"),
            Digest("sha512:" + "f" * 128),
        ]:
            assert await scanned(store, after) == [digest for digest in sorted(blobs) if digest > after]

    async def test_scan_while_deleting(self, store: BlobStore) -> None:
        """A blob that is deleted during a scan is yielded or not; all others are."""
        digests = sorted([(await push(store, content_of(10, n))).digest for n in range(30)])
        found = []
        async with aclosing(store.scan()) as blobs:  # type: ignore[type-var]
            async for blob in blobs:
                found.append(blob.digest)
                if len(found) == 1:
                    for digest in digests[1::2]:
                        await store.delete(digest)
        assert set(digests[0::2]) <= set(found) <= set(digests)
        assert found == sorted(found)

    async def test_uncommitted_is_invisible(self, store: BlobStore) -> None:
        """No blob is visible before its commit, or after one that was refused."""
        content, stalled = content_of(2 * MIB), asyncio.Event()
        digest = Digest.of(content)
        upload = await store.begin()
        task = asyncio.create_task(store.append(upload, 0, stalling(content, stalled)))
        await stalled.wait()
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                await store.stat(digest)
            assert await scanned(store) == []
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                with pytest.raises(DigestInvalid):
                    await store.commit(upload, Digest.of(b"other"))
        await store.commit(upload, digest)
        assert await scanned(store) == [digest]

    async def test_concurrent_commits_of_one_digest(self, store: BlobStore, reopen: Reopen) -> None:
        """32 commits of one digest from as many uploads, in two workers, all succeed; the blob is whole throughout."""
        content = content_of(MIB + 5)
        digest = Digest.of(content)
        uploads = [await store.begin() for _ in range(32)]
        await asyncio.gather(*(store.append(upload, 0, chunked(content)) for upload in uploads))

        async def watch() -> None:
            while True:
                try:
                    assert await read(store, digest) == content
                except BlobUnknown:
                    await asyncio.sleep(0)

        watcher = asyncio.create_task(watch())
        async with reopen() as second:
            stores = (store, second)
            made = await asyncio.gather(*(stores[n % 2].commit(upload, digest) for n, upload in enumerate(uploads)))
        assert {(blob.digest, blob.size) for blob in made} == {(digest, len(content))}
        assert not watcher.done()
        watcher.cancel()
        assert await scanned(store) == [digest]

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
        await stalled.wait()
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
        await stalled.wait()
        again = asyncio.create_task(store.append(upload, None, chunked(b"def")))
        await asyncio.sleep(0.05)
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
            for _ in range(10):
                await push(store, content, MIB)
                # Readers that begin now are at it when the blob goes and comes again.
                for _ in range(20):
                    await asyncio.sleep(0)
                await store.delete(digest)

        async def watch() -> int:
            whole = 0
            while not churning.done():
                try:
                    assert await read(store, digest) == content
                    whole += 1
                except BlobUnknown:
                    await asyncio.sleep(0)
            return whole

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
        await stalled.wait()
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
        await store.check()
        assert await scanned(store) == []

    async def test_bounded_memory(self, store: BlobStore, large: int) -> None:
        """A blob of any size passes through bounded memory, on its way in and on its way out."""
        block = content_of(MIB)

        async def source() -> AsyncIterator[bytes]:
            for _ in range(large // MIB):
                yield block

        state = hashlib.sha256()
        for _ in range(large // MIB):
            state.update(block)
        tracemalloc.start()
        try:
            upload = await store.begin()
            await store.append(upload, 0, source())
            digest = (await store.commit(upload, Digest(f"sha256:{state.hexdigest()}"))).digest
            size = 0
            async for chunk in store.read(digest):
                size += len(chunk)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == large
        assert peak < BOUND, f"{peak >> 20} MiB of Python objects for a blob of {large >> 20} MiB"

    @power(SupportsLocalPath)
    async def test_local_path(self, store: BlobStore) -> None:
        """The local path of a blob is absolute and holds exactly its bytes; that of an unknown one is no file."""
        assert isinstance(store, SupportsLocalPath)
        content = content_of(MIB + 3)
        digest = (await push(store, content)).digest
        path = Path(store.local_path(digest))
        assert path.is_absolute()
        assert path.read_bytes() == content  # noqa: ASYNC240 - it is the rule
        assert not Path(store.local_path(Digest.of(b"never pushed"))).exists()  # noqa: ASYNC240

    @power(SupportsRedirect)
    async def test_redirect(self, store: BlobStore) -> None:
        """A redirect is an absolute URL without a fragment, or None to stream instead."""
        assert isinstance(store, SupportsRedirect)
        digest = (await push(store, b"abc")).digest
        for method in ("GET", "HEAD"):
            url = await store.redirect(digest, method, "127.0.0.1")
            if url is not None:
                parts = urlsplit(url)
                assert parts.scheme in {"http", "https"}
                assert parts.netloc
                assert not parts.fragment
