"""How bytes get into the bucket: resumed, fenced, bounded, in parts of one size, and never copied there."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from drift_storage_s3 import buffers, garbage, holding, tables, uploads
from drift_storage_s3.config import S3Config
from drift_storage_s3.store import ObjectStore
from drift_storage_s3.sweeping import Sweeper
from sqlalchemy import Connection as Database
from sqlalchemy import update

from drift_core.api import Digest, DigestInvalid, Unavailable, UploadBusy, UploadId, UploadUnknown
from drift_core.conformance import Fault, FaultProxy
from drift_core.conformance.suites.storage import chunked, content_of, push, reached, read, scanned, stalling
from tests.services.minio import Minio

from .opening import MIB, config_of, opened

PART = 5 * MIB


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'drift.db'}"


@pytest.fixture
def config(minio: Minio) -> S3Config:
    return config_of(minio)


@pytest.fixture
async def store(config: S3Config, url: str) -> AsyncIterator[ObjectStore]:
    async with opened(config, url) as store:
        yield store


@pytest.fixture
def quick_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says nothing for half a second loses its hold."""
    monkeypatch.setattr(uploads, "HOLD_SECONDS", 0.5)


def sent_by(store: ObjectStore) -> list[Any]:
    """Returns a list to which every request that a store sends is added."""
    requests: list[Any] = []
    bucket: Any = store._service.bucket
    for client in (bucket._client, bucket._sender, bucket._patient):
        client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request))
    return requests


async def make_due(store: ObjectStore) -> None:
    """Makes everything that is noted as garbage as old as may be."""

    def change(db: Database) -> None:
        db.execute(update(tables.garbage).values(due=0.0))

    await store._service.records.write(change)


async def sweep(store: ObjectStore) -> int:
    sweeper, count = Sweeper(store._service), 0
    while swept := await sweeper.sweep():
        count += swept
    return count


def append_and_wait(config: S3Config, url: str, content: bytes, told: Connection) -> None:
    """Appends and never ends, and tells when the service has all parts; runs in a process of its own, to be killed."""
    uploads.HOLD_SECONDS = 1.0

    async def append() -> None:
        async with opened(config, url) as store:
            upload, stalled = await store.begin(), asyncio.Event()
            appending = asyncio.create_task(store.append(upload, 0, stalling(content, stalled)))
            await reached(stalled, appending)
            while await store.received(upload) < len(content) // PART * PART:
                await asyncio.sleep(0.01)
            told.send(upload)
            await asyncio.Event().wait()

    asyncio.run(append())


async def test_another_node_goes_on_behind_the_last_part(config: S3Config, url: str, store: ObjectStore) -> None:
    """After kill -9 in the middle of an append, of which a client asks where to go on."""
    content = content_of(2 * PART + MIB)
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=append_and_wait, args=(config, url, content, there))
    process.start()
    there.close()
    upload = UploadId(await to_thread.run_sync(here.recv))
    process.kill()
    await to_thread.run_sync(process.join)
    here.close()
    assert await store.received(upload) == 2 * PART
    assert await store.append(upload, 2 * PART, chunked(content[2 * PART :], MIB)) == len(content)
    made = await store.commit(upload, Digest.of(content))
    assert await read(store, made.digest) == content


