"""What is particular to S3: redirects, encryption, credentials, what services lack, and what an operator is told."""

import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import msgspec
import pytest
from anyio import to_thread
from botocore.exceptions import ClientError, ReadTimeoutError
from drift_storage_s3.bucket import Missing
from drift_storage_s3.config import S3Config
from drift_storage_s3.s3 import S3Bucket, explained, may_pass
from drift_storage_s3.store import ObjectStore, RedirectingStore

from drift_core.api import BlobUnknown, Digest, Secret, StartError, StorageFull, SupportsRedirect, Unavailable
from drift_core.conformance.suites.storage import content_of, push, read, scanned
from tests.services.minio import Minio

from .opening import MIB, config_of, opened

CLIENT = "192.0.2.7"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'drift.db'}"


@pytest.fixture
async def store(minio: Minio, url: str) -> AsyncIterator[ObjectStore]:
    async with opened(config_of(minio), url) as store:
        yield store


async def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str | None]:
    """Returns status, body and media type of what anybody gets."""

    def fetch() -> tuple[int, bytes, str | None]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
                return answer.status, answer.read(), answer.headers["content-type"]
        except HTTPError as error:
            return error.code, b"", None

    return await to_thread.run_sync(fetch)


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


async def test_redirect_gives_a_url_for_get_alone(minio: Minio, url: str) -> None:
    """Anybody can fetch from it, a range too; HEAD is not answered by what is signed for GET."""
    content = content_of(1000)
    async with opened(config_of(minio, redirect=True, prefix="a/b/"), url) as store:
        assert isinstance(store, SupportsRedirect)
        digest = (await push(store, content)).digest
        location = await store.redirect(digest, "GET", CLIENT)
        assert location is not None
        assert await store.redirect(digest, "HEAD", CLIENT) is None
        store._service.bucket.presign = lambda _: "made again"  # type: ignore[method-assign]
        assert await store.redirect(digest, "GET", "198.51.100.1") == location
        with pytest.raises(BlobUnknown):
            await store.redirect(Digest.of(b"never pushed"), "GET", CLIENT)
    assert await ask(location) == (200, content, "application/octet-stream")
    assert await ask(location, range="bytes=10-19") == (206, content[10:20], "application/octet-stream")
    assert (await ask(location, "HEAD"))[0] == 403
    assert (await ask(location.partition("?")[0]))[0] == 403


async def test_redirect_follows_a_blob_that_was_pushed_again_elsewhere(minio: Minio, url: str) -> None:
    """A node that knows an older object of the blob hands out the new one."""
    config = config_of(minio, redirect=True)
    async with opened(config, url) as store, opened(config, url) as other:
        assert isinstance(store, RedirectingStore)
        digest = (await push(store, b"again")).digest
        before = await store.redirect(digest, "GET", CLIENT)
        await other.delete(digest)
        await push(other, b"again")
        after = await store.redirect(digest, "GET", CLIENT)
        assert after != before
        assert after is not None
        assert (await ask(after))[:2] == (200, b"again")


async def test_redirect_is_signed_for_the_public_endpoint(minio: Minio, url: str) -> None:
    """Clients may reach the service by another name than the registry does."""
    config = config_of(minio, redirect=True, public_endpoint="https://cdn.example.com:8443", redirect_seconds=300)
    async with opened(config, url) as store:
        assert isinstance(store, RedirectingStore)
        location = await store.redirect((await push(store, b"far")).digest, "GET", CLIENT)
    assert location is not None
    parts = urlsplit(location)
    assert (parts.scheme, parts.netloc) == ("https", "cdn.example.com:8443")
    assert parts.path.startswith(f"/{config.bucket}/data/")
    assert "X-Amz-Expires=300" in parts.query


async def test_redirect_only_for_some_networks(minio: Minio, url: str) -> None:
    """The others get the bytes from the registry."""
    config = config_of(minio, redirect=True, redirect_networks=("192.0.2.0/24", "2001:db8::/32"))
    async with opened(config, url) as store:
        assert isinstance(store, RedirectingStore)
        digest = (await push(store, b"near")).digest
        near = [CLIENT, "2001:db8::5", "::ffff:192.0.2.9"]
        assert all([await store.redirect(digest, "GET", client) for client in near])
        for far in "198.51.100.1", "2001:db9::5", "", "unix:":
            assert await store.redirect(digest, "GET", far) is None


async def test_without_redirects_there_are_none(store: ObjectStore) -> None:
    assert not isinstance(store, SupportsRedirect)


