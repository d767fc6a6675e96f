"""Blobs: pushing them whole, ranges and conditions on reading, deleting, mounting; and whose they are."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.oci.client import Registry, location_of, refused
from tests.oci.content import EMPTY_CONFIG, OCTETS, Blob, digest_of, image, unique_blob, unknown_digest
from tests.oci.wire import Wire
from tests.server import Server

HUNDRED = Blob(bytes(range(100)))
ALGORITHMS = ["sha256", "sha384", "sha512"]


@pytest.fixture
def hundred(registry: Registry, repository: str) -> str:
    """The path of a blob of a hundred bytes, each of another value."""
    registry.push_blob(repository, HUNDRED)
    return f"/v2/{repository}/blobs/{HUNDRED.digest}"


def is_whole(answer: httpx.Response, blob: Blob) -> bool:
    return answer.status_code == 200 and answer.content == blob.content and "content-range" not in answer.headers


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_post_pushes_a_blob(registry: Registry, repository: str, algorithm: str) -> None:
    blob = unique_blob(1000)
    digest = digest_of(blob.content, algorithm)
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"digest": digest}, blob.content, content_type=OCTETS)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert location_of(answer) == f"/v2/{repository}/blobs/{digest}"
    assert registry.get(location_of(answer)).content == blob.content


def test_uploads_work_without_the_last_slash(registry: Registry, repository: str) -> None:
    blob = unique_blob()
    answer = registry.post(f"/v2/{repository}/blobs/uploads", {"digest": blob.digest}, blob.content)
    assert answer.status_code == 201


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_post_then_put_pushes_a_blob(registry: Registry, repository: str, algorithm: str) -> None:
    blob = unique_blob(1000)
    digest = digest_of(blob.content, algorithm)
    location = registry.begin(repository)
    answer = registry.put(location, {"digest": digest}, blob.content, content_type=OCTETS)
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    pulled = registry.get(location_of(answer))
    assert pulled.content == blob.content
    assert pulled.headers["docker-content-digest"] == digest


def test_empty_blob(registry: Registry, repository: str, other: str) -> None:
    empty = Blob(b"")
    registry.push_blob(repository, empty)
    location = registry.begin(other)
    assert registry.put(location, {"digest": empty.digest}).status_code == 201
    for name in (repository, other):
        path = f"/v2/{name}/blobs/{empty.digest}"
        pulled = registry.get(path)
        assert (pulled.status_code, pulled.content, pulled.headers["content-length"]) == (200, b"", "0")
        assert registry.head(path).headers["content-length"] == "0"
        outside = registry.get(path, range="bytes=0-")
        refused(outside, 416, "BLOB_UNKNOWN")
        assert outside.headers["content-range"] == "bytes */0"


@pytest.mark.parametrize("size", [1, (1 << 20) - 1, 1 << 20, (5 << 20) + 1])
def test_sizes_around_the_batches(registry: Registry, repository: str, size: int) -> None:
    blob = registry.push_blob(repository, unique_blob(size))
    pulled = registry.get(f"/v2/{repository}/blobs/{blob.digest}")
    assert pulled.headers["content-length"] == str(size)
    assert pulled.content == blob.content


def test_head_says_what_get_gives(registry: Registry, hundred: str) -> None:
    head, get = registry.head(hundred), registry.get(hundred)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    for name in ("content-length", "content-type", "docker-content-digest", "etag", "accept-ranges"):
        assert head.headers[name] == get.headers[name]
    assert head.headers["content-length"] == "100"
    assert head.headers["docker-content-digest"] == HUNDRED.digest
    assert head.headers["etag"] == f'"{HUNDRED.digest}"'
    assert head.headers["accept-ranges"] == "bytes"


def test_no_body_follows_a_head(server: Server, hundred: str) -> None:
    """A body after HEAD would be read as the beginning of the next answer on the connection."""
    with Wire(server) as wire:
        for status, path in ((200, hundred), (404, hundred[:-1] + "e"), (400, hundred[:-1])):
            assert wire.exchange("HEAD", path).status == status
        answer = wire.exchange("GET", hundred)
        assert (answer.status, answer.body) == (200, HUNDRED.content)


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=99-99", 99, 100),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 20),
        ("bytes=0-", 0, 100),
        ("bytes=90-", 90, 100),
        ("bytes=99-", 99, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        ("bytes=50-1000", 50, 100),
        ("bytes=99-100", 99, 100),
        ("bytes=0-9999999999999999999", 0, 100),
    ],
)
def test_range(registry: Registry, hundred: str, wanted: str, start: int, stop: int) -> None:
    answer = registry.get(hundred, range=wanted)
    assert answer.status_code == 206
    assert answer.content == HUNDRED.content[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["docker-content-digest"] == HUNDRED.digest
    assert answer.headers["etag"] == f'"{HUNDRED.digest}"'


@pytest.mark.parametrize(
    "wanted", ["bytes=100-", "bytes=100-100", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-", "bytes=5-2"]
)
def test_range_outside_the_blob(registry: Registry, hundred: str, wanted: str) -> None:
    """A range that ends before it begins may be ignored or rejected (RFC 9110 section 14.2); here it is rejected."""
    answer = registry.get(hundred, range=wanted)
    assert refused(answer, 416, "BLOB_UNKNOWN") == {"size": 100}
    assert answer.headers["content-range"] == "bytes */100"


@pytest.mark.parametrize(
    "wanted",
    [
        "bytes=",
        "bytes=-",
        "bytes=5",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=+1-5",
        "bytes=--5",
        "bytes=1-5;",
        "bytes=0-1,5-6",
        "bytes=0-1, 99-99",
        "bytes 0-5",
        "0-5",
        "octets=0-1",
        "bytes=\xb2-\xb3",
    ],
)
def test_range_that_is_malformed_or_not_supported_is_ignored(registry: Registry, hundred: str, wanted: str) -> None:
    """RFC 9110 section 14.2: a Range that cannot be used is as if it were not there."""
    answer = registry.http.get(hundred, headers={b"range": wanted.encode("latin-1")})
    assert is_whole(answer, HUNDRED)


def test_range_belongs_to_get_alone(registry: Registry, hundred: str) -> None:
    """RFC 9110 section 14.2: a server must ignore Range with a method for which it is not defined; that is HEAD too."""
    answer = registry.head(hundred, range="bytes=10-19")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == "100"


@pytest.mark.parametrize("start", [0, (1 << 20) - 1, 1 << 20, (2 << 20) + 5])
@pytest.mark.parametrize("length", [1, 1 << 20, (1 << 20) + 1])
def test_range_across_batches(registry: Registry, repository: str, start: int, length: int) -> None:
    blob = registry.push_blob(repository, unique_blob((3 << 20) + 77))
    stop = min(start + length, blob.size)
    answer = registry.get(f"/v2/{repository}/blobs/{blob.digest}", range=f"bytes={start}-{stop - 1}")
    assert answer.status_code == 206
    assert answer.content == blob.content[start:stop]


def test_if_range_with_the_right_etag_gives_the_range(registry: Registry, hundred: str) -> None:
    answer = registry.get(hundred, range="bytes=0-9", if_range=f'"{HUNDRED.digest}"')
    assert (answer.status_code, answer.content) == (206, HUNDRED.content[:10])


@pytest.mark.parametrize(
    "validator",
    [f'"{unknown_digest()}"', f'W/"{HUNDRED.digest}"', "Wed, 21 Oct 2015 07:28:00 GMT", "", HUNDRED.digest],
    ids=["other", "weak", "date", "empty", "unquoted"],
)
def test_if_range_with_anything_else_gives_the_whole(registry: Registry, hundred: str, validator: str) -> None:
    assert is_whole(registry.get(hundred, range="bytes=0-9", if_range=validator), HUNDRED)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "tags",
    [
        f'"{HUNDRED.digest}"',
        f'W/"{HUNDRED.digest}"',
        "*",
        f'"{unknown_digest()}", "{HUNDRED.digest}"',
        f'"a",W/"{HUNDRED.digest}" , "b"',
    ],
    ids=["same", "weak", "any", "list", "weak in list"],
)
def test_not_modified(registry: Registry, hundred: str, method: str, tags: str) -> None:
    answer = registry.request(method, hundred, if_none_match=tags)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{HUNDRED.digest}"'
    # RFC 9110 section 8.6: a 304 states the length that a 200 would have had, or none.
    assert answer.headers.get("content-length", "100") == "100"


def test_if_none_match_in_two_header_lines(registry: Registry, hundred: str) -> None:
    """RFC 9110 section 5.3: lines of one list-valued header are one list."""
    lines = [("if-none-match", f'"{HUNDRED.digest}"'), ("if-none-match", '"another"')]
    assert registry.http.get(hundred, headers=lines).status_code == 304


def test_not_modified_goes_before_a_range(registry: Registry, hundred: str) -> None:
    answer = registry.get(hundred, range="bytes=100-", if_none_match=f'"{HUNDRED.digest}"')
    assert answer.status_code == 304


def test_modified(registry: Registry, hundred: str) -> None:
    assert is_whole(registry.get(hundred, if_none_match=f'"{unknown_digest()}"'), HUNDRED)


def test_unknown_blob_and_unknown_repository(registry: Registry, repository: str) -> None:
    registry.push_blob(repository, HUNDRED)
    missing = unknown_digest()
    for path in (f"/v2/{repository}/blobs/{missing}", f"/v2/{repository}-2/blobs/{HUNDRED.digest}"):
        detail = refused(registry.get(path), 404, "BLOB_UNKNOWN")
        assert path == f"/v2/{detail['name']}/blobs/{detail['digest']}"
        assert registry.head(path).status_code == 404
        assert registry.get(path, if_none_match="*").status_code == 404
        assert registry.get(path, range="bytes=0-0").status_code == 404
        refused(registry.delete(path), 404, "BLOB_UNKNOWN")


def test_blob_of_another_repository_is_not_visible(registry: Registry, hundred: str, other: str) -> None:
    registry.push_blob(other, unique_blob())
    path = f"/v2/{other}/blobs/{HUNDRED.digest}"
    refused(registry.get(path), 404, "BLOB_UNKNOWN")
    assert registry.head(path).status_code == 404
    refused(registry.delete(path), 404, "BLOB_UNKNOWN")
    assert registry.get(hundred).status_code == 200


def test_one_digest_is_not_visible_by_another_algorithm(registry: Registry, repository: str) -> None:
    blob = registry.push_blob(repository, unique_blob())
    answer = registry.get(f"/v2/{repository}/blobs/{digest_of(blob.content, 'sha512')}")
    refused(answer, 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_post_with_another_digest_stores_nothing(registry: Registry, repository: str, algorithm: str) -> None:
    blob, claimed = unique_blob(), unknown_digest(algorithm)
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"digest": claimed}, blob.content)
    assert refused(answer, 400, "DIGEST_INVALID")["digest"] == claimed
    for digest in (claimed, blob.digest):
        assert registry.head(f"/v2/{repository}/blobs/{digest}").status_code == 404


def test_same_blob_twice(registry: Registry, repository: str) -> None:
    blob = unique_blob()
    registry.push_blob(repository, blob)
    registry.push_blob(repository, blob)
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_same_blob_from_many_clients_at_once(anywhere: Registry, repository: str) -> None:
    blob = unique_blob(300_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: anywhere.push_blob(repository, blob), range(16)))
    assert anywhere.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_delete(anywhere: Registry, repository: str, other: str) -> None:
    blob = anywhere.push_blob(repository, unique_blob())
    anywhere.push_blob(other, blob)
    path = f"/v2/{repository}/blobs/{blob.digest}"
    assert anywhere.get(path).status_code == 200
    assert anywhere.delete(path).status_code == 202
    for _ in range(4):
        assert anywhere.head(path).status_code == 404
        refused(anywhere.get(path), 404, "BLOB_UNKNOWN")
    refused(anywhere.delete(path), 404, "BLOB_UNKNOWN")
    assert anywhere.get(f"/v2/{other}/blobs/{blob.digest}").content == blob.content
    anywhere.push_blob(repository, blob)
    assert anywhere.get(path).content == blob.content


def test_blob_in_use_stays(registry: Registry, repository: str) -> None:
    layer = registry.push_blob(repository, unique_blob())
    registry.push_blob(repository, EMPTY_CONFIG)
    manifest = registry.push(repository, image(EMPTY_CONFIG, layer))
    for used in (layer, EMPTY_CONFIG):
        answer = registry.delete(f"/v2/{repository}/blobs/{used.digest}")
        assert refused(answer, 405, "UNSUPPORTED") == {"digest": used.digest, "manifests": [manifest.digest]}
        assert registry.get(f"/v2/{repository}/blobs/{used.digest}").content == used.content
    assert registry.delete(f"/v2/{repository}/manifests/{manifest.digest}").status_code == 202
    assert registry.delete(f"/v2/{repository}/blobs/{layer.digest}").status_code == 202


def test_blob_in_use_elsewhere_goes(registry: Registry, repository: str, other: str) -> None:
    layer = unique_blob()
    for name in (repository, other):
        registry.push_blob(name, layer)
        registry.push_blob(name, EMPTY_CONFIG)
    registry.push(other, image(EMPTY_CONFIG, layer))
    assert registry.delete(f"/v2/{repository}/blobs/{layer.digest}").status_code == 202
    assert registry.get(f"/v2/{other}/blobs/{layer.digest}").content == layer.content


@pytest.mark.parametrize("named", [True, False], ids=["with from", "without from"])
def test_mount(registry: Registry, repository: str, other: str, named: bool) -> None:
    blob = registry.push_blob(repository, unique_blob())
    query = {"mount": blob.digest} | ({"from": repository} if named else {})
    answer = registry.post(f"/v2/{other}/blobs/uploads/", {**query})
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == blob.digest
    assert location_of(answer) == f"/v2/{other}/blobs/{blob.digest}"
    assert registry.get(location_of(answer)).content == blob.content
    assert registry.delete(f"/v2/{repository}/blobs/{blob.digest}").status_code == 202
    assert registry.get(location_of(answer)).content == blob.content


def test_mount_of_what_is_there_already(registry: Registry, repository: str) -> None:
    blob = registry.push_blob(repository, unique_blob())
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"mount": blob.digest, "from": repository})
    assert answer.status_code == 201


@pytest.mark.parametrize("source", [None, "holder", "stranger", "nowhere/at-all"])
def test_mount_of_an_unknown_blob_begins_an_upload(
    registry: Registry, repository: str, other: str, source: str | None
) -> None:
    """The blob exists in the registry only where ``source`` is a repository that does not hold it."""
    blob = unique_blob()
    registry.push_blob(other, unique_blob())
    if source == "stranger":
        registry.push_blob(f"{other}/third", blob)
    query = {"mount": blob.digest}
    if source is not None:
        query["from"] = other if source in {"holder", "stranger"} else source
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {**query})
    assert answer.status_code == 202
    assert registry.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 404
    pushed = registry.put(location_of(answer), {"digest": blob.digest}, blob.content)
    assert pushed.status_code == 201
    assert registry.get(location_of(pushed)).content == blob.content


def test_mount_with_bad_parameters(registry: Registry, repository: str) -> None:
    uploads = f"/v2/{repository}/blobs/uploads/"
    refused(registry.post(uploads, {"mount": "sha256:abc"}), 400, "DIGEST_INVALID")
    refused(registry.post(uploads, {"mount": unknown_digest(), "from": "../etc"}), 400, "NAME_INVALID")
    refused(registry.post(uploads, {"mount": [unknown_digest(), unknown_digest()]}), 400, "UNSUPPORTED")