@pytest.mark.usefixtures("quick_holds")
async def test_paused_append_writes_nothing_late(
    config: S3Config, url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process that was paused still sends is refused once another one has taken over."""
    content = content_of(2 * PART + 10)
    monkeypatch.setattr(holding, "RENEW_SECONDS", 60.0)
    upload, paused = await store.begin(), asyncio.Event()

    async def pausing() -> AsyncIterator[bytes]:
        yield content[:1000]
        await paused.wait()
        yield bytes(2 * PART)

    late = asyncio.create_task(store.append(upload, 0, pausing()))
    async with opened(config, url) as other:
        assert await other.append(upload, None, chunked(content, MIB)) == len(content)
        paused.set()
        with pytest.raises(UploadBusy):
            await late
        assert await other.received(upload) == len(content)
        await other.commit(upload, Digest.of(content))
        assert await read(other, Digest.of(content)) == content


@pytest.mark.usefixtures("quick_holds")
async def test_paused_append_sends_no_part_late(
    config: S3Config, url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that comes after others have taken over would replace one of theirs, of the same number."""
    content = content_of(4 * PART + 10)
    monkeypatch.setattr(holding, "RENEW_SECONDS", 60.0)
    upload, sent, paused = await store.begin(), asyncio.Event(), asyncio.Event()

    async def pausing() -> AsyncIterator[bytes]:
        for start in range(0, PART + MIB, MIB):
            yield content[start : start + MIB]
        sent.set()
        await paused.wait()
        yield bytes(2 * PART)

    late = asyncio.create_task(store.append(upload, 0, pausing()))
    await sent.wait()
    while await store.received(upload) < PART:
        await asyncio.sleep(0.01)
    async with opened(config, url) as other:

        async def rest() -> AsyncIterator[bytes]:
            for start in range(PART, len(content), MIB):
                yield content[start : start + MIB]
                if start == 3 * PART:
                    paused.set()
                    with pytest.raises(UploadBusy):
                        await late

        assert await other.append(upload, PART, rest()) == len(content)
        await other.commit(upload, Digest.of(content))
        assert await read(other, Digest.of(content)) == content


@pytest.mark.usefixtures("quick_holds")
async def test_abort_ends_an_append(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends nothing more does not keep an upload that was aborted."""
    monkeypatch.setattr(holding, "RENEW_SECONDS", 0.1)
    upload, stalled = await store.begin(), asyncio.Event()
    task = asyncio.create_task(store.append(upload, 0, stalling(b"abc", stalled)))
    await reached(stalled, task)
    await store.abort(upload)
    with pytest.raises(UploadUnknown):
        await asyncio.wait_for(task, 10)


async def test_parts_have_one_size_and_nothing_is_copied(config: S3Config, minio: Minio, store: ObjectStore) -> None:
    """R2 refuses parts of different sizes; a copy on the server is what makes others slow at the end of a push."""
    requests = sent_by(store)
    content = content_of(3 * PART + 1000)
    upload, held = await store.begin(), 0
    for size in (1000, PART, 7 * MIB, len(content)):
        held = await store.append(upload, held, chunked(content[held : held + size], 300_000))
    await store.commit(upload, Digest.of(content))
    assert await read(store, Digest.of(content)) == content
    parts = [request for request in requests if "partNumber" in request.url]
    assert [len(request.body) for request in parts] == [PART, PART, PART, 1000]
    assert not [request for request in requests if "x-amz-copy-source" in {name.lower() for name in request.headers}]
    (blob,) = [key for key, size in minio.keys(config.bucket).items() if size == len(content)]
    assert minio.client.head_object(Bucket=config.bucket, Key=blob, PartNumber=1)["PartsCount"] == 4


async def test_small_blob_is_written_once(store: ObjectStore) -> None:
    """The object that an append makes is the blob's."""
    requests = sent_by(store)
    made = await push(store, b"small")
    assert [request.method for request in requests] == ["PUT", "HEAD"]
    await store.stat(made.digest)


async def test_bodies_have_checksums(store: ObjectStore) -> None:
    """What is cut or changed on its way is refused by the service, not found out by a client."""
    requests = sent_by(store)
    await push(store, content_of(PART + 1), MIB)
    bodies = [request for request in requests if request.method == "PUT"]
    assert len(bodies) == 3
    for request in bodies:
        assert request.headers["x-amz-checksum-crc32"]
        assert request.headers["x-amz-content-sha256"] == b"UNSIGNED-PAYLOAD"


async def test_commit_elsewhere_reads_nothing(config: S3Config, url: str, store: ObjectStore) -> None:
    """The digest of an upload that arrived in one append is known to every node."""
    content = content_of(PART + 10)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content, MIB))
    async with opened(config, url) as other:
        requests = sent_by(other)
        await other.commit(upload, Digest.of(content))
        # The tail, which the other node does not have in memory.
        assert [request.url for request in requests if request.method == "GET"] == [
            f"{config.endpoint}/{config.bucket}/data/{upload}.1"
        ]
    assert await read(store, Digest.of(content)) == content


async def test_hash_that_nobody_has_is_made_again(config: S3Config, url: str, store: ObjectStore) -> None:
    """Parts that arrived on different nodes are read to hash them; a wrong digest keeps the upload, as it was."""
    content = content_of(2 * PART + 1000)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content[: PART + 10], MIB))
    async with opened(config, url) as other:
        await other.append(upload, PART + 10, chunked(content[PART + 10 : 2 * PART], MIB))
        for wrong in (Digest.of(b"wrong"), Digest.of(content)):
            with pytest.raises(DigestInvalid):
                await other.commit(upload, wrong)
        assert await other.received(upload) == 2 * PART
    # The parts have become one object; what follows is behind it.
    assert await store.append(upload, 2 * PART, chunked(content[2 * PART :])) == len(content)
    made = await store.commit(upload, Digest.of(content, "sha512"))
    assert await read(store, made.digest) == content


