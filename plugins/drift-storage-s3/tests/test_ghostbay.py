"""The bucket of a GhostBay server: the kit's rules, and each of its limits, on a stand-in that has them."""

import hmac
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import reduce
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from threading import Thread
from urllib.parse import urlencode

import msgspec
import pytest
from drift_storage_s3.bucket import Missing, Part, UploadGone
from drift_storage_s3.config import GhostBayConfig, GhostBayCredentials
from drift_storage_s3.ghostbay import GhostBayBucket, flat
from drift_storage_s3.ghostbay_wire import Answer, read_answer
from drift_storage_s3.plugin import open_ghostbay

from drift_core.api import BlobStore, BlobUnknown, Digest, Secret, StartError, StorageFull, Unavailable
from drift_core.conformance import open_records, services
from drift_core.conformance.suites.storage import chunked
from drift_core.conformance.suites.storage import read as read_blob

from .ghostbay_server import Fault, Request, Server

MIB = 1 << 20
Count = Callable[[str], int]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "ghostbay") as server:
        yield server


@pytest.fixture
def count(server: Server) -> Count:
    """Returns a function that counts the requests so far, as ``METHOD target``, that a pattern is found in."""
    return server.bay.count


def bucket_at(server: Server, **more: object) -> GhostBayBucket:
    config = GhostBayConfig(endpoint=server.endpoint, timeout_seconds=5.0, retry_seconds=3.0)
    return GhostBayBucket(msgspec.structs.replace(config, **more), lambda _: None)


@pytest.fixture
def bucket(server: Server) -> Iterator[GhostBayBucket]:
    bucket = bucket_at(server)
    bucket.check()
    yield bucket
    bucket.close()


def read(bucket: GhostBayBucket, key: str, start: int, stop: int) -> bytes:
    return b"".join(bucket.get(key, start, stop))


def once(server: Server, fault: Fault, method: str, pattern: str = "") -> None:
    """Makes the next request of a kind go wrong, and none after it."""

    def strike(request: Request) -> Fault | None:
        if request.method != method or re.search(pattern, request.target) is None:
            return None
        server.bay.fault = lambda _: None
        return fault

    server.bay.fault = strike


# Keys


