"""What is packed and what is not, and that nothing is lost or left over whatever happens meanwhile."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from drift_storage_packed import forms
from drift_storage_packed.store import PackedStore
from sqlalchemy import select, update

from drift_core.api import BlobUnknown, Digest, Records, StartError, SupportsLocalPath, Unavailable
from drift_core.conformance import open_records
from drift_core.conformance.suites.storage import chunked, content_of, push, read, scanned

from .conftest import AT_ONCE, BOTH, OpenLayer, layer, lying, open_files, pack, packed
from .test_reading import text


async def states(records: Records) -> list[str]:
    return sorted(await records.read(lambda db: list(db.scalars(select(forms.forms.c.state)))))


@BOTH
async def test_the_original_goes_and_the_blob_stays(store: PackedStore) -> None:
    content = text(500_000)
    made = await push(store, content)
    assert [one.outcome for one in await pack(store)] == ["packed"]
    (form,) = await lying(store)
    assert form != made.digest
    assert (await store.beneath.stat(form)).size < made.size / 2
    assert await store.stat(made.digest) == made
    assert [blob async for blob in store.scan()] == [made]
    assert await read(store, made.digest) == content
    assert await pack(store) == []


async def test_what_gains_nothing_is_looked_at_once(open_layer: OpenLayer) -> None:
    async with open_layer() as store:
        digest = (await push(store, content_of(2_000_000))).digest
        small = (await push(store, content_of(5_000))).digest
        await push(store, b" " * 100)
        assert {(one.digest, one.outcome) for one in await pack(store)} == {
            (digest, "gains nothing"),
            (small, "gains nothing"),
        }
        # Of the large one only samples were read.
        assert store.measures.read._value.get() < 200_000
        assert await pack(store) == []
        assert len(await lying(store)) == 3
    async with open_layer(level=9) as other:
        assert len(await pack(other)) == 2


async def test_young_blobs_and_their_originals_have_time(open_layer: OpenLayer) -> None:
    content = text(100_000)
    async with open_layer(min_age_minutes=1) as store:
        digest = (await push(store, content)).digest
        assert await pack(store) == []
    async with open_layer(keep_original_minutes=1) as store:
        assert [one.outcome for one in await pack(store)] == ["packed"]
        assert digest in await lying(store)
        assert len(await lying(store)) == 2
        assert await scanned(store) == [digest]
        await store.records.write(lambda db: db.execute(update(forms.forms).values(changed_at=0.0)) and None)
        await store.packer.tidy()
        assert digest not in await lying(store)
        assert await read(store, digest) == content


async def test_a_deleted_blob_leaves_nothing(store: PackedStore) -> None:
    digest = await packed(store, text(100_000))
    await store.delete(digest)
    assert await lying(store) == set()
    with pytest.raises(BlobUnknown):
        await store.stat(digest)
    assert await states(store.records) == ["released"]


async def test_committed_again(store: PackedStore) -> None:
    """The new original is taken away once more, after a look at what is packed."""
    content = text(100_000)
    digest = await packed(store, content)
    (form,) = await lying(store)
    assert await store.encoded(digest, {"zstd"}) is not None
    made = await push(store, content)
    assert await lying(store) == {digest, form}
    assert await store.encoded(digest, {"zstd"}) is None
    assert await pack(store) == []
    assert await lying(store) == {form}
    assert await store.stat(digest) == made


@pytest.mark.parametrize("damage", ["frame", "index", "short", "gone"])
async def test_damage(store: PackedStore, damage: str) -> None:
    """Never wrong bytes; a blob that is pushed again stays, since what is packed is not it."""
    content = text(1_000_000)
    digest = await packed(store, content)
    assert await read(store, digest) == content
    (form,) = await lying(store)
    assert isinstance(store, SupportsLocalPath)
    file = anyio.Path(store.local_path(form))
    raw = bytearray(await file.read_bytes())
    raw[len(raw) // 2 if damage == "frame" else -40] ^= 1
    if damage == "short":
        del raw[-1000:]
    if damage == "gone":
        await file.unlink()
    else:
        await file.write_bytes(raw)
    got = bytearray()
    with pytest.raises((BlobUnknown, Unavailable)):  # noqa: PT012
        store.reader._indexes.clear()
        async for chunk in store.read(digest):
            got += chunk
    assert content.startswith(got)
    assert len(got) < len(content)
    with pytest.raises(BlobUnknown):
        await read(store, digest)
    if damage != "gone":
        assert store.measures.damaged._value.get() > 0
    await push(store, content)
    assert await read(store, digest) == content
    await pack(store)
    assert await read(store, digest) == content
    await pack(store)
    assert [one.outcome async for one in store.packer.unpack()] == ["packed"]
    assert await read(store.beneath, digest) == content
    assert await lying(store) == {digest}


async def test_a_damaged_original_stays(store: PackedStore) -> None:
    digest = (await push(store, text(1_000_000))).digest
    assert isinstance(store, SupportsLocalPath)
    await anyio.Path(store.local_path(digest)).write_bytes(text(1_000_000, 1))
    assert [one.outcome for one in await pack(store)] == ["damaged"]
    assert await lying(store) == {digest}


@BOTH
async def test_unpack(store: PackedStore) -> None:
    contents = [text(100_000, seed) for seed in range(5)]
    digests = [await packed(store, content) for content in contents]
    async for one in store.packer.unpack():
        assert one.outcome == "packed"
        break
    assert len([one async for one in store.packer.unpack()]) == 4
    assert await lying(store) == set(digests)
    assert await scanned(store) == sorted(digests)
    assert (await store.records.read(forms.totals)).blobs == 0


@BOTH
async def test_the_bytes_of_a_packed_blob_are_pushed(store: PackedStore) -> None:
    """Each of the two blobs stays until it is deleted itself."""
    content = text(100_000)
    digest = await packed(store, content)
    (form,) = await lying(store)
    raw = await read(store.beneath, form)
    assert await scanned(store) == [digest]
    await store.delete(form)
    assert await read(store, digest) == content
    await push(store, raw)
    assert await scanned(store) == sorted([digest, form])
    await store.delete(digest)
    assert await read(store, form) == raw
    assert await scanned(store) == [form]
    await store.delete(form)
    assert await lying(store) == set()
    digest = await packed(store, content)
    (form,) = await lying(store)
    raw = await read(store.beneath, form)
    await push(store, raw)
    await store.delete(form)
    assert await scanned(store) == [digest]
    assert await read(store, digest) == content
    await push(store, raw)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content))
    await store.commit(upload, digest)
    await store.delete(digest)
    assert await lying(store) == {form}


async def test_a_refused_commit_changes_nothing(store: PackedStore) -> None:
    digest = await packed(store, text(100_000))
    (form,) = await lying(store)
    upload = await store.begin()
    await store.append(upload, 0, chunked(b"other"))
    with pytest.raises(Exception, match="digest"):
        await store.commit(upload, form)
    assert await scanned(store) == [digest]


@pytest.mark.parametrize("number", [10, pytest.param(100, marks=pytest.mark.soak)])
async def test_deleted_while_it_is_packed(store: PackedStore, number: int) -> None:
    """Whenever that is, the blob does not come back."""
    content = text(400_000)
    for turn in range(number):
        digest = (await push(store, content)).digest
        packing = asyncio.create_task(pack(store))
        for _ in range(turn * 120 // number):
            await asyncio.sleep(0.0005)
        await store.delete(digest)
        await packing
        assert await scanned(store) == []
        await store.packer.tidy()
        assert await lying(store) == set()


@BOTH
async def test_two_packers(open_layer: OpenLayer) -> None:
    contents = [text(100_000, seed) for seed in range(12)]
    async with open_layer() as one, open_layer() as other:
        digests = [(await push(one, content)).digest for content in contents]
        for _ in range(3):
            await asyncio.gather(pack(one), pack(other))
        assert len(await lying(one)) == len(contents)
        assert await lying(one) & set(digests) == set()
        for digest, content in zip(digests, contents, strict=True):
            assert await read(other, digest) == content
        assert await scanned(one) == sorted(digests)


class Forgetful:
    def __init__(self, beneath: Any) -> None:
        self._beneath = beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        size = (await self._beneath.stat(digest)).size
        for place in range(start, size if stop is None else stop, 50_000):
            end = min(place + 50_000, size if stop is None else stop)
            async for chunk in self._beneath.read(digest, place, end):
                yield chunk


async def test_a_reader_goes_on_in_the_packed_form(open_layer: OpenLayer) -> None:
    """The store beneath has no file that stays open: in the middle the original is gone."""
    content = text(1_000_000)

    async with open_layer() as plain:
        forgetful: Any = Forgetful(plain.beneath)
        async with open_layer(forgetful) as store:
            digest = (await push(store, content)).digest
            got = bytearray()
            async for chunk in store.read(digest):
                if not got:
                    assert [one.outcome for one in await pack(store)] == ["packed"]
                got += chunk
            assert got == content
            async for chunk in store.read(digest):
                if len(got) == len(content):
                    async for _ in store.packer.unpack():
                        pass
                got += chunk
            assert got == content * 2


@pytest.mark.parametrize(
    "step",
    [
        "within append",
        pytest.param("before commit", marks=pytest.mark.soak),
        "after commit",
        pytest.param("before delete", marks=pytest.mark.soak),
        "after delete",
    ],
)
async def test_killed(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever step kill -9 comes, the next pass loses nothing and leaves nothing over."""
    url = f"sqlite:///{tmp_path / 'drift.db'}"
    contents = [text(200_000, seed) for seed in range(3)]
    async with open_records("storage-packed", "drift_storage_packed.migrations", url) as records:
        async with open_files(tmp_path / "data") as beneath:
            digests = [(await push(beneath, content)).digest for content in contents]
        program = str(Path(__file__).with_name("pack_slowly.py"))
        command = [sys.executable, program, str(tmp_path / "data"), url, step]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        while await process.stdout.readline() != b"waiting\n":
            assert not process.stdout.at_eof()
        process.kill()
        await process.wait()
        async with (
            open_files(tmp_path / "data") as beneath,
            layer(records, beneath, **AT_ONCE) as store,
        ):
            for digest, content in zip(digests, contents, strict=True):
                assert await read(store, digest) == content
            assert await scanned(store) == sorted(digests)
            monkeypatch.setattr(forms, "ABANDONED_SECONDS", 0.0)
            monkeypatch.setattr(forms, "STUCK_SECONDS", 0.0)
            await pack(store)
            monkeypatch.undo()
            await pack(store)
            assert len(await lying(store)) == len(contents)
            assert not await lying(store) & set(digests)
            for digest, content in zip(digests, contents, strict=True):
                assert await read(store, digest) == content
            assert list((tmp_path / "data" / "uploads").glob("*")) == []