async def test_encryption_and_storage_class_go_with_every_object(minio: Minio, url: str) -> None:
    """Whether it is written at once or in parts; MinIO here has no keys, so that it is looked at what is sent."""
    config = config_of(minio, storage_class="REDUCED_REDUNDANCY")
    async with opened(config, url) as store:
        small = await push(store, content_of(10))
        large = await push(store, content_of(5 * MIB + 1), MIB)
    listed = minio.client.list_objects_v2(Bucket=config.bucket)["Contents"]
    assert {item["Size"] for item in listed} >= {small.size, large.size}
    assert {item["StorageClass"] for item in listed} == {"REDUCED_REDUNDANCY"}
    encrypted = S3Bucket(msgspec.structs.replace(config, server_side_encryption="aws:kms", kms_key_id="k1"), print)
    sent: list[Any] = []
    encrypted._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
    for write in (lambda: encrypted.put("x", b"x"), lambda: encrypted.create_multipart("y")):
        with pytest.raises(Unavailable):
            write()
    assert [
        (headers["x-amz-server-side-encryption"], headers["x-amz-server-side-encryption-aws-kms-key-id"])
        for headers in sent
    ] == [(b"aws:kms", b"k1")] * len(sent)
    assert len(sent) >= 2
    encrypted.close()


@pytest.mark.parametrize("checksums", ["md5", "none"])
async def test_other_checksums(minio: Minio, url: str, checksums: str) -> None:
    """Also where objects are removed together, for which S3 demands one."""
    async with opened(config_of(minio, checksums=checksums), url) as store:
        content = content_of(6 * MIB)
        digest = (await push(store, content, MIB)).digest
        assert await read(store, digest) == content
        bucket = store._service.bucket
        bucket.put("one", b"1")
        bucket.put("two", b"2")
        bucket.delete(["one", "two", "none"])
        bucket.abort("none", "no-such-upload")


async def test_service_that_cannot_delete_together_is_asked_one_by_one(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket: Any = store._service.bucket
    asked: list[str] = []

    def refuse(**_: Any) -> Any:
        asked.append("together")
        raise refusal("NotImplemented", 501)

    monkeypatch.setattr(bucket._client, "delete_objects", refuse, raising=False)
    keys = [f"data/{n}" for n in range(5)]
    for _ in range(2):
        for key in keys:
            bucket.put(key, b"x")
        bucket.delete(keys)
    assert asked == ["together"]
    for key in keys:
        with pytest.raises(Missing):
            bucket.size(key)


async def test_lost_object_is_no_blob_until_it_is_pushed_again(minio: Minio, url: str) -> None:
    """The bucket is looked at before a blob is said to be there; a record alone is none."""
    config = config_of(minio)
    async with opened(config, url) as store:
        digest, other = (await push(store, b"lost")).digest, (await push(store, b"other")).digest
        (key,) = [key for key, size in minio.keys(config.bucket).items() if size == 4]
        minio.client.delete_object(Bucket=config.bucket, Key=key)
        with pytest.raises(BlobUnknown):
            await store.stat(digest)
        with pytest.raises(BlobUnknown):
            await read(store, digest)
        assert await scanned(store) == [other]
        await push(store, b"lost")
        assert await read(store, digest) == b"lost"


async def test_bucket_that_is_gone_is_no_answer(minio: Minio, url: str) -> None:
    """No blob seems unknown because its bucket is."""
    config = config_of(minio)
    async with opened(config, url) as store:
        digest = (await push(store, b"kept")).digest
        for key in minio.keys(config.bucket):
            minio.client.delete_object(Bucket=config.bucket, Key=key)
        minio.client.delete_bucket(Bucket=config.bucket)
        for call in (store.stat(digest), read(store, digest), scanned(store), store.check(), store.delete(digest)):
            with pytest.raises(Unavailable, match=r"NoSuchBucket|404"):
                await call


async def test_read_elsewhere_finds_the_blob_that_replaced_another(minio: Minio, url: str) -> None:
    config = config_of(minio)
    async with opened(config, url) as store, opened(config, url) as other:
        digest = (await push(store, b"again")).digest
        assert await read(other, digest) == b"again"
        await store.delete(digest)
        await push(store, b"again")
        assert await read(other, digest) == b"again"
        assert (await other.stat(digest)).size == 5


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bucket": "no-such-bucket"}, "storage.s3.bucket: there is no such bucket"),
        ({"access_key": Secret("nobody")}, "storage.s3.access_key"),
        ({"secret_key": Secret("wrong-secret")}, "secret_key"),
        ({"endpoint": "http://127.0.0.1:9", "retry_seconds": 0.0}, "storage.s3.endpoint: http://127.0.0.1:9"),
    ],
)
async def test_operator_is_told_what_is_wrong(minio: Minio, change: dict[str, Any], told: str) -> None:
    with pytest.raises(StartError) as failed:
        async with opened(msgspec.structs.replace(config_of(minio), **change), None):
            pass
    assert told in str(failed.value)
    assert "wrong-secret" not in str(failed.value)
    assert minio.secret_key not in str(failed.value)