def test_keys_are_flat() -> None:
    """Every key has a name of its own, which is one segment of a path and needs no encoding."""
    keys = ["data/1f.2", "data/1f/2", "data~2F1f.2", "a", "a/b", "a b", "a%2Fb", "ä", "A", ""]
    names = [flat(key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]*", name) for name in names)
    assert flat("data/1f.2") == "data~2F1f.2"


@pytest.mark.parametrize("prefix", ["a/" * 50, "._/" * 33, "../"])
def test_prefixes(server: Server, prefix: str) -> None:
    """With the longest prefix that the configuration allows a name is still one that a file can have."""
    bucket = bucket_at(server, prefix=prefix)
    bucket.check()
    key = f"data/{'f' * 32}.{10**6}"
    bucket.put(key, b"kept")
    assert read(bucket, key, 0, 4) == b"kept"
    bucket.close()


def test_key_within_another(bucket: GhostBayBucket) -> None:
    """``a`` and ``a/b`` can both be there, which GhostBay alone does not allow."""
    bucket.put("a", b"1")
    bucket.put("a/b", b"2")
    assert (read(bucket, "a", 0, 1), read(bucket, "a/b", 0, 1)) == (b"1", b"2")
    bucket.delete(["a"])
    assert bucket.size("a/b") == 1


# The bucket


def test_bucket_is_made_once(server: Server, count: Count) -> None:
    for _ in range(2):
        bucket = bucket_at(server)
        bucket.check()
        bucket.close()
    assert count("^PUT /drift-registry$") == 1


def test_bucket_made_by_another_node(server: Server) -> None:
    """Between the question whether it is there and the request that makes it."""
    other, bucket = bucket_at(server), bucket_at(server)

    def overtake(request: Request) -> None:
        if request.method == "PUT":
            server.bay.fault = lambda _: None
            other.check()

    server.bay.fault = overtake
    bucket.check()
    bucket.put("k", b"x")
    for one in (bucket, other):
        one.close()


def test_bucket_name_that_is_refused(server: Server) -> None:
    bucket = bucket_at(server, bucket="UPPER")
    with pytest.raises(StartError, match=r"^storage\.ghostbay\.bucket: .* InvalidBucketName$"):
        bucket.check()
    bucket.close()


@pytest.mark.parametrize("name", ["health", "ab", "UPPER", "a.b"])
def test_bucket_names(name: str) -> None:
    """Where GhostBay is asked for its health, there is no bucket."""
    with pytest.raises(msgspec.ValidationError, match="bucket"):
        msgspec.convert({"endpoint": "http://localhost:3000", "bucket": name}, GhostBayConfig)


def test_nobody_there(server: Server) -> None:
    bucket = bucket_at(server, endpoint="http://127.0.0.1:1", retry_seconds=0.5)
    with pytest.raises(StartError, match=r"storage\.ghostbay\.endpoint: http://127\.0\.0\.1:1: "):
        bucket.check()
    bucket.close()


def test_bucket_gone_is_no_missing_object(server: Server, bucket: GhostBayBucket) -> None:
    """A 404 of a GhostBay that lost its bucket, or of some other server, does not say that an object is not there."""
    bucket.put("k", b"x")
    server.bay._all("DELETE FROM buckets")
    for ask in (lambda: bucket.size("k"), lambda: bucket.get("k", 0, 1)):
        with pytest.raises(Unavailable, match="NoSuchBucket"):
            ask()
    elsewhere = bucket_at(server, endpoint=f"{server.endpoint}/no/such")
    with pytest.raises(Unavailable):
        elsewhere.put("k", b"x")
    elsewhere.close()


# Write once


def test_put_is_sent_once(server: Server, bucket: GhostBayBucket, count: Count) -> None:
    """Where the answer is lost, a HEAD finds out that the object is there."""
    once(server, "lose", "PUT")
    bucket.put("k", b"content")
    assert count("^PUT /drift-registry/k") == 1
    assert not server.bay.overwritten
    assert read(bucket, "k", 0, 7) == b"content"


def test_put_is_sent_again_where_it_is_not_there(server: Server, bucket: GhostBayBucket, count: Count) -> None:
    once(server, "refuse", "PUT")
    bucket.put("k", memoryview(b"content"))
    assert count("^PUT /drift-registry/k") == 2
    assert not server.bay.overwritten
    assert read(bucket, "k", 0, 7) == b"content"


def test_put_of_a_key_with_other_bytes(server: Server, bucket: GhostBayBucket) -> None:
    """A retry of the store is taken for done; that there is another object is not hidden."""
    bucket.put("k", b"content")
    bucket.put("k", b"content")
    server.bay.fault = lambda request: "refuse" if request.method == "PUT" else None
    with pytest.raises(Unavailable, match="7 bytes, not 3"):
        bucket.put("k", b"new")


def test_part_is_sent_once(server: Server, bucket: GhostBayBucket, count: Count) -> None:
    """A number of a part is never sent twice, whatever became of the first."""
    upload = bucket.create_multipart("k")
    for number, fault in ((1, "lose"), (2, "refuse")):
        once(server, fault, "PUT")
        with pytest.raises(Unavailable):
            bucket.put_part("k", upload, number, b"lost")
    parts = [bucket.put_part("k", upload, number, b"%d" % number) for number in (3, 5)]
    assert count("partNumber") == 4
    bucket.complete("k", upload, parts)
    assert read(bucket, "k", 0, 2) == b"35"
    assert not server.bay.overwritten


def test_part_waits_for_a_server_that_starts(tmp_path: Path) -> None:
    """A part of which nothing was sent, since nobody listened, is sent again."""
    with Server(tmp_path) as server:
        bucket, port = bucket_at(server), server.server_address[1]
        bucket.check()
        upload = bucket.create_multipart("k")
    sent: list[Part] = []
    thread = Thread(target=lambda: sent.append(bucket.put_part("k", upload, 1, b"part")))
    thread.start()
    thread.join(0.3)
    with Server(tmp_path, port):
        thread.join()
        bucket.complete("k", upload, sent)
        assert read(bucket, "k", 0, 4) == b"part"
        bucket.close()


# Parts


def completed(bucket: GhostBayBucket, key: str, contents: Sequence[bytes]) -> None:
    upload = bucket.create_multipart(key)
    parts = [bucket.put_part(key, upload, number, content) for number, content in enumerate(contents, 1)]
    bucket.complete(key, upload, parts)


def test_complete_is_sent_once(server: Server, bucket: GhostBayBucket, count: Count) -> None:
    """Where the answer is lost, HEADs find out that the object is there; where it is not, nothing more is risked."""
    once(server, "lose", "POST", "uploadId")
    completed(bucket, "k", [b"one", b"two"])
    assert read(bucket, "k", 0, 6) == b"onetwo"
    assert count("^POST .*uploadId") == 1
    once(server, "refuse", "POST", "uploadId")
    with pytest.raises(Unavailable, match="CompleteMultipartUpload: 500 InternalError"):
        completed(bucket, "other", [b"one"])
    assert count("^POST .*uploadId") == 2
    assert not server.bay.overwritten


def test_upload_that_is_gone(bucket: GhostBayBucket) -> None:
    upload = bucket.create_multipart("k")
    part = bucket.put_part("k", upload, 1, b"x")
    bucket.abort("k", upload)
    bucket.abort("k", upload)
    with pytest.raises(UploadGone):
        bucket.put_part("k", upload, 2, b"x")
    with pytest.raises(UploadGone):
        bucket.complete("k", upload, [part])
    with pytest.raises(Missing):
        bucket.size("k")


def test_nothing_is_believed_about_content(server: Server, bucket: GhostBayBucket) -> None:
    """An object whose parts GhostBay joined has to be read back: its ETag says nothing of them."""
    assert not bucket.verifies
    assert not bucket.reuses_numbers
    upload = bucket.create_multipart("k")
    parts = [bucket.put_part("k", upload, 1, b"one")]
    assert parts[0].checksum is None
    (server.bay.temp / upload / "part_00001").write_bytes(b"bad")
    bucket.complete("k", upload, parts)
    assert read(bucket, "k", 0, 3) == b"bad"


# Reads


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 3 * MIB), (1, 2), (4096, 8192), (MIB - 1, 2 * MIB + 1), (3 * MIB - 1, 3 * MIB)]
)
def test_ranges_are_cut_here(server: Server, bucket: GhostBayBucket, start: int, stop: int) -> None:
    """Bytes are counted here, and no Range is sent."""
    content = os.urandom(3 * MIB)
    bucket.put("k", content)
    blocks = list(bucket.get("k", start, stop))
    assert b"".join(blocks) == content[start:stop]
    assert all(0 < len(block) <= MIB for block in blocks)
    assert not any("range" in request.headers for request in server.bay.requests)


