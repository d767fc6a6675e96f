"""Writes that fail, disks that are slow, hang or are full."""

import asyncio
import errno
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from drift_storage_fs import jobs, uploading
from drift_storage_fs.store import FilesystemStore

from drift_core.api import (
    BlobStat,
    BlobStore,
    Digest,
    StartError,
    StorageFull,
    Unavailable,
)

MIB = 1 << 20
OpenStore = Callable[..., Any]


def unavailable(reason: str) -> None:
    """Skips the test, or fails it under ``DRIFT_REQUIRE_ALL=1`` so that CI never skips silently."""
    if os.environ.get("DRIFT_REQUIRE_ALL") == "1":
        pytest.fail(f"DRIFT_REQUIRE_ALL is set and {reason}")
    pytest.skip(reason)


async def source(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def push(store: BlobStore, content: bytes) -> BlobStat:
    upload = await store.begin()
    await store.append(upload, 0, source(content))
    return await store.commit(upload, Digest.of(content))


async def read(store: BlobStore, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


# Writes that fail, and threads that hang


async def test_short_writes(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes less than it was given is asked again."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:1000], at))
    content = os.urandom(100_000)
    assert await read(store, (await push(store, content)).digest) == content


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, Unavailable)]
)
@pytest.mark.parametrize("failing", [1, 2, 3, 4])
async def test_failed_write(
    data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], failing: int
) -> None:
    """A write that fails half-way leaves the batches before it, no path in the answer, and an upload that goes on."""
    content, calls, real = os.urandom(4 * MIB), 0, os.pwrite

    def pwrite(fd: int, piece: bytes, at: int) -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            real(fd, piece[:1234], at)
            raise OSError(code, os.strerror(code), str(data))
        return real(fd, piece, at)

    upload = await store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(error) as refused:
            await store.append(upload, 0, source(*(content[n : n + MIB // 8] for n in range(0, 4 * MIB, MIB // 8))))
    assert type(refused.value) is error
    assert str(data) not in str(refused.value)
    held = (failing - 1) * MIB
    assert await store.received(upload) == held
    await store.append(upload, held, source(content[held:]))
    assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content


@pytest.mark.parametrize("sizes", [(MIB, MIB, 1), (1,)], ids=["receiving", "finishing"])
async def test_hanging_disk_does_not_hold_a_cancelled_task(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    """A cancelled append waits for its last bytes for a bounded time; the thread lets go of the upload by itself."""
    monkeypatch.setattr(jobs, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("drift_storage_fs.store.SETTLE_SECONDS", 0.1)
    writing, release, real = threading.Event(), threading.Event(), os.pwrite

    def pwrite(fd: int, piece: bytes, at: int) -> int:
        writing.set()
        assert release.wait(10)
        return real(fd, piece, at)

    upload = await store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        task = asyncio.create_task(store.append(upload, 0, source(*(bytes(size) for size in sizes))))
        await asyncio.to_thread(writing.wait)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5
        release.set()
        held = await store.append(upload, None, source())
    assert held in {sum(sizes[:n]) for n in range(1, 4)}
    await store.append(upload, held, source(b"d"))
    await store.commit(upload, Digest.of(bytes(held) + b"d"))


@pytest.mark.parametrize("sizes", [(MIB, 1), (1,)], ids=["receiving", "finishing"])
async def test_slow_disk_keeps_all_bytes_of_a_cancelled_task(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...]
) -> None:
    """A task that is cancelled again and again while its last bytes are written still leaves them all, written."""
    writing, sent, real = threading.Event(), asyncio.Event(), os.pwrite

    def pwrite(fd: int, piece: bytes, at: int) -> int:
        writing.set()
        time.sleep(0.2)
        return real(fd, piece, at)

    async def chunks() -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)
        sent.set()
        if len(sizes) > 1:
            await asyncio.Event().wait()

    upload = await store.begin()
    monkeypatch.setattr(os, "pwrite", pwrite)
    task = asyncio.create_task(store.append(upload, 0, chunks()))
    await sent.wait()
    await asyncio.to_thread(writing.wait)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.01)
    assert task.cancelled()
    assert await store.received(upload) == sum(sizes)
    assert await store.append(upload, sum(sizes), source(b"d")) == sum(sizes) + 1


async def test_loop_is_never_blocked(data: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call that may wait for the disk runs in the thread of the event loop."""
    content = os.urandom(2 * MIB)
    loop_thread, called = threading.get_ident(), set()

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            called.add((name, threading.get_ident() == loop_thread))
            return real(*arguments, **named)

        return call

    names = {"open", "pwrite", "pread", "fsync", "fstat", "close", "unlink", "stat", "scandir", "mkdir", "replace"}
    async with open_at(data) as store:
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, watched(name))
            digest = (await push(store, content)).digest
            assert await read(store, digest) == content
            chunks = store.read(digest)
            await anext(chunks)
            await chunks.aclose()
            await store.stat(digest)
            assert [blob.digest async for blob in store.scan()] == [digest]
            await store.check()
            await store.delete(digest)
            await store.abort(await store.begin())
    assert called == {(name, False) for name in names}


@pytest.mark.parametrize("writer_threads", [1, 2])
async def test_few_threads(data: Path, open_at: OpenStore, writer_threads: int) -> None:
    """One thread is enough for any number of uploads: none waits for a job that cannot start."""
    contents = [os.urandom(3 * MIB + n) for n in range(20)]
    async with open_at(data, writer_threads=writer_threads, fsync=False) as store, asyncio.timeout(60):
        await asyncio.gather(*(push(store, content) for content in contents))
        for content in contents:
            assert await read(store, Digest.of(content)) == content


def test_pieces() -> None:
    """Small chunks are joined, large ones are not copied."""
    large = bytes(uploading.LARGE_PIECE)
    assert list(uploading.pieces_of([])) == []
    assert list(uploading.pieces_of([b"a", b"", b"b", large, b"c"])) == [b"ab", large, b"c"]
    assert next(uploading.pieces_of([large])) is large


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        unavailable("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        unavailable(f"a small file system cannot be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill_up(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_full_disk(small_disk: Path, open_at: OpenStore) -> None:
    """On a full disk an append raises `StorageFull` and keeps what fitted; with more room the upload goes on."""
    content = os.urandom(12 * MIB)
    async with open_at(small_disk / "data") as store:
        kept = (await push(store, content[:MIB])).digest
        upload = await store.begin()
        chunks = (content[start : start + 64 * 1024] for start in range(0, len(content), 64 * 1024))
        with pytest.raises(StorageFull):
            await store.append(upload, 0, source(*chunks))
        held = await store.received(upload)
        assert 5 * MIB <= held < 8 * MIB
        with pytest.raises(StorageFull):
            await store.append(upload, held, source(content[held:]))
        assert await store.received(upload) == held
        fill_up(small_disk / "fill")
        with pytest.raises(StorageFull):
            await store.check()
        assert await read(store, kept) == content[:MIB]
        mount("-o", "remount,size=64m", small_disk)
        await store.check()
        await store.append(upload, held, source(content[held:]))
        assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_read_only_disk_stops_the_start(small_disk: Path, open_at: OpenStore) -> None:
    """A file system that is mounted read-only stops the start, also where all folders exist."""
    async with open_at(small_disk / "data"):
        pass
    mount("-o", "remount,ro", small_disk)
    with pytest.raises(StartError, match="Read-only file system"):
        async with open_at(small_disk / "data"):
            pass