async def test_a_blob_that_is_being_moved_is_deleted_later(store: PackedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drift_storage_packed.store.MOVING_SECONDS", 0.1)
    digest = await packed(store, text(100_000))
    await store.records.write(lambda db: db.execute(update(forms.forms).values(state="moving")) and None)
    with pytest.raises(Unavailable):
        await store.delete(digest)
    await store.records.write(lambda db: db.execute(update(forms.forms).values(state="packed")) and None)
    await store.delete(digest)
    assert await lying(store) == set()


async def test_without_a_store_beneath(records: Records) -> None:
    with pytest.raises(StartError, match=r"storage\.layers"):
        async with layer(records, None):
            pass


async def test_redirect(open_layer: OpenLayer) -> None:
    """Only what lies as it is has a URL; the database is asked again only where it has changed."""

    class Redirecting:
        def __init__(self, beneath: Any) -> None:
            self._beneath = beneath
            for name in ("stat", "read", "begin", "received", "append", "commit", "abort", "delete", "scan", "check"):
                setattr(self, name, getattr(beneath, name))

        async def redirect(self, digest: Digest, _method: str, _client_address: str) -> str | None:
            return f"https://store/{digest}"

    async with open_layer() as plain:
        redirecting: Any = Redirecting(plain.beneath)
        async with open_layer(redirecting) as store:
            assert not isinstance(store, SupportsLocalPath)
            left = (await push(store, content_of(10_000))).digest
            digest = await packed(store, text(100_000))
            found: Any = store
            assert await found.redirect(digest, "GET", "127.0.0.1") is None
            assert await found.redirect(left, "GET", "127.0.0.1") == f"https://store/{left}"


async def test_an_empty_store_beneath(store: PackedStore, data: Path) -> None:
    """A volume that is not mounted has no blobs, whatever the database says: `drift fsck --repair` relies on it."""
    content = text(100_000)
    digest = await packed(store, content)
    (form,) = await lying(store)
    assert isinstance(store, SupportsLocalPath)
    file = anyio.Path(store.local_path(form))
    await file.rename(data / "elsewhere")
    assert await scanned(store) == []
    with pytest.raises(BlobUnknown):
        await store.stat(digest)
    assert await store.encoded(digest, {"zstd"}) is None
    await (anyio.Path(data) / "elsewhere").rename(file)
    assert await scanned(store) == [digest]
    assert await read(store, digest) == content


class Stopped:
    """A store on which a process dies that brings an original back: what it had begun stays."""

    def __init__(self, beneath: Any) -> None:
        self._beneath = beneath

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)

    async def abort(self, _upload: Any) -> None:
        """Does nothing, as a dead process does."""

    async def commit(self, _upload: Any, digest: Digest) -> Any:
        raise Unavailable(digest=str(digest))