def test_missing(bucket: GhostBayBucket) -> None:
    with pytest.raises(Missing):
        bucket.get("k", 0, 1)
    with pytest.raises(Missing):
        bucket.size("k")
    bucket.delete(["k"])


def test_size_is_not_that_of_the_catalog(bucket: GhostBayBucket) -> None:
    """The catalog counts the parts that were left out, too."""
    upload = bucket.create_multipart("k")
    bucket.put_part("k", upload, 1, b"left out")
    bucket.complete("k", upload, [bucket.put_part("k", upload, 2, b"part")])
    assert bucket.size("k") == 4
    bucket.put("empty", b"")
    assert bucket.size("empty") == 0


def test_object_that_is_too_short(server: Server, bucket: GhostBayBucket) -> None:
    bucket.put("k", b"content")
    (server.bay.data / "drift-registry" / "k").write_bytes(b"cont")
    with pytest.raises(Unavailable):
        bucket.get("k", 0, 7)


@pytest.mark.parametrize("start", [0, 1, 2 * MIB + 1])
def test_read_goes_on_where_it_broke(server: Server, bucket: GhostBayBucket, count: Count, start: int) -> None:
    """From the beginning of the object, and without a byte twice."""
    content = os.urandom(3 * MIB)
    bucket.put("k", content)
    once(server, "cut", "GET")
    assert read(bucket, "k", start, 3 * MIB - 1) == content[start : 3 * MIB - 1]
    assert count("^GET") == 2