async def test_bucket_is_made_where_that_is_wanted(minio: Minio) -> None:
    config = config_of(minio, bucket="made-by-drift", create_bucket=True)
    for _ in range(2):
        async with opened(config, None) as store:
            await store.check()
    assert minio.keys("made-by-drift") == {}


async def test_credentials_may_be_found_as_others_find_them(
    minio: Minio, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", minio.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", minio.secret_key)
    async with opened(config_of(minio, access_key=None, secret_key=None), url) as store:
        await store.check()


def test_session_token_goes_with_requests(minio: Minio) -> None:
    bucket = S3Bucket(config_of(minio, session_token=Secret("token"), retry_seconds=0.0), print)
    sent: list[Any] = []
    bucket._client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.headers))
    with pytest.raises(StartError):
        bucket.check()
    assert sent[0]["x-amz-security-token"] == b"token"
    bucket.close()


def test_name_of_the_host_or_of_the_path(minio: Minio) -> None:
    """Amazon wants the bucket in the name of the host, others in the path."""
    for path_style, start in ((None, "http://s3.example.com/a-bucket/k"), (False, "http://a-bucket.s3.example.com/k")):
        config = config_of(minio, "a-bucket", endpoint="http://s3.example.com", path_style=path_style)
        bucket = S3Bucket(config, print)
        assert str(bucket.presign("k")).startswith(start)
        bucket.close()
    amazon = S3Bucket(config_of(minio, "a-bucket", endpoint=None, region="eu-north-1"), print)
    assert str(amazon.presign("k")).startswith("https://a-bucket.s3.eu-north-1.amazonaws.com/k")
    amazon.close()


@pytest.mark.parametrize(
    ("code", "status", "passes"),
    [
        ("InternalError", 500, True),
        ("SlowDown", 503, True),
        ("RequestTimeout", 400, True),
        ("BadDigest", 400, True),
        ("TooManyRequests", 429, True),
        ("AccessDenied", 403, False),
        ("NotImplemented", 501, False),
        ("XMinioStorageFull", 507, False),
        ("QuotaExceeded", 403, False),
    ],
)
def test_failures_that_may_pass(code: str, status: int, passes: bool) -> None:
    assert may_pass(refusal(code, status)) is passes


def test_failures_are_told_without_what_the_service_said() -> None:
    assert explained("PutObject", refusal("AccessDenied", 403)).message == (
        "the object service failed: PutObject: AccessDenied"
    )
    assert isinstance(explained("PutObject", refusal("XMinioStorageFull", 507)), StorageFull)
    assert may_pass(ReadTimeoutError(endpoint_url="http://x"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"bucket": "b1x", "endpoint": "http://key:secret@s3.example.com"}, "must not have credentials"),
        ({"bucket": "b1x", "endpoint": "s3.example.com"}, "must be a URL"),
        ({"bucket": "b1x", "access_key": "a"}, "belong together"),
        ({"bucket": "b1x", "kms_key_id": "a"}, "kms_key_id needs"),
        ({"bucket": "b1x", "part_size_mb": 4}, ">= 5"),
        ({"bucket": "b1x", "part_size_mb": 40}, "room for two parts"),
        ({"bucket": "b1x", "redirect_networks": ["10.0.0.1/8"]}, "host bits"),
        ({"bucket": "b1x", "prefix": "/a"}, "matching regex"),
        ({"bucket": "b1x", "prefix": "a"}, "matching regex"),
        ({"bucket": "b1x", "bukket": "a"}, "bukket"),
        ({}, "bucket"),
    ],
)
def test_configuration_that_cannot_be_meant(table: dict[str, Any], told: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=told):
        msgspec.convert(table, S3Config, dec_hook=lambda kind, value: kind(value))


def test_configuration_of_the_original_loads() -> None:
    original = {
        "endpoint": "http://localhost:9000",
        "region": "us-east-1",
        "bucket": "drift",
        "access_key": "minioadmin",
        "secret_key": "minioadmin",
        "path_style": True,
    }
    config = msgspec.convert(original, S3Config, dec_hook=lambda kind, value: kind(value))
    assert config.bucket == "drift"
    assert "minioadmin" not in repr(config)
