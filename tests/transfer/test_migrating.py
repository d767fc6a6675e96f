"""A store of two keeps the rules of a store and finds what either has, and a migration copies what one lacks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from drift_storage_fs.config import FilesystemConfig
from drift_storage_fs.store import open_store

from drift_core.api import (
    BlobStat,
    BlobStore,
    BlobUnknown,
    Digest,
    StorageFull,
    SupportsLocalPath,
    SupportsRedirect,
    UploadId,
)
from drift_core.conformance import MemoryPlace, StorageSuite, services
from drift_core.conformance.reference.storage import Blob, MemoryStore
from drift_core.conformance.suites.storage import Reopen, chunked, content_of, push, read, scanned
from drift_core.registry.migrating import Migrating, migrating
from drift_core.registry.migration import Migrated, Migration, Missing

MIB = 1 << 20


class BegunBefore(Migrating):
    """Every upload is one that the previous store began."""

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        return await self._previous.begin(algorithm)


@asynccontextmanager
async def open_both(new: Path, previous: Path, *, begun_before: bool = False) -> AsyncIterator[BlobStore]:
    """Opens stores of files in two folders as one."""
    async with (
        open_store(FilesystemConfig(str(new)), services()) as first,
        open_store(FilesystemConfig(str(previous)), services()) as second,
    ):
        yield BegunBefore(first, second) if begun_before else migrating(first, second)


class Both(StorageSuite):
    """Files and files, so that both survive a kill."""

    large = 64 * MIB
    sequences = 5
    begun_before = False

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        return partial(open_both, tmp_path / "new", tmp_path / "previous", begun_before=self.begun_before)

    @pytest.fixture
    async def store(self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BlobStore]:
        monkeypatch.setattr("drift_storage_fs.store.BUSY_SECONDS", 0.5)
        async with reopen() as store:
            yield store


class TestNewUploads(Both):
    """What is begun goes to the new store."""


class TestUploadsBegunBefore(Both):
    """What was begun goes on in the previous store, and its blob arrives in the new one."""

    begun_before = True

    async def test_everything_is_in_the_new_store(self, store: BlobStore, tmp_path: Path) -> None:
        digest = (await push(store, content_of(3 * MIB))).digest
        async with open_store(FilesystemConfig(str(tmp_path / "new")), services()) as new:
            assert await read(new, digest) == content_of(3 * MIB)


class WithUrls(MemoryStore):
    """Hands out a URL for whatever it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(MemoryPlace())
        self.name = name

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        return f"https://{self.name}/{method}/{client_address}/{digest}"