def test_read_that_does_not_end(server: Server, bucket: GhostBayBucket) -> None:
    """It is never taken for whole, however often it breaks, and whatever happens meanwhile."""
    bucket.put("k", bytes(3 * MIB))
    server.bay.fault = lambda request: "cut" if request.method == "GET" else None
    blocks: list[bytes] = []
    with pytest.raises(Unavailable, match="GetObject"):
        blocks.extend(bucket.get("k", 0, 3 * MIB))
    server.bay.fault = lambda _: None
    once(server, "cut", "GET")
    reader = bucket.get("k", 0, 3 * MIB)
    bucket.delete(["k"])
    with pytest.raises(Unavailable, match="deleted while it was read"):
        blocks.extend(reader)


def test_plain_bodies(server: Server, bucket: GhostBayBucket) -> None:
    """Nothing that is compressed is asked for, and nothing that is framed is sent."""
    bucket.put("k", bytes(MIB))
    assert read(bucket, "k", 0, MIB) == bytes(MIB)
    assert {request.headers["accept-encoding"] for request in server.bay.requests} == {"identity"}
    framed = {"content-encoding", "transfer-encoding"}
    assert not any(framed & request.headers.keys() for request in server.bay.requests)


def test_connections_are_used_again(server: Server, bucket: GhostBayBucket) -> None:
    """Also after a range whose rest is short; a long rest is not read."""
    bucket.put("k", bytes(8 * MIB))
    before = server.accepted
    for _ in range(5):
        bucket.size("k")
        assert read(bucket, "k", 0, 8 * MIB - 1000) == bytes(8 * MIB - 1000)
    assert server.accepted == before
    reader = bucket.get("k", 0, 2 * MIB)
    assert len(next(iter(reader))) == MIB
    reader.close()
    reader.close()
    assert read(bucket, "k", 0, 2) == b"\0\0"


# What is not used


def test_no_listing_and_no_copies(server: Server, bucket: GhostBayBucket, count: Count) -> None:
    """Nothing depends on lists, which are cut without a word, or on what GhostBay does not have."""
    completed(bucket, "k", [b"one", b"two"])
    bucket.put("l", b"x")
    bucket.delete(["k", "l"])
    assert count(r"^GET /drift-registry(\?|$)") == 0
    assert count("delete|copy") == 0
    assert count("^DELETE") == 2
    assert bucket.presign("k") is None
    assert not any("x-amz-copy-source" in request.headers for request in server.bay.requests)


# Signatures and answers


def authorization(request: Request, access_key: str, secret_key: str) -> str:
    """Signs a request as Amazon describes it ("Signature Version 4 signing process")."""

    def mac(key: bytes, text: str) -> bytes:
        return hmac.digest(key, text.encode(), "sha256")

    moment = request.headers["x-amz-date"]
    names = ["accept-encoding", "host", "x-amz-content-sha256", "x-amz-date"]
    listed = urlencode(sorted(request.query.items()))
    lines = [request.method, request.target.partition("?")[0], listed]
    lines += [f"{name}:{request.headers[name]}" for name in names]
    lines += ["", ";".join(names), request.body_hash]
    scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, sha256("\n".join(lines).encode()).hexdigest()])
    key = reduce(mac, [moment[:8], "us-east-1", "s3", "aws4_request"], b"AWS4" + secret_key.encode())
    told = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={';'.join(names)}"
    return f"{told}, Signature={mac(key, text).hex()}"


def test_signature(server: Server) -> None:
    """Requests are signed by SigV4 as soon as there are credentials, so that they pass once somebody checks them."""
    bucket = bucket_at(
        server, credentials=GhostBayCredentials(access_key=Secret("AKID"), secret_key=Secret("hidden-key"))
    )
    bucket.check()
    completed(bucket, "a/b", [b"one", b"two"])
    assert read(bucket, "a/b", 0, 6) == b"onetwo"
    bucket.close()
    assert len(server.bay.requests) > 5
    for request in server.bay.requests:
        assert request.headers["x-amz-content-sha256"] == request.body_hash
        assert request.headers["authorization"] == authorization(request, "AKID", "hidden-key")