async def test_killed_while_it_unpacks(open_layer: OpenLayer, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = text(100_000)
    async with open_layer() as plain:
        digest = await packed(plain, content)
        stopped: Any = Stopped(plain.beneath)
        async with open_layer(stopped) as store:
            with pytest.raises(Unavailable):
                [_ async for _ in store.packer.unpack()]
        assert len(list((data / "uploads").glob("*"))) > 0
        assert await states(plain.records) == ["moving"]
        assert await read(plain, digest) == content
        monkeypatch.setattr(forms, "STUCK_SECONDS", 0.0)
        assert [one.outcome async for one in plain.packer.unpack()] == ["packed"]
        assert await lying(plain) == {digest}
        assert list((data / "uploads").glob("*")) == []


async def test_work_is_measured(open_layer: OpenLayer) -> None:
    nobody: Any = None
    async with open_layer(interval_minutes=0.001) as store:
        made = await push(store, text(100_000))
        await push(store, content_of(5_000))
        working = asyncio.create_task(store.work(nobody))
        measures = store.measures
        while measures.blobs._value.get() != 1:
            await asyncio.sleep(0.01)
            assert not working.done()
        working.cancel()
        (form,) = [blob async for blob in store.beneath.scan() if blob.size not in (made.size, 5_000)]
        assert (measures.before._value.get(), measures.after._value.get()) == (made.size, form.size)
        assert measures.read._value.get() == made.size + 5_000
        assert (measures.packed._value.get(), measures.skipped.labels("gains nothing")._value.get()) == (1, 1)


class Lying:
    """A store that gives out one byte of each packed blob wrong, and says in what state its row is then."""

    def __init__(self, beneath: Any, records: Records, kept: set[Digest]) -> None:
        self._beneath = beneath
        self._records = records
        self._kept = kept
        self.seen: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if digest not in self._kept:
            self.seen |= set(await states(self._records))
        async for chunk in self._beneath.read(digest, start, stop):
            yield chunk if digest in self._kept else chunk[:-1] + bytes([chunk[-1] ^ 1])


async def test_what_does_not_come_back_is_not_kept(open_layer: OpenLayer) -> None:
    content = text(100_000)
    async with open_layer() as plain:
        digest = (await push(plain, content)).digest
        bad: Any = Lying(plain.beneath, plain.records, {digest})
        async with open_layer(bad) as store:
            assert [one.outcome for one in await pack(store)] == ["failed"]
            assert bad.seen == {"making"}
            assert await lying(plain) == {digest}
            assert await states(store.records) == ["released"]
            assert await read(store, digest) == content


class Late:
    """A store in which a blob is packed just before it is deleted."""

    def __init__(self, plain: PackedStore) -> None:
        self._plain = plain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain.beneath, name)

    async def delete(self, digest: Digest) -> None:
        await pack(self._plain)
        await self._plain.beneath.delete(digest)


async def test_packed_between_two_steps_of_a_deletion(open_layer: OpenLayer) -> None:
    async with open_layer(keep_original_minutes=1) as plain:
        late: Any = Late(plain)
        async with open_layer(late) as store:
            digest = (await push(store, text(100_000))).digest
            await store.delete(digest)
            assert await scanned(store) == []
            assert await lying(store) == set()