class WithFiles(MemoryStore):
    """Has a path for whatever it is asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(MemoryPlace())
        self.folder = folder

    def local_path(self, digest: Digest) -> str:
        return str(self.folder / digest.encoded)


@pytest.fixture
def new() -> MemoryStore:
    return MemoryStore(MemoryPlace())


@pytest.fixture
def previous() -> MemoryStore:
    return MemoryStore(MemoryPlace())


async def test_each_blob_is_found_where_it_is(new: MemoryStore, previous: MemoryStore) -> None:
    both = migrating(new, previous)
    old, fresh = (await push(previous, b"old")).digest, (await push(both, b"fresh")).digest
    shared = (await push(previous, b"shared")).digest
    await push(new, b"shared")
    with pytest.raises(BlobUnknown):
        await previous.stat(fresh)
    assert await read(both, old) == b"old"
    assert await read(both, old, 1, 2) == b"l"
    assert await read(both, fresh) == b"fresh"
    assert (await both.stat(old)).size == 3
    everything = sorted([old, fresh, shared])
    assert await scanned(both) == everything
    assert await scanned(both, everything[0]) == everything[1:]
    await both.delete(shared)
    await both.delete(old)
    for store in (both, new, previous):
        for digest in (shared, old):
            with pytest.raises(BlobUnknown):
                await store.stat(digest)
            with pytest.raises(BlobUnknown):
                await read(store, digest)


async def test_an_empty_blob_is_not_taken_for_a_missing_one(new: MemoryStore, previous: MemoryStore) -> None:
    both = migrating(new, previous)
    await push(new, b"")
    assert await read(both, Digest.of(b"")) == b""


async def test_an_upload_goes_on_where_it_was_begun(new: MemoryStore, previous: MemoryStore) -> None:
    upload = await previous.begin()
    await previous.append(upload, 0, chunked(b"first, "))
    both = migrating(new, previous)
    assert await both.received(upload) == 7
    assert await both.append(upload, 7, chunked(b"second")) == 13
    stat = await both.commit(upload, Digest.of(b"first, second"))
    assert await new.stat(stat.digest) == stat
    other = await previous.begin()
    await both.abort(other)
    assert previous.place.uploads == {}


async def test_it_has_the_powers_that_one_of_them_has(new: MemoryStore, previous: MemoryStore, tmp_path: Path) -> None:
    files, urls = WithFiles(tmp_path), WithUrls("new")
    powers = {
        (isinstance(both, SupportsLocalPath), isinstance(both, SupportsRedirect)): both
        for both in (migrating(new, previous), migrating(new, files), migrating(urls, previous), migrating(urls, files))
    }
    assert set(powers) == {(False, False), (True, False), (False, True), (True, True)}
    assert all(isinstance(both, BlobStore) for both in powers.values())


async def test_a_url_is_that_of_the_store_that_has_the_blob(previous: MemoryStore, new: MemoryStore) -> None:
    digest = Digest.of(b"blob")
    urls = WithUrls("urls")
    both = migrating(urls, previous)
    assert isinstance(both, SupportsRedirect)
    await push(previous, b"blob")
    assert await both.redirect(digest, "GET", "192.0.2.1") is None
    await push(urls, b"blob")
    assert await both.redirect(digest, "GET", "192.0.2.1") == f"https://urls/GET/192.0.2.1/{digest}"
    back = migrating(new, urls)
    assert isinstance(back, SupportsRedirect)
    assert await back.redirect(digest, "GET", "192.0.2.1") == f"https://urls/GET/192.0.2.1/{digest}"
    await push(new, b"blob")
    assert await back.redirect(digest, "GET", "192.0.2.1") is None


def test_a_path_is_that_of_the_file_that_is_there(new: MemoryStore, tmp_path: Path) -> None:
    digest = Digest.of(b"blob")
    first, second = WithFiles(tmp_path / "first"), WithFiles(tmp_path / "second")
    both, one = migrating(first, second), migrating(new, second)
    assert isinstance(both, SupportsLocalPath)
    assert isinstance(one, SupportsLocalPath)
    # One that is nowhere yet will be in the new store.
    assert both.local_path(digest) == first.local_path(digest)
    assert one.local_path(digest) == second.local_path(digest)
    for folder in (second, first):
        folder.folder.mkdir()
        Path(folder.local_path(digest)).write_bytes(b"blob")
        assert both.local_path(digest) == folder.local_path(digest)
    assert one.local_path(digest) == second.local_path(digest)


async def migrated(new: BlobStore, previous: BlobStore) -> Migrated:
    counted = Migrated()
    async for item in Migration(new, previous, 3).run():
        counted.add(item)
    return counted


async def test_a_migration_copies_what_is_missing(new: MemoryStore, previous: MemoryStore) -> None:
    contents = [content_of(1000 + number, number) for number in range(20)]
    for content in contents:
        await push(previous, content)
    for content in contents[:5]:
        await push(new, content)
    done = await migrated(new, previous)
    assert (done.copied, done.size, done.left, done.failed) == (15, sum(map(len, contents[5:])), 0, 0)
    assert new.place.blobs.keys() == previous.place.blobs.keys()
    assert new.place.uploads == {}
    again = await migrated(new, previous)
    assert (again.copied, again.left) == (0, 0)


async def test_a_damaged_blob_is_named_and_the_rest_is_copied(new: MemoryStore, previous: MemoryStore) -> None:
    digests = [(await push(previous, content_of(1000, number))).digest for number in range(10)]
    previous.place.blobs[digests[4]] = Blob(bytes(1000), 0.0)
    done = await migrated(new, previous)
    assert (done.copied, done.left, done.left_size, done.failed) == (9, 1, 1000, 1)
    assert [failure.digest for failure in done.failures] == [digests[4]]
    assert set(new.place.blobs) == set(digests) - {digests[4]}
    assert new.place.uploads == {}


class Full(MemoryStore):
    """Has room for three blobs."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        if len(self.place.blobs) == 3:
            raise StorageFull
        return await super().commit(upload, digest)


async def test_a_full_store_ends_it(previous: MemoryStore) -> None:
    for number in range(10):
        await push(previous, content_of(1000, number))
    full = Full(MemoryPlace())
    assert await Migration(full, previous, 3).missing() == Missing(10, 10_000)
    with pytest.raises(StorageFull):
        await migrated(full, previous)
    assert len(full.place.blobs) == 3
    assert full.place.uploads == {}


async def test_what_a_server_leaves_behind_meanwhile_is_found(new: MemoryStore, previous: MemoryStore) -> None:
    await push(previous, b"first")
    run = Migration(new, previous, 1).run()
    seen = [await anext(run), await anext(run)]
    # Its digest is before those that were looked at already.
    late = min((content_of(10, number) for number in range(100)), key=Digest.of)
    await push(previous, late)
    seen += [item async for item in run]
    assert [item.blobs for item in seen if isinstance(item, Missing)] == [1, 1, 0]
    assert new.place.blobs.keys() == previous.place.blobs.keys()
