"""What holds for this store because it keeps files: folders, locks, durability, states, and a disk that fails."""

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from drift_storage_fs import hashing, jobs, uploading
from drift_storage_fs.store import FilesystemStore

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    StartError,
    StorageFull,
    SupportsLocalPath,
    Unavailable,
    UploadId,
    UploadUnknown,
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


def blob_file(store: FilesystemStore, digest: Digest) -> Path:
    return Path(store.local_path(digest))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def store(data: Path, open_at: OpenStore) -> AsyncIterator[FilesystemStore]:
    async with open_at(data) as store:
        yield store


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs that begin with ``async with`` a store called ``store``; kills what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def start(data: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
        script = tmp_path / f"child{len(started)}.py"
        script.write_text(
            textwrap.dedent("""\
                import asyncio, os, resource, sys, structlog
                from drift_core.api import Digest, ServerSettings, Services, UploadId
                from drift_storage_fs.config import FilesystemConfig
                from drift_storage_fs.store import open_store
                services = Services("storage-fs", structlog.get_logger(), ServerSettings("127.0.0.1:0", 10, 1.0))
                async def source(*chunks):
                    for chunk in chunks:
                        yield chunk
                config = FilesystemConfig(sys.argv[1], os.environ.get("FSYNC") != "0")
                async def main():
                    async with open_store(config, services) as store:
                """)
            + textwrap.indent(textwrap.dedent(body), " " * 8)
            + "\nasyncio.run(main())\n"
        )
        process = subprocess.Popen([sys.executable, script, data, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


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
    upload, release = await store.begin("sha512"), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"abc"
        await release.wait()

    task = asyncio.create_task(store.append(upload, 0, slow()))
    await asyncio.sleep(0.05)
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


# Durability


async def test_order_of_durability(data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is fsynced before it is renamed, and its folders after; a delete fsyncs the folder."""
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(fd: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{fd}').readlink().relative_to(data)}")
        real_fsync(fd)

    def replace(path: Path, target: Path) -> Path:
        steps.append(f"rename {path.relative_to(data)} {target.relative_to(data)}")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    for parent in (["fsync blobs/sha256"], []):
        upload = await store.begin()
        await store.append(upload, 0, source(b"abc"))
        digest = (await store.commit(upload, Digest.of(b"abc"))).digest
        place = blob_file(store, digest).relative_to(data)
        expected = [f"fsync uploads/{upload}", f"rename uploads/{upload} {place}", f"fsync {place.parent}"]
        assert steps == expected + parent
        steps.clear()
    await store.delete(digest)
    assert steps == [f"fsync {place.parent}"]


async def test_no_fsync(data: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``fsync = false`` nothing but the probe is fsynced."""
    async with open_at(data, fsync=False) as store:
        monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("fsync"))
        await store.delete((await push(store, b"abc")).digest)


async def test_failed_fsync_discards_the_upload(
    data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync the bytes may be lost although they can be read: they must not be committed later."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(data))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Unavailable, match="Input/output error") as refused:
            await store.commit(upload, Digest.of(b"abc"))
        assert str(data) not in refused.value.message
    with pytest.raises(UploadUnknown):
        await store.commit(upload, Digest.of(b"abc"))
    assert files(data) == []


async def test_failed_rename_keeps_the_upload(
    data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails later can be tried again."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(data))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(StorageFull):
            await store.commit(upload, Digest.of(b"abc"))
    with pytest.raises(BlobUnknown):
        await store.stat(Digest.of(b"abc"))
    await store.commit(upload, Digest.of(b"abc"))


async def test_time_is_that_of_the_commit(data: Path, store: FilesystemStore) -> None:
    """A blob is as old as its commit, not as its last byte, or a sweep by age might take it at once."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))
    os.utime(data / "uploads" / upload, (1, 1))
    made = await store.commit(upload, Digest.of(b"abc"))
    assert abs(made.modified - time.time()) < 60
    assert await store.stat(made.digest) == made


# The state beside an upload


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "hash_file", lambda *_: pytest.fail("the file was read again"))


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_commit_reads_nothing_again(data: Path, open_at: OpenStore, algorithm: str) -> None:
    """In the same worker, and in another where it adds nothing, a commit needs no read of the upload."""
    content = os.urandom(2 * MIB)
    for other in (False, True):
        async with open_at(data) as first, open_at(data) as second:
            upload = await first.begin(algorithm)
            worker = second if other else first  # of an empty upload another worker knows the hint
            await worker.append(upload, 0, source(content[:MIB]))
            await worker.append(upload, MIB, source(content[MIB:]))
            if not other:
                with pytest.raises(DigestInvalid):
                    await worker.commit(upload, Digest.of(b"other", algorithm))
            await first.commit(upload, Digest.of(content, algorithm))


async def test_state_of_an_upload_that_grew(data: Path, store: FilesystemStore, open_at: OpenStore) -> None:
    """What a worker knows of an upload is worth nothing after another worker has appended."""
    async with open_at(data) as second:
        upload = await store.begin()
        await store.append(upload, 0, source(b"abc"))
        await second.append(upload, 3, source(b"def"))
        with pytest.raises(DigestInvalid):
            await store.commit(upload, Digest.of(b"abc"))
        await store.append(upload, 6, source(b"ghi"))
        with pytest.raises(DigestInvalid):
            await second.commit(upload, Digest.of(b"abcdef"))
        await second.commit(upload, Digest.of(b"abcdefghi"))


def other_boot(state: dict[str, Any]) -> dict[str, Any]:
    return state | {"boot": "00000000-0000-0000-0000-000000000000"}


@pytest.mark.parametrize(
    "tamper",
    [
        other_boot,
        lambda state: state | {"boot": None},
        lambda state: state | {"offset": 2},
        lambda state: state | {"offset": 4},
        lambda state: {key: value for key, value in state.items() if key != "boot"},
        lambda state: state | {"digest": "nonsense"},
        lambda state: state | {"digest": "md5:" + "0" * 32},
        lambda _: b"",
        lambda _: b"{",
        lambda _: b"\xff\xfe",
        lambda _: [],
    ],
)
async def test_bad_state_is_not_trusted(
    data: Path, store: FilesystemStore, open_at: OpenStore, tamper: Callable[[Any], Any]
) -> None:
    """A state that is stale, torn, of another boot or nonsense is neither believed nor in the way."""
    false = Digest.of(b"false")
    for right in (False, True):
        upload = await store.begin()
        await store.append(upload, 0, source(b"abc"))
        path = data / "uploads" / f"{upload}.state"
        state = msgspec.json.decode(path.read_bytes())
        assert state == {"offset": 3, "digest": Digest.of(b"abc"), "boot": ANY}
        changed = tamper(state if right else state | {"digest": str(false)})
        path.write_bytes(changed if isinstance(changed, bytes) else msgspec.json.encode(changed))
        async with open_at(data) as second:
            with pytest.raises(DigestInvalid):
                await second.commit(upload, false)
            await second.commit(upload, Digest.of(b"abc"))
    assert files(data / "uploads") == []


async def test_state_never_refuses(data: Path, store: FilesystemStore, open_at: OpenStore) -> None:
    """A state that looks good and is wrong costs a read, not the upload."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))
    path = data / "uploads" / f"{upload}.state"
    path.write_bytes(path.read_bytes().replace(Digest.of(b"abc").encode(), Digest.of(b"false").encode()))
    async with open_at(data) as second:
        await second.commit(upload, Digest.of(b"abc"))


async def test_no_boot_id_no_trust(data: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not name its boot, no state is trusted."""
    monkeypatch.setattr(hashing, "BOOT_ID", data / "missing")
    reads: list[int] = []
    real = hashing.hash_file

    def counted(fd: int, algorithm: str) -> hashing.Running:
        reads.append(fd)
        return real(fd, algorithm)

    monkeypatch.setattr(hashing, "hash_file", counted)
    async with open_at(data) as store, open_at(data) as second:
        upload = await store.begin()
        await store.append(upload, 0, source(b"abc"))
        await second.commit(upload, Digest.of(b"abc"))
    assert len(reads) == 1


async def test_live_hashes_are_bounded(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many hashes are kept in memory; an upload whose hash was forgotten is committed all the same."""
    monkeypatch.setattr(hashing, "LIVE_HASHES", 3)
    uploads = [await store.begin() for _ in range(10)]
    for n, upload in enumerate(uploads):
        await store.append(upload, 0, source(b"abc", bytes([n])))
    for upload in uploads:
        await store.append(upload, 4, source(b"def"))
    assert len(store._hashes._live) <= 3
    for n, upload in enumerate(uploads):
        await store.commit(upload, Digest.of(b"abc" + bytes([n]) + b"def"))
    assert not store._hashes._live


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


async def test_hanging_disk_does_not_hold_a_cancelled_task(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled append waits for its last bytes for a bounded time; the thread lets go of the upload by itself."""
    monkeypatch.setattr(jobs, "SETTLE_SECONDS", 0.1)
    monkeypatch.setattr("drift_storage_fs.store.SETTLE_SECONDS", 0.1)
    release, real = threading.Event(), os.pwrite

    def pwrite(fd: int, piece: bytes, at: int) -> int:
        assert release.wait(30)
        return real(fd, piece, at)

    upload = await store.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        task = asyncio.create_task(store.append(upload, 0, source(b"a" * MIB, b"b" * MIB, b"c")))
        await asyncio.sleep(0.1)
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 5
        release.set()
        held = await store.append(upload, None, source())
    assert held in (MIB, 2 * MIB)
    await store.append(upload, held, source(b"d"))
    await store.commit(upload, Digest.of((b"a" * MIB + b"b" * MIB)[:held] + b"d"))


async def test_loop_is_never_blocked(data: Path, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is, other tasks go on."""
    content = os.urandom(2 * MIB)
    longest = 0.0

    def slow(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            time.sleep(0.05)
            return real(*arguments, **named)

        return call

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - began)

    async with open_at(data) as store:
        for name in ("open", "pwrite", "pread", "fsync", "fstat", "close", "unlink", "stat", "scandir"):
            monkeypatch.setattr(os, name, slow(getattr(os, name)))
        watcher = asyncio.create_task(watch())
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
        watcher.cancel()
        monkeypatch.undo()
    assert longest < 0.045


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


# Several processes


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_processes_append(data: Path, store: FilesystemStore, child: Callable[..., Any]) -> None:
    """Appends of two processes to one upload follow one another whole, and any worker can commit the outcome."""
    upload, rounds, size = await store.begin(), 25, 200_000
    body = """
        for n in range(int(sys.argv[4])):
            part = f"{sys.argv[3]}{n:07}".encode() * (int(sys.argv[5]) // 8)
            await store.append(UploadId(sys.argv[2]), None, source(part[:70_000], part[70_000:]))
        print("done")
    """
    processes = [child(data, body, upload, name, str(rounds), str(size)) for name in ("a", "b")]
    assert [await asyncio.to_thread(line_of, process) for process in processes] == ["done", "done"]
    content = (data / "uploads" / upload).read_bytes()
    assert len(content) == 2 * rounds * size
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    assert all(part == part[:8] * (size // 8) for part in parts)
    for name in ("a", "b"):
        order = [int(part[1:8]) for part in parts if part[:1] == name.encode()]
        assert order == list(range(rounds))
    assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("more", [b"", b"the rest"])
async def test_kill_between_append_and_commit(
    data: Path, open_at: OpenStore, child: Callable[..., Any], more: bytes
) -> None:
    """After kill -9 the upload goes on in another process, where it ended."""
    content = b"x" * (2 * MIB + 1)
    process = child(
        data,
        f"""
        upload = await store.begin()
        await store.append(upload, 0, source(b"x" * {len(content)}))
        print(upload, flush=True)
        await asyncio.sleep(600)
    """,
    )
    upload = UploadId(await asyncio.to_thread(line_of, process))
    process.kill()
    process.wait()
    async with open_at(data) as store:
        assert await store.received(upload) == len(content)
        with pytest.raises(BlobUnknown):
            await store.stat(Digest.of(content))
        if more:
            await store.append(upload, len(content), source(more))
        made = await store.commit(upload, Digest.of(content + more))
        assert await read(store, made.digest) == content + more


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_kill_during_append(data: Path, open_at: OpenStore, child: Callable[..., Any]) -> None:
    """After kill -9 in the middle of an append the lock is free, and a prefix of what was sent is kept."""
    process = child(
        data,
        """
        upload = await store.begin()
        async def endless():
            n = 0
            while True:
                yield bytes([n % 256]) * 100_000
                n += 1
                await asyncio.sleep(0)
                if n == 100:
                    print(upload, flush=True)
        await store.append(upload, 0, endless())
    """,
    )
    upload = UploadId(await asyncio.to_thread(line_of, process))
    process.kill()
    process.wait()
    async with open_at(data) as store:
        held = await store.append(upload, None, source())
        assert held > 8 * MIB
        content = b"".join(bytes([n % 256]) * 100_000 for n in range(held // 100_000 + 1))[:held]
        await store.append(upload, held, source(b"end"))
        assert await read(store, (await store.commit(upload, Digest.of(content + b"end"))).digest) == content + b"end"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_memory_is_bounded(data: Path, child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """512 MiB in 64 KiB chunks pass through, up and down, in a few MiB."""
    monkeypatch.setenv("FSYNC", "0")
    process = child(
        data,
        """
        import hashlib
        hashed = hashlib.sha256()
        async def chunks():
            for n in range(8192):
                chunk = n.to_bytes(4, "big") * 16384
                hashed.update(chunk)
                yield chunk
        upload = await store.begin()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = await store.append(upload, 0, chunks())
        made = await store.commit(upload, Digest("sha256:" + hashed.hexdigest()))
        read = 0
        async for chunk in store.read(made.digest):
            read += len(chunk)
        await store.delete(made.digest)
        print(size, read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """,
    )
    size, back, kibibytes = map(int, (await asyncio.to_thread(line_of, process)).split())
    assert size == back == 512 * MIB
    assert kibibytes < 32 * 1024


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