async def test_whole_upload_goes_on_where_it_is_larger_than_a_part(
    config: S3Config, url: str, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that was all of an upload becomes parts again, and is lost at no moment."""
    content = content_of(3 * PART + 1000)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content[: 2 * PART + 500], MIB))
    with pytest.raises(DigestInvalid):
        await store.commit(upload, Digest.of(b"wrong", "sha512"))

    bucket: Any = store._service.bucket
    put_part = bucket.put_part

    def fails(key: str, multipart: str, number: int, body: Any) -> Any:
        if number == 2:
            raise Unavailable("cut off")
        return put_part(key, multipart, number, body)

    with monkeypatch.context() as patched:
        patched.setattr(bucket, "put_part", fails)
        with pytest.raises(Unavailable):
            await store.append(upload, None, chunked(content[2 * PART + 500 :], MIB))
    async with opened(config, url) as other:
        assert await other.received(upload) == 2 * PART + 500
        await other.append(upload, 2 * PART + 500, chunked(content[2 * PART + 500 : 2 * PART + 600]))
        await other.append(upload, 2 * PART + 600, chunked(content[2 * PART + 600 :], MIB))
        made = await other.commit(upload, Digest.of(content))
        assert await read(other, made.digest) == content


@pytest.mark.parametrize("change", ["put_whole", "commit"])
async def test_commit_that_was_cut_off_is_done_by_the_next(
    store: ObjectStore, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts are one object by then, which the records do not say."""
    content = content_of(PART + 1000)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content, MIB))

    def fails(*_: Any) -> Any:
        raise Unavailable("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(uploads, change, fails)
        with pytest.raises(Unavailable):
            await store.commit(upload, Digest.of(content))
    assert await scanned(store) == []
    await store.commit(upload, Digest.of(content))
    assert await read(store, Digest.of(content)) == content


async def test_memory_of_many_uploads_is_that_of_the_budget(minio: Minio, url: str) -> None:
    """32 uploads at once share the buffers, and all of them end."""
    async with opened(config_of(minio, buffer_mb=20), url) as store:
        pool = store._service.buffers
        most, grant = 0, pool._grant

        def granted(size: int, holder: Any) -> Any:
            nonlocal most
            buffer = grant(size, holder)
            most = max(most, pool._used)
            return buffer

        pool._grant = granted  # type: ignore[method-assign]
        contents = [content_of(PART + 100_000 + n, n) for n in range(32)]
        made = await asyncio.gather(*(push(store, content, MIB // 4) for content in contents))
        assert [blob.digest for blob in made] == [Digest.of(content) for content in contents]
        assert PART < most <= 20 * MIB
        assert not pool._held


async def test_slow_senders_do_not_keep_the_memory(minio: Minio, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While two clients hold all buffers and send nothing, a third one pushes; then they go on."""
    monkeypatch.setattr(buffers, "SPILL_SECONDS", 0.2)
    monkeypatch.setattr(buffers, "LOOK_SECONDS", 0.1)
    async with opened(config_of(minio, buffer_mb=10), url) as store:
        contents = [content_of(MIB + n, n) for n in range(2)]
        goes_on, slow = asyncio.Event(), [await store.begin(), await store.begin()]
        asleep = [asyncio.Event(), asyncio.Event()]

        async def sleepy(n: int) -> AsyncIterator[bytes]:
            async for chunk in chunked(contents[n]):
                yield chunk
            asleep[n].set()
            await goes_on.wait()
            yield b"the rest"

        tasks = [asyncio.create_task(store.append(slow[n], 0, sleepy(n))) for n in range(2)]
        for event in asleep:
            await event.wait()
        third = content_of(PART + 5, 3)
        async with asyncio.timeout(30):
            await push(store, third, MIB)
        # What was spilled is kept whatever becomes of this process.
        assert max([await store.received(upload) for upload in slow]) >= MIB
        goes_on.set()
        await asyncio.gather(*tasks)
        for upload, content in zip(slow, contents, strict=True):
            made = await store.commit(upload, Digest.of(content + b"the rest"))
            assert await read(store, made.digest) == content + b"the rest"


async def test_waiting_for_memory_can_be_cancelled(minio: Minio, url: str) -> None:
    """What arrived stays, and the buffer goes to the next in line."""
    async with opened(config_of(minio, buffer_mb=10), url) as store:
        uploads_, stalled = [await store.begin() for _ in range(3)], [asyncio.Event() for _ in range(3)]
        tasks = [
            asyncio.create_task(store.append(upload, 0, stalling(content_of(MIB), event)))
            for upload, event in zip(uploads_, stalled, strict=True)
        ]
        for event in stalled[:2]:
            await event.wait()
        for task in tasks[2], *tasks[:2]:
            task.cancel()
        await asyncio.wait(tasks)
        assert [await store.received(upload) for upload in uploads_[:2]] == [MIB, MIB]
        held = await store.append(uploads_[2], None, chunked(b""))
        await store.append(uploads_[2], held, chunked(content_of(MIB)[held:]))
        await store.commit(uploads_[2], Digest.of(content_of(MIB)))


async def test_service_that_refuses_for_a_while_is_waited_for(minio: Minio, url: str) -> None:
    """MinIO answers 503 for a second in the middle of a push."""
    proxy = FaultProxy("127.0.0.1", minio.port)
    content = content_of(2 * PART + 5)

    async def chunks() -> AsyncIterator[bytes]:
        yield content[: PART + 1]
        proxy.inject(Fault("503", direction="up"))
        asyncio.get_running_loop().call_later(1, partial(setattr, proxy, "fault", None))
        yield content[PART + 1 :]

    async with proxy:
        config = config_of(minio, endpoint=f"http://{proxy.address}", retry_seconds=30.0)
        async with opened(config, url) as store:
            upload = await store.begin()
            assert await store.append(upload, 0, chunks()) == len(content)
            assert proxy.struck.is_set()
            await store.commit(upload, Digest.of(content))
            assert await read(store, Digest.of(content)) == content


async def test_abandoned_uploads_are_swept(
    config: S3Config, minio: Minio, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts, tails and whole objects; nothing is left in the bucket of an upload that was aborted."""
    kept = await push(store, content_of(PART + 1), MIB)
    await sweep(store)
    monkeypatch.setattr(garbage, "ABANDONED_SECONDS", -1.0)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content_of(2 * PART + 10), MIB))
    (multipart,) = minio.client.list_multipart_uploads(Bucket=config.bucket, Prefix=f"data/{upload}.1p")["Uploads"]
    await store.abort(upload)
    assert await sweep(store) == 2
    gone = minio.client.list_multipart_uploads(Bucket=config.bucket, Prefix=multipart["Key"])
    assert "Uploads" not in gone
    assert not [key for key in minio.keys(config.bucket) if upload in key]
    assert await sweep(store) == 0
    assert await read(store, kept.digest) == content_of(PART + 1)


async def test_garbage_that_became_part_of_a_blob_is_not_swept(
    config: S3Config, minio: Minio, store: ObjectStore
) -> None:
    """Every key is noted before it is written; a commit, a tail and a replaced blob leave only what nobody needs."""
    contents = [content_of(size, size) for size in (0, 10, PART, PART + 1, 2 * PART + 1)]
    for content in contents:
        for _ in range(2):
            await push(store, content, MIB)
    upload = await store.begin()
    await store.append(upload, 0, chunked(b"abc"))
    await store.append(upload, 3, chunked(b"def"))
    await make_due(store)
    assert await sweep(store) > 0
    for content in contents:
        assert await read(store, Digest.of(content)) == content
    await store.commit(upload, Digest.of(b"abcdef"))
    assert await read(store, Digest.of(b"abcdef")) == b"abcdef"
    assert sorted(minio.keys(config.bucket).values()) == [0, 6, 10, PART, PART + 1, 2 * PART + 1]


async def test_key_that_may_have_been_swept_is_not_used(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that was paused between its note and its object does not make that object part of the upload."""
    monkeypatch.setattr(garbage, "INTENT_SECONDS", garbage.MARGIN_SECONDS / 2)
    upload = await store.begin()
    with pytest.raises(UploadBusy):
        await store.append(upload, 0, chunked(b"abc"))
    monkeypatch.undo()
    await asyncio.sleep(0)
    assert await store.received(upload) == 0


async def test_every_key_is_known_before_it_is_written(
    config: S3Config, minio: Minio, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the database fails, what is in the bucket is in the records, so that it is used or swept."""
    monkeypatch.setattr(garbage, "ABANDONED_SECONDS", -1.0)
    monkeypatch.setattr(garbage, "INTENT_SECONDS", garbage.MARGIN_SECONDS + 30.0)
    async with opened(config, url) as store:
        service = store._service
        write, left = service.records.write, 0

        async def write_some(change: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Unavailable("cut off")
            return await write(change, **options)

        monkeypatch.setattr(service.records, "write", write_some)
        monkeypatch.setattr(uploads, "HOLD_SECONDS", 0.0)
        for writes in range(2, 9):
            left = 1
            upload = await store.begin()
            left = writes
            try:
                await store.append(upload, 0, chunked(content_of(PART + 10), MIB))
                await store.commit(upload, Digest.of(content_of(PART + 10)))
            except Unavailable:
                pass
            left = 100
            await store.abort(upload)
        await store.delete(Digest.of(content_of(PART + 10)))

        left = 10_000
        await make_due(store)
        await sweep(store)
        assert minio.keys(config.bucket) == {}
