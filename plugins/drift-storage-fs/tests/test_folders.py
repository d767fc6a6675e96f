"""Where files lie, what names may do, and what damaged, foreign or missing files mean."""

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from drift_storage_fs.store import FilesystemStore

from drift_core.api import (
    BlobStat,
    BlobStore,
    Digest,
    StartError,
    SupportsLocalPath,
    Unavailable,
    UploadId,
    UploadUnknown,
)

MIB = 1 << 20
OpenStore = Callable[..., Any]


async def source(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def push(store: BlobStore, content: bytes) -> BlobStat:
    upload = await store.begin()
    await store.append(upload, 0, source(content))
    return await store.commit(upload, Digest.of(content))


async def read(store: BlobStore, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


def blob_file(store: FilesystemStore, digest: Digest) -> Path:
    return Path(store.local_path(digest))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Folders and names


async def test_layout(data: Path, store: FilesystemStore) -> None:
    """A blob lies at the documented place, and `local_path` names it; a commit leaves nothing else behind."""
    digest = (await push(store, b"abc")).digest
    assert files(data) == [f"blobs/sha256/{digest.encoded[:2]}/{digest.encoded}"]
    assert isinstance(store, SupportsLocalPath)
    assert blob_file(store, digest).read_bytes() == b"abc"
    assert blob_file(store, digest).is_absolute()


async def test_relative_path(tmp_path: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is that of the folder in which the store was opened."""
    monkeypatch.chdir(tmp_path)
    async with open_at(Path("relative/data")) as store:
        monkeypatch.chdir("/")
        digest = (await push(store, b"abc")).digest
        assert store.local_path(digest).startswith(f"{tmp_path}/relative/data/")


async def test_names_cannot_escape(tmp_path: Path, data: Path, store: FilesystemStore) -> None:
    """No upload id leads out of the folder of uploads, even to a file that exists."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"abc")
    inside = await store.begin()
    for name in ("../../victim", str(victim), f"../uploads/{inside}", f"{inside}.state", f"{inside}/", f"{inside}\0"):
        upload = UploadId(name)
        for call in (
            store.received(upload),
            store.append(upload, 0, source(b"x")),
            store.commit(upload, Digest.of(b"abc")),
        ):
            with pytest.raises(UploadUnknown):
                await call
        await store.abort(upload)
    assert victim.read_bytes() == b"abc"
    assert files(data) == [f"uploads/{inside}"]


async def test_abort_leaves_nothing(data: Path, store: FilesystemStore) -> None:
    """An abort removes the state too, also when an append was under way and records one afterwards."""
    upload, sent, release = await store.begin("sha512"), asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"abc"
        sent.set()
        await release.wait()

    task = asyncio.create_task(store.append(upload, 0, slow()))
    await sent.wait()
    await store.abort(upload)
    release.set()
    with pytest.raises(UploadUnknown):
        await task
    assert files(data) == []


async def test_cancelled_begin_leaves_nothing(data: Path, open_at: OpenStore) -> None:
    """An upload whose name nobody got is removed."""
    async with open_at(data) as store:
        for steps in range(10):
            task = asyncio.create_task(store.begin("sha512"))
            for _ in range(steps):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                await store.abort(task.result())
    assert files(data) == []


async def test_scan_ignores_foreign_files(data: Path, store: FilesystemStore) -> None:
    """Only plain files whose place and name are those of a blob are listed."""
    digest = (await push(store, b"abc")).digest
    folder = blob_file(store, digest).parent
    elsewhere = "00" if folder.name != "00" else "01"
    for name in (
        "README",
        "x" * 64,
        digest.encoded[:-1],
        digest.encoded + "0",
        digest.encoded.upper(),
        elsewhere + "0" * 62,
    ):
        (folder / name).write_bytes(b"foreign")
    (folder / (folder.name + "0" * 62)).mkdir()
    (folder / (folder.name + "1" * 62)).symlink_to(store.local_path(digest))
    (folder.parent / "zz").mkdir()
    (folder.parent / "zz" / ("zz" + "0" * 62)).write_bytes(b"foreign")
    (folder.parent / elsewhere).write_bytes(b"foreign")
    (data / "blobs" / "md5").mkdir()
    assert [blob.digest async for blob in store.scan()] == [digest]


@pytest.mark.parametrize("inside", ["", "blobs", "uploads", "blobs/sha256"])
async def test_start_error_names_the_obstacle(data: Path, open_at: OpenStore, inside: str) -> None:
    """A folder that cannot be made stops the start, with its path and the reason."""
    obstacle = data / inside
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_bytes(b"")
    with pytest.raises(StartError, match=r"File exists|Not a directory") as refused:
        async with open_at(data):
            pass
    assert str(obstacle) in str(refused.value)


async def test_start_error_when_not_writable(data: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written to stops the start, not the first push."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(data / "uploads"))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(StartError, match="Read-only file system"):
        async with open_at(data):
            pass


async def test_threads_end(data: Path, open_at: OpenStore) -> None:
    """A closed store leaves no thread, and says that it is closed."""
    async with open_at(data) as store:
        digest = (await push(store, b"abc")).digest
        assert any(thread.name.startswith("drift-fs-") for thread in threading.enumerate())
    assert not any(thread.name.startswith("drift-fs-") for thread in threading.enumerate())
    with pytest.raises(Unavailable):
        await store.stat(digest)


async def test_descriptors_are_closed(store: FilesystemStore) -> None:
    """Nothing leaks a descriptor: no read that is left or cancelled, no append that is refused or cancelled."""
    content = os.urandom(3 * MIB)
    digest = (await push(store, content)).digest
    before = descriptors()
    for steps in range(20):
        chunks = store.read(digest)
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
        upload = await store.begin()
        for call in (
            read(store, digest),
            store.append(upload, 7, source(content)),
            store.append(upload, None, source(content)),
        ):
            task = asyncio.create_task(call)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await store.append(upload, None, source())  # not before the last one has let go
        await store.abort(upload)
    for _ in range(500):
        if descriptors() > before:
            await asyncio.sleep(0.01)
    assert descriptors() <= before


# Blobs that are damaged, and a volume that is gone


async def test_damaged_blob_is_mended(store: FilesystemStore) -> None:
    """A push of a blob whose file was damaged replaces it."""
    content = os.urandom(1000)
    digest = (await push(store, content)).digest
    blob_file(store, digest).write_bytes(b"damaged")
    assert (await push(store, content)).size == 1000
    assert await read(store, digest) == content


async def test_deleted_blob_is_read_to_its_end(store: FilesystemStore) -> None:
    """A reader keeps its file, whether the blob is deleted or replaced meanwhile."""
    content = os.urandom(3 * MIB)
    digest = (await push(store, content)).digest
    chunks = store.read(digest)
    found = await anext(chunks)
    await push(store, content)
    found += await anext(chunks)
    await store.delete(digest)
    assert found + b"".join([chunk async for chunk in chunks]) == content


async def test_short_file_is_no_short_read(store: FilesystemStore) -> None:
    """A file that ends before the range, or shrinks under the reader, raises; it never looks like the end."""
    digest = (await push(store, os.urandom(3 * MIB))).digest
    for start, stop in ((0, 3 * MIB + 1), (3 * MIB + 1, None), (4 * MIB, 4 * MIB)):
        with pytest.raises(Unavailable):
            await read(store, digest, start, stop)
    chunks = store.read(digest)
    assert len(await anext(chunks)) == MIB
    os.truncate(store.local_path(digest), MIB + 10)
    assert len(await anext(chunks)) == 10
    with pytest.raises(Unavailable):
        await anext(chunks)


async def test_missing_volume_is_not_unknown(data: Path, store: FilesystemStore) -> None:
    """Where the whole folder is gone nothing is called unknown: that would tell clients and collectors a lie."""
    digest = (await push(store, b"abc")).digest
    upload = await store.begin()
    await store.append(upload, 0, source(b"def"))
    await asyncio.to_thread(data.rename, data.with_name("away"))

    async def scan() -> list[BlobStat]:
        return [blob async for blob in store.scan()]

    calls = [
        store.stat(digest),
        read(store, digest),
        scan(),
        store.begin(),
        store.received(upload),
        store.append(upload, None, source(b"x")),
        store.commit(upload, Digest.of(b"def")),
        store.delete(digest),
        store.check(),
    ]
    for call in calls:
        with pytest.raises(Unavailable) as refused:
            await call
        assert str(data) not in refused.value.message
    data.with_name("away").rename(data)
    await store.commit(upload, Digest.of(b"def"))


async def test_commit_between_open_and_lock(
    data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that opened the file before another worker committed it, and locked it after, writes to no blob."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))
    blob, real = blob_file(store, Digest.of(b"abc")), fcntl.flock

    def flock(fd: int, operation: int) -> None:
        blob.parent.mkdir(exist_ok=True)
        if not blob.exists():
            (data / "uploads" / upload).rename(blob)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UploadUnknown):
        await store.append(upload, 3, source(b"def"))
    assert blob.read_bytes() == b"abc"