def test_unsigned(server: Server, bucket: GhostBayBucket) -> None:
    bucket.put("k", b"x")
    assert not any("authorization" in request.headers for request in server.bay.requests)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b'{"Bucket": "b", "Key": "k", "UploadId": "u"}', Answer(upload_id="u")),
        (b"<R><Bucket>b</Bucket><UploadId>u</UploadId></R>", Answer(upload_id="u")),
        (b"<Error><Code>NoSuchKey</Code><Message>m</Message></Error>", Answer("NoSuchKey", "m")),
        (b"", Answer()),
        (b"[]", Answer()),
        (b"\xff", Answer()),
    ],
)
def test_answers(content: bytes, answer: Answer) -> None:
    """In JSON, or in XML if GhostBay learns it."""
    assert read_answer(content) == answer


def test_full(server: Server, bucket: GhostBayBucket) -> None:
    server.bay.fault = lambda _: "full"
    with pytest.raises(StorageFull):
        bucket.put("k", b"x")


# The store on such a bucket


@pytest.fixture
async def store(server: Server) -> AsyncIterator[BlobStore]:
    config = GhostBayConfig(endpoint=server.endpoint, part_size_mb=5, timeout_seconds=5.0, retry_seconds=2.0)
    async with (
        open_records("storage-s3", "drift_storage_s3.migrations") as records,
        open_ghostbay(config, services("storage-s3", records=records)) as store,
    ):
        yield store


async def test_store_writes_nothing_twice(server: Server, store: BlobStore, count: Count) -> None:
    """Neither a key nor a part, however many requests fail before or after they are done; and it lists nothing."""
    faults: dict[str, Iterator[Fault | None]] = {
        "HEAD": cycle((None, None, "refuse", "lose")),
        "GET": cycle((None, None, "refuse", "cut")),
        "PUT": cycle(("lose", None, "refuse", None)),
        "POST": cycle((None, "lose", None, "refuse", None)),
        "DELETE": cycle((None,)),
    }
    server.bay.fault = lambda request: next(faults[request.method])
    made: dict[Digest, bytes] = {}
    for size in (1, MIB, 5 * MIB, 12 * MIB, 17 * MIB):
        content = os.urandom(size)
        upload = await store.begin()
        for _ in range(20):
            held = await store.received(upload)
            with suppress(Unavailable):
                await store.append(upload, held, chunked(content[held : held + 7 * MIB], MIB))
                if held + 7 * MIB >= size:
                    await store.commit(upload, Digest.of(content))
                    break
        else:
            pytest.fail("never committed")
        made[Digest.of(content)] = content
    server.bay.fault = lambda _: None
    assert {digest: await read_blob(store, digest) for digest in made} == made
    assert count("^PUT .*partNumber=") > 6
    assert server.bay.overwritten == []
    assert count(r"^GET /drift-registry(\?|$)") == 0


async def test_store_checks_what_was_joined(server: Server, store: BlobStore) -> None:
    """A part that GhostBay has changed is noticed before there is a blob: it checks nothing itself."""
    content = os.urandom(6 * MIB)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content, MIB))
    (part,) = server.bay.temp.glob("mpu_*/part_*")
    part.write_bytes(bytes([content[0] ^ 1]) + content[1 : 5 * MIB])
    with pytest.raises(Unavailable):
        await store.commit(upload, Digest.of(content))
    with pytest.raises(BlobUnknown):
        await store.stat(Digest.of(content))


async def test_store_reads_ranges(store: BlobStore) -> None:
    """Of a blob in parts, across their edges."""
    content = os.urandom(11 * MIB)
    upload = await store.begin()
    await store.append(upload, 0, chunked(content, MIB))
    digest = (await store.commit(upload, Digest.of(content))).digest
    for start, stop in ((5 * MIB - 1, 5 * MIB + 1), (1, 2), (10 * MIB, 11 * MIB)):
        assert await read_blob(store, digest, start, stop) == content[start:stop]
