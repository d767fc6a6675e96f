"""How copies come to be, are used, make room and go, in one process and beside others; and disks that fail."""

import asyncio
import errno
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from drift_storage_cached import filling
from drift_storage_cached.folder import Room
from drift_storage_cached.store import CachedStore, PassingStore
from structlog.testing import capture_logs

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    StartError,
    SupportsEncoded,
    SupportsLocalPath,
    SupportsRedirect,
    SupportsStored,
    Unavailable,
)
from drift_core.conformance import open_memory_store
from drift_core.conformance.suites.storage import content_of, push, read
from tests.tools import unavailable

from .conftest import OpenLayer, copies, half_made, layer, open_files, settle

MIB = 1 << 20
GIB = 1 << 30


class Slowly:
    """A store beneath, of which it is known what was asked, and whose chunks can be held back, or cut."""

    def __init__(self, inner: BlobStore, chunk: int = MIB) -> None:
        self.inner = inner
        self.reads: list[tuple[int, int | None]] = []
        self.going = asyncio.Event()
        self.going.set()
        self.breaks_at: int | None = None
        self._chunk = chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self.reads.append((start, stop))
        size = (await self.inner.stat(digest)).size if stop is None else stop
        for at in range(start, size, self._chunk):
            if at and at == self.breaks_at:
                raise Unavailable("broken")
            async for chunk in self.inner.read(digest, at, min(at + self._chunk, size)):
                yield chunk
            await self.going.wait()

    async def stat(self, digest: Digest) -> BlobStat:
        return await self.inner.stat(digest)


@pytest.fixture
async def beneath() -> AsyncIterator[Slowly]:
    async with open_memory_store() as inner:
        yield Slowly(inner)


@pytest.fixture
async def over(beneath: Slowly, tmp_path: Path) -> AsyncIterator[CachedStore]:
    """Yields the layer around `beneath`, with room for 4 MiB, whose blobs may have 3."""
    async with layer(beneath, tmp_path / "cache", max_gb=4 * MIB / GIB, max_blob_mb=3) as store:
        yield store


def value(store: PassingStore, name: str) -> float:
    return float(getattr(store.measures, name)._value.get())


async def pull(store: CachedStore, content: bytes) -> Digest:
    """Pushes and reads a blob, as the core does, which knows its size; a copy is there if there will be one."""
    digest = (await push(store, content)).digest
    assert await read(store, digest, 0, len(content)) == content
    await settle(store)
    return digest


