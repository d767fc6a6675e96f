"""What is on the disk before a call returns, and what the state beside an upload is worth."""

import errno
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import msgspec
import pytest
from drift_storage_fs import hashing, uploading
from drift_storage_fs.store import FilesystemStore

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    DigestInvalid,
    StorageFull,
    Unavailable,
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


def blob_file(store: FilesystemStore, digest: Digest) -> Path:
    return Path(store.local_path(digest))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


async def test_the_repeat_of_a_cut_commit_is_durable(
    data: Path, store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit may have been cut off behind its rename; who repeats it must not find bytes that a power cut takes."""
    upload = await store.begin()
    await store.append(upload, 0, source(b"abc"))
    blob = await store.commit(upload, Digest.of(b"abc"))
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink().relative_to(data)))
        real_fsync(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UploadUnknown):
        await store.commit(upload, blob.digest)
    assert synced == [str(blob_file(store, blob.digest).parent.relative_to(data))]


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
    content = os.urandom(6 * MIB)
    for other in (False, True):
        async with open_at(data) as first, open_at(data) as second:
            upload = await first.begin(algorithm)
            worker = second if other else first  # of an empty upload another worker knows the hint
            await worker.append(upload, 0, source(content[: 5 * MIB]))
            await worker.append(upload, 5 * MIB, source(content[5 * MIB :]))
            if not other:
                with pytest.raises(DigestInvalid):
                    await worker.commit(upload, Digest.of(b"other", algorithm))
            await first.commit(upload, Digest.of(content, algorithm))


async def test_a_small_upload_is_read_again(data: Path, store: FilesystemStore, open_at: OpenStore) -> None:
    """For a small upload nothing is written that another worker could read: it reads the upload."""
    upload = await store.begin()
    await store.append(upload, None, source(b"abc"))
    assert files(data / "uploads") == [upload]
    async with open_at(data) as second:
        await second.commit(upload, Digest.of(b"abc"))


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


@pytest.fixture
def every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a state written for small uploads, too."""
    monkeypatch.setattr(uploading, "RECORDED_BYTES", 0)


@pytest.mark.usefixtures("every_state")
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


@pytest.mark.parametrize("digest", ["nonsense", "md5:" + "0" * 32, ""])
async def test_bad_state_of_an_empty_upload(
    data: Path, store: FilesystemStore, open_at: OpenStore, digest: str
) -> None:
    """A state that names no usable algorithm does not keep another worker from appending."""
    upload = await store.begin("sha512")
    state = {"offset": 0, "digest": digest, "boot": None}
    (data / "uploads" / f"{upload}.state").write_bytes(msgspec.json.encode(state))
    async with open_at(data) as second:
        await second.append(upload, 0, source(b"abc"))
        await second.commit(upload, Digest.of(b"abc", "sha512"))


@pytest.mark.usefixtures("every_state")
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