def used(store: CachedStore, digest: Digest, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(store.folder.path(digest), (then, then))


def copy_of(store: CachedStore, digest: Digest) -> bytes:
    return Path(store.folder.path(digest)).read_bytes()


def write(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def sizes_of(store: CachedStore) -> list[int]:
    return [path.stat().st_size for path in Path(store.folder._blobs).glob("*/*/*")]


# Copies


@pytest.mark.parametrize("size", [1, 1000, MIB, 2 * MIB + 7])
async def test_second_read_asks_nobody(beneath: Slowly, over: CachedStore, size: int) -> None:
    content = content_of(size)
    digest = await pull(over, content)
    assert copy_of(over, digest) == content
    beneath.reads.clear()
    assert await read(over, digest) == content
    assert await read(over, digest, 0, size) == content
    assert await read(over, digest, size // 2, size // 2 + 1) == content[size // 2 : size // 2 + 1]
    assert not beneath.reads
    assert (value(over, "misses"), value(over, "copies"), value(over, "held")) == (1, 1, size)
    assert (value(over, "hits"), value(over, "bytes")) == (3, 2 * size + 1)
    over.local_path(digest)
    assert (value(over, "hits"), value(over, "bytes")) == (4, 3 * size + 1)
    assert not half_made(over)


async def test_what_becomes_no_copy(over: CachedStore) -> None:
    """Parts, whatever is read of them; what is too large; and nothing at all."""
    content = content_of(3 * MIB)
    digest = (await push(over, content)).digest
    assert await read(over, digest, 0, 1) == content[:1]
    assert await read(over, digest, 0, 2 * MIB) == content[: 2 * MIB]
    assert await read(over, digest, MIB) == content[MIB:]
    large = content_of(3 * MIB + 1)
    known = (await push(over, large)).digest
    assert await read(over, known, 0, len(large)) == large
    assert await read(over, known) == large
    assert await read(over, (await push(over, b"")).digest) == b""
    await settle(over)
    assert copies(over) == set()
    assert not half_made(over)
    assert not over._fillings


async def test_who_wants_the_first_byte_leaves_nothing(over: CachedStore) -> None:
    """As the core does to answer HEAD: it takes one chunk, and goes."""
    digest = (await push(over, content_of(2 * MIB))).digest
    async with aclosing(over.read(digest, 0, 2 * MIB)) as chunks:  # type: ignore[type-var]
        await anext(chunks)
        assert not half_made(over)
    assert not over._fillings


async def test_small_part_is_not_written_at_all(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = (await push(over, content_of(2 * MIB))).digest
    begun: list[Digest] = []
    monkeypatch.setattr(over.folder, "begin", begun.append)
    assert await read(over, digest, 0, 1) == content_of(2 * MIB)[:1]
    await settle(over)
    assert begun == []


@pytest.mark.parametrize("chunks_taken", [1, 2, 3])
async def test_client_that_leaves(over: CachedStore, chunks_taken: int) -> None:
    content = content_of(3 * MIB)
    digest = (await push(over, content)).digest
    async with aclosing(over.read(digest)) as chunks:  # type: ignore[type-var]
        for _ in range(chunks_taken):
            await anext(chunks)
    await settle(over)
    assert copies(over) == set()
    assert not half_made(over)
    assert await read(over, digest) == content
    await settle(over)
    assert copies(over) == {digest}


async def test_store_that_breaks(beneath: Slowly, over: CachedStore) -> None:
    content = content_of(3 * MIB)
    digest = (await push(over, content)).digest
    beneath.breaks_at = 2 * MIB
    with pytest.raises(Unavailable):
        await read(over, digest)
    await settle(over)
    assert copies(over) == set()
    assert not half_made(over)


async def test_what_is_damaged_beneath_becomes_no_copy(store: CachedStore) -> None:
    content = content_of(2 * MIB)
    digest = (await push(store, content)).digest
    assert isinstance(store.beneath, SupportsLocalPath)
    lies = store.beneath.local_path(digest)
    write(lies, content[:-1] + b"?")
    assert await read(store, digest) != content
    await settle(store)
    assert copies(store) == set()
    # A copy is as good as it ever was, and who looks after the blob still finds that it is not.
    write(lies, content)
    await pull(store, content)
    write(lies, content[:-1] + b"?")
    assert await read(store, digest) == content
    assert isinstance(store, SupportsStored)
    assert b"".join([chunk async for chunk in store.stored(digest)]) != content


async def test_pulls_at_once_make_one_copy(beneath: Slowly, over: CachedStore, tmp_path: Path) -> None:
    """Of this process, and of another one that shares the folder."""
    content = content_of(3 * MIB)
    digest = (await push(over, content)).digest
    async with layer(beneath, tmp_path / "cache", max_gb=4 * MIB / GIB) as other:
        beneath.going.clear()
        pulls = [asyncio.create_task(read(one, digest)) for one in (over, other) for _ in range(4)]
        while len(beneath.reads) < 8:
            await asyncio.sleep(0.01)
        beneath.going.set()
        assert await asyncio.gather(*pulls) == [content] * 8
        await settle(over)
        await settle(other)
        assert value(over, "copies") + value(other, "copies") == 1
        assert copy_of(other, digest) == content
        assert not half_made(over)


async def test_no_more_copies_at_once_than_there_is_memory_for(
    beneath: Slowly, over: CachedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("drift_storage_cached.store.FILLINGS", 2)
    contents = [content_of(1000, seed) for seed in range(4)]
    digests = [(await push(over, content)).digest for content in contents]
    beneath.going.clear()
    pulls = [asyncio.create_task(read(over, digest)) for digest in digests]
    while len(beneath.reads) < 4:
        await asyncio.sleep(0.01)
    beneath.going.set()
    assert await asyncio.gather(*pulls) == contents
    await settle(over)
    assert len(copies(over)) == 2


# The end of a copy


async def test_deleted_while_it_is_read(beneath: Slowly, over: CachedStore) -> None:
    content = content_of(2 * MIB)
    digest = (await push(over, content)).digest
    beneath.going.clear()
    pulling = asyncio.create_task(read(over, digest))
    while not beneath.reads:
        await asyncio.sleep(0.01)
    await over.delete(digest)
    beneath.going.set()
    with pytest.raises(BlobUnknown):
        await pulling
    await settle(over)
    assert copies(over) == set()


async def test_deleted_when_all_of_it_is_read(over: CachedStore) -> None:
    """The copy that is about to be made is made no more."""
    digest = (await push(over, content_of(1000))).digest
    chunks = over.read(digest)
    await anext(chunks)
    await over.delete(digest)
    assert [chunk async for chunk in chunks] == []
    await settle(over)
    assert copies(over) == set()


async def test_pushed_again(over: CachedStore) -> None:
    """What mends a blob makes its copy anew, which may be what was damaged."""
    content = content_of(1000)
    digest = await pull(over, content)
    write(over.local_path(digest), bytes(1000))
    await push(over, content)
    assert await read(over, digest) == content


async def test_copy_that_was_cut_short(over: CachedStore) -> None:
    """Whoever did it: nothing is read from it, and it is made anew."""
    content = content_of(2 * MIB)
    digest = await pull(over, content)
    os.truncate(over.local_path(digest), MIB)
    assert await read(over, digest, 0, 2 * MIB) == content
    await settle(over)
    assert copy_of(over, digest) == content
    assert over.folder.settle(recount=True).held == 2 * MIB


async def test_what_was_not_used_for_longest_makes_room(over: CachedStore) -> None:
    digests = [await pull(over, content_of(MIB, seed)) for seed in range(4)]
    assert value(over, "held") == 4 * MIB
    for age, digest in enumerate(reversed(digests)):
        used(over, digest, 1000 + age)
    # The oldest one is pulled: as a file, of which nobody reads the bytes here.
    over.local_path(digests[0])
    await asyncio.to_thread(over._reading.close)
    last = await pull(over, content_of(MIB, 9))
    # A few more go at a time than have to.
    assert copies(over) == {digests[0], digests[3], last}
    assert value(over, "held") == 3 * MIB
    assert value(over, "evictions") == 2


async def test_bound_holds_for_several_processes(beneath: Slowly, over: CachedStore, tmp_path: Path) -> None:
    async with layer(beneath, tmp_path / "cache", max_gb=4 * MIB / GIB) as other:
        for seed in range(30):
            await pull([over, other][seed % 2], content_of(MIB // 2 + seed, seed))
            sizes = sizes_of(over)
            assert sum(sizes) <= 4 * MIB
            assert sum(sizes) == [value(over, "held"), value(other, "held")][seed % 2]
        assert sum(sizes) > 2 * MIB


async def test_less_room_than_before(beneath: Slowly, tmp_path: Path) -> None:
    async with layer(beneath, tmp_path / "cache") as store:
        for seed in range(4):
            await pull(store, content_of(MIB, seed))
    async with layer(beneath, tmp_path / "cache", max_gb=2.5 * MIB / GIB) as store:
        while len(copies(store)) > 2:
            await asyncio.sleep(0.01)
    # A count that is lost is made again.
    (tmp_path / "cache/cached/taken").write_bytes(b"?")
    async with layer(beneath, tmp_path / "cache", max_gb=2.5 * MIB / GIB) as store:
        while not value(store, "held"):
            await asyncio.sleep(0.01)
        assert value(store, "held") == 2 * MIB


async def test_leftovers_are_removed_at_the_start(beneath: Slowly, over: CachedStore, tmp_path: Path) -> None:
    """What dead processes leave; not what a living one is at."""
    content = content_of(3 * MIB)
    digest = (await push(over, content)).digest
    chunks = over.read(digest)
    for _ in range(3):
        await anext(chunks)
    while not half_made(over):
        await asyncio.sleep(0.01)
    (tmp_path / "cache/cached/making/sha256-dead").write_bytes(b"half")
    async with layer(beneath, tmp_path / "cache"):
        pass
    assert [path.name for path in half_made(over)] == [digest.replace(":", "-")]
    assert b"".join([chunk async for chunk in chunks])
    await settle(over)
    assert copies(over) == {digest}


# Disks that fail


async def test_failing_writes(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pull is whole, one warning is enough, and once the disk works there are copies again."""
    real, content = os.pwrite, content_of(2 * MIB)

    def pwrite(fd: int, data: bytes, at: int) -> int:
        if at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, memoryview(data)[:1000], at)

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "pwrite", pwrite)
        digest = await pull(over, content)
        await pull(over, content_of(3 * MIB, 1))
    assert [entry["reason"] for entry in logs] == ["[Errno 28] No space left on device"]
    assert value(over, "failures") == 2
    assert copies(over) == set()
    assert not half_made(over)
    assert await read(over, digest) == content
    await settle(over)
    assert copies(over) == {digest}


async def test_disk_that_hangs(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pull goes on without it, and the next ones do not even ask it."""
    monkeypatch.setattr(filling, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(filling, "AHEAD", 1)
    awake, asked, real = threading.Event(), 0, os.pwrite

    def pwrite(fd: int, data: bytes, at: int) -> int:
        nonlocal asked
        asked += 1
        assert awake.wait(60)
        return real(fd, data, at)

    contents = [content_of(3 * MIB, seed) for seed in range(2)]
    digests = [(await push(over, content)).digest for content in contents]
    monkeypatch.setattr(os, "pwrite", pwrite)
    for digest, content in zip(digests, contents, strict=True):
        assert await read(over, digest) == content
    assert asked == 1
    assert value(over, "failures") == 1
    awake.set()
    await settle(over)
    assert copies(over) == set()
    assert not half_made(over)


async def test_disk_that_hangs_holds_up_no_push(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a deletion; what was to be removed goes once the disk wakes up."""
    monkeypatch.setattr("drift_storage_cached.store.DROP_SECONDS", 0.05)
    content = content_of(1000)
    digest = await pull(over, content)
    awake, real = threading.Event(), over.folder.drop

    def drop(digest: Digest) -> Room | None:
        assert awake.wait(60)
        return real(digest)

    monkeypatch.setattr(over.folder, "drop", drop)
    await over.delete(digest)
    assert copies(over) == {digest}
    await push(over, content_of(1000, 1))
    # Until then copies are left alone.
    with pytest.raises(BlobUnknown):
        await read(over, digest)
    awake.set()
    await asyncio.to_thread(over._writing.close)
    assert copies(over) == set()


async def test_copy_that_cannot_be_read(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(2 * MIB)
    digest = await pull(over, content)
    real = os.pread

    def pread(fd: int, size: int, at: int) -> bytes:
        if at == MIB:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, size, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", pread)
        assert await read(over, digest) == content
    assert copies(over) == set()
    assert value(over, "failures") == 1


async def test_loop_is_never_blocked(over: CachedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call that may wait for the disk runs in the thread of the event loop."""
    loop_thread, called = threading.get_ident(), set()

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            called.add((name, threading.get_ident() == loop_thread))
            return real(*arguments, **named)

        return call

    names = {"open", "pwrite", "pread", "fsync", "unlink", "replace", "utime", "scandir"}
    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(os, name, watched(name))
        digests = [await pull(over, content_of(2 * MIB, seed)) for seed in range(3)]
        await read(over, digests[2])
        os_utime = over.local_path(digests[2])
        await asyncio.to_thread(os.utime, os_utime, (0, 0))
        over.local_path(digests[2])
        await asyncio.to_thread(over._reading.close)
        await over.delete(digests[2])
    assert called == {(name, False) for name in names}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yields a file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        unavailable("only root can mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_full_disk(beneath: Slowly, small_disk: Path) -> None:
    """A real one: all is pulled, whatever fits is kept, and what is there makes room although the limit is not met."""
    async with layer(beneath, small_disk, max_gb=8 * MIB / GIB) as store:
        contents = [content_of(MIB + 512 * 1024, seed) for seed in range(4)]
        digests = [await pull(store, content) for content in contents]
        assert copies(store) == {digests[1], digests[3]}
        assert (value(store, "failures"), value(store, "evictions")) == (1, 1)
        assert value(store, "held") == 3 * MIB
        assert not half_made(store)


async def test_read_only_disk_stops_the_start(beneath: Slowly, small_disk: Path) -> None:
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StartError, match=r"storage\.cached\.path.*Read-only file system"):
        async with layer(beneath, small_disk):
            pass


# Beside others


async def test_commands_make_no_copies_and_read_none(over: CachedStore, beneath: Slowly, tmp_path: Path) -> None:
    content = content_of(1000)
    digest = await pull(over, content)
    beneath.reads.clear()
    async with layer(beneath, tmp_path / "cache", serving=False) as command:
        assert not isinstance(command, SupportsLocalPath)
        assert await read(command, digest) == content
        assert beneath.reads == [(0, None)]
        await command.delete(digest)
        assert copies(over) == set()
    async with layer(beneath, tmp_path / "nowhere", serving=False) as command:
        await command.delete(digest)
    assert not (tmp_path / "nowhere").exists()


async def test_powers(open_layer: OpenLayer) -> None:
    async with open_layer() as store:
        assert isinstance(store, SupportsLocalPath)
        assert not isinstance(store, SupportsRedirect)
        assert not isinstance(store, SupportsEncoded)


async def test_start_without_a_store_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="lies around another store"):
        async with layer(None, tmp_path):
            pass
    (tmp_path / "file").touch()
    async with open_files(tmp_path / "data") as beneath:
        with pytest.raises(StartError, match=r"storage\.cached\.path.*cannot be used: (Not a directory|File exists)"):
            async with layer(beneath, tmp_path / "file"):
                pass
