"""The stand-in has the limits and mistakes of GhostBay: one test for each line of what its source shows."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.server import free_port

from . import ghostbay_server
from .ghostbay_server import STREAM_CHUNK, Server

BUCKET = "/drift-registry"
Ask = Callable[..., urllib3.BaseHTTPResponse]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def ask(server: Server) -> Iterator[Ask]:
    """Returns a function that asks the server for a path below the bucket, which is made."""
    with urllib3.HTTPConnectionPool("127.0.0.1", server.server_address[1], retries=False, timeout=10) as pool:

        def one(method: str, path: str, body: bytes | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
            return pool.urlopen(method, BUCKET + path, body, headers)

        assert one("PUT", "").status == 200
        yield one


def put(ask: Ask, key: str, content: bytes) -> int:
    return ask("PUT", f"/{key}", content).status


def begin(ask: Ask, key: str) -> str:
    answer = ask("POST", f"/{key}?uploads")
    assert sorted(answer.json()) == ["Bucket", "Key", "UploadId"]
    return str(answer.json()["UploadId"])


def put_part(ask: Ask, key: str, upload: str, number: int | str, content: bytes) -> urllib3.BaseHTTPResponse:
    return ask("PUT", f"/{key}?uploadId={upload}&partNumber={number}", content)


def complete(ask: Ask, key: str, upload: str, *parts: tuple[int, str]) -> urllib3.BaseHTTPResponse:
    listed = {"CompleteMultipartUpload": {"Part": [{"ETag": etag, "PartNumber": number} for number, etag in parts]}}
    return ask("POST", f"/{key}?uploadId={upload}", json.dumps(listed).encode())


def code(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """The status and the code of an error, which is JSON with the keys that the contract names."""
    told: dict[str, Any] = answer.json()
    assert sorted(told) == ["Code", "Message", "RequestId"]
    return answer.status, told["Code"]


# Buckets


def test_buckets(server: Server, ask: Ask) -> None:
    """Buckets are made, asked for through GET, and deleted although they hold something."""
    assert code(ask("PUT", "")) == (409, "BucketAlreadyExists")
    assert ask("HEAD", "").status == 200
    listed = urllib3.request("GET", server.endpoint).json()
    assert [bucket["Name"] for bucket in listed["Buckets"]["Bucket"]] == [BUCKET[1:]]
    assert put(ask, "k", b"kept") == 200
    assert ask("DELETE", "").status == 204
    assert ask("HEAD", "").status == 404
    assert code(ask("GET", "/k")) == code(ask("DELETE", "")) == (404, "NoSuchBucket")


@pytest.mark.parametrize("name", ["ab", "a" * 64, "Upper", "dot.ted", "under_score"])
def test_bucket_names(server: Server, name: str) -> None:
    assert code(urllib3.request("PUT", f"{server.endpoint}/{name}")) == (400, "InvalidBucketName")


def test_health(server: Server) -> None:
    """A bucket cannot be called health, because its path is taken."""
    assert urllib3.request("GET", f"{server.endpoint}/health").json()["status"] == "healthy"
    assert urllib3.request("PUT", f"{server.endpoint}/health").status == 405


def test_trailing_slash(ask: Ask) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert ask(method, "/").status == 404


def test_missing_operations(ask: Ask) -> None:
    """To delete many is 405; to list parts is to get an object; whoever copies gets an empty object."""
    assert ask("POST", "?delete", b"<Delete/>").status == 405
    assert put(ask, "from", b"content") == 200
    assert ask("PUT", "/copy", **{"x-amz-copy-source": f"{BUCKET}/from"}).status == 200
    assert ask("GET", "/copy").data == b""
    assert code(ask("GET", f"/new?uploadId={begin(ask, 'new')}")) == (404, "NoSuchKey")
    assert "Contents" in ask("GET", "?uploads").json()


def test_everything_is_open(ask: Ask) -> None:
    """No signature is looked at."""
    assert ask("PUT", "/k", b"x", Authorization="AWS4-HMAC-SHA256 Credential=nobody").status == 200
    assert ask("GET", "/k?X-Amz-Signature=wrong").data == b"x"


# Objects


def test_object(ask: Ask) -> None:
    """PUT tells the MD5; HEAD and GET tell the size in its stead, and the type of the key's extension."""
    answer = ask("PUT", "/k.json", b"content", **{"Content-Type": "text/plain", "x-amz-meta-a": "b"})
    assert (answer.status, answer.headers["ETag"]) == (200, f'"{md5(b"content").hexdigest()}"')
    for method in ("GET", "HEAD"):
        answer = ask(method, "/k.json")
        assert (answer.headers["ETag"], answer.headers["Content-Length"]) == ('"7"', "7")
        assert answer.headers["Content-Type"] == "application/json"
        assert "x-amz-meta-a" not in answer.headers
    assert ask("GET", "/k.json").data == b"content"


def test_absent(ask: Ask) -> None:
    assert code(ask("GET", "/k")) == (404, "NoSuchKey")
    assert ask("HEAD", "/k").status == 404
    assert ask("DELETE", "/k").status == 204


def test_overwrite(server: Server, ask: Ask) -> None:
    """A second PUT is refused after it replaced the bytes; once deleted, a key is free."""
    assert put(ask, "k", b"one") == 200
    assert put(ask, "k", b"second") == 500
    assert ask("GET", "/k").data == b"second"
    assert server.bay.overwritten == ["drift-registry/k"]
    assert ask("DELETE", "/k").status == 204
    assert put(ask, "k", b"third") == 200


def test_keys_are_paths(ask: Ask) -> None:
    """A key cannot be the folder of another, in whichever order they come."""
    assert put(ask, "a", b"1") == 200
    assert put(ask, "a/b", b"2") == 500
    assert put(ask, "c/d", b"3") == 200
    assert put(ask, "c", b"4") == 500
    assert ask("GET", "/c").status == 404
    assert ask("GET", "/c%2Fd").data == b"3"


def test_keys_stay_in_the_folder(server: Server, ask: Ask) -> None:
    """The one thing that is not as in GhostBay."""
    target = f"{BUCKET}/..%2F..%2F..%2Foutside"
    with urllib3.HTTPConnectionPool("127.0.0.1", server.server_address[1], retries=False) as pool:
        assert pool.urlopen("PUT", target, b"x").status == 500
    assert not (server.bay.data.parent.parent / "outside").exists()
    assert ask("HEAD", "").status == 200


def test_range_from_0(ask: Ask) -> None:
    content = bytes(range(256)) * 100
    assert put(ask, "k", content) == 200
    answer = ask("GET", "/k", Range="bytes=0-")
    assert (answer.status, answer.data) == (200, content)


def test_range_counts_chunks(server: Server, ask: Ask) -> None:
    """The status is 200, the length that of the whole, and both ends count chunks of the stream."""
    content = b"".join(bytes([n]) * STREAM_CHUNK for n in range(5))
    assert put(ask, "k", content) == 200
    for wanted, begins in (("bytes=1-", 1), ("bytes=2-3", 2)):
        with urllib3.PoolManager(retries=False) as pool:
            answer = pool.request(
                "GET", f"{server.endpoint}{BUCKET}/k", headers={"Range": wanted}, preload_content=False
            )
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(content)))
            assert answer.read(STREAM_CHUNK) == bytes([begins]) * STREAM_CHUNK
            with pytest.raises(urllib3.exceptions.ProtocolError):
                answer.read()
    assert ask("GET", "/k", Range="bytes=99999999-").status == 500


def test_gzip_if_asked(ask: Ask) -> None:
    content = bytes(1000)
    assert put(ask, "k", content) == 200
    answer = ask("GET", "/k", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Content-Length" not in answer.headers
    assert answer.data == content
    with_none = ask("GET", "/k", **{"Accept-Encoding": "identity"})
    assert ("Content-Encoding" in with_none.headers, with_none.data) == (False, content)


def test_aws_chunked_is_not_decoded(ask: Ask) -> None:
    framed = b"3;chunk-signature=0\r\nabc\r\n0;chunk-signature=0\r\n\r\n"
    assert ask("PUT", "/k", framed, **{"Content-Encoding": "aws-chunked"}).status == 200
    assert ask("GET", "/k").data == framed


# Lists


def test_list(ask: Ask) -> None:
    assert put(ask, "one", b"1") == put(ask, "two", b"22") == 200
    listed = ask("GET", "?list-type=2").json()
    assert [(entry["Key"], entry["Size"]) for entry in listed["Contents"]] == [("one", 1), ("two", 2)]
    assert sorted(listed["Contents"][0]) == ["ETag", "Key", "LastModified", "Owner", "Size", "StorageClass"]
    assert (listed["IsTruncated"], listed["KeyCount"]) == (False, 2)


def test_list_is_cut_and_does_not_say_so(server: Server, ask: Ask) -> None:
    with server.bay._lock:
        server.bay._catalog.executemany(
            "INSERT INTO objects VALUES (?, ?, '', 0)", [("drift-registry", f"{n:05}") for n in range(1001)]
        )
    for query in ("", "&max-keys=5000", "&start-after=00500", "&continuation-token=x", "&delimiter=0"):
        listed = ask("GET", f"?list-type=2{query}").json()
        assert (len(listed["Contents"]), listed["IsTruncated"]) == (1000, False)
        assert listed["Contents"][0]["Key"] == "00000"
    assert len(ask("GET", "?max-keys=3").json()["Contents"]) == 3


def test_prefix_is_a_pattern(ask: Ask) -> None:
    """``_`` and ``%`` stand for others, and the case of letters does not matter."""
    for key in ("a_b", "aXb", "A_B", "zab"):
        assert put(ask, key, b"") == 200
    for prefix, found in (("a_", ["A_B", "aXb", "a_b"]), ("%25b", ["A_B", "aXb", "a_b", "zab"]), ("Z", ["zab"])):
        listed = ask("GET", f"?prefix={prefix}").json()
        assert [entry["Key"] for entry in listed["Contents"]] == found


# Multipart uploads


def test_multipart(server: Server, ask: Ask) -> None:
    """The parts that are listed are joined in order of their numbers; their ETags are not looked at."""
    upload = begin(ask, "k")
    for number in (7, 2, 3):
        assert put_part(ask, "k", upload, number, b"%d" % number).status == 200
    assert ask("GET", "/k").status == 404
    answer = complete(ask, "k", upload, (7, "wrong"), (2, '"too"'))
    assert sorted(answer.json()) == ["Bucket", "ETag", "Key", "Location"]
    assert answer.json()["ETag"] == f'"{md5(b"toowrong").hexdigest()}-2"'
    assert ask("GET", "/k").data == b"27"
    assert ask("HEAD", "/k").headers["ETag"] == '"2"'
    assert code(complete(ask, "k", upload, (7, ""))) == (400, "InvalidRequest")
    assert not server.bay.overwritten


def test_part_number_twice(server: Server, ask: Ask) -> None:
    """A second PUT of a part is refused after it replaced the bytes."""
    upload = begin(ask, "k")
    assert put_part(ask, "k", upload, 1, b"one").status == 200
    assert put_part(ask, "k", upload, 1, b"second").status == 500
    assert server.bay.overwritten == [f"{upload}/1"]
    assert complete(ask, "k", upload, (1, "")).status == 200
    assert ask("GET", "/k").data == b"second"


@pytest.mark.parametrize("number", [0, 10_001, "x"])
def test_part_numbers(ask: Ask, number: int | str) -> None:
    assert code(put_part(ask, "k", begin(ask, "k"), number, b"")) == (400, "InvalidRequest")


def test_complete_onto_a_key(ask: Ask) -> None:
    """To complete onto a key that is there replaces it, is refused, and the parts are gone."""
    assert put(ask, "k", b"one") == 200
    upload = begin(ask, "k")
    put_part(ask, "k", upload, 1, b"second")
    assert complete(ask, "k", upload, (1, "")).status == 500
    assert ask("GET", "/k").data == b"second"
    assert complete(ask, "k", upload, (1, "")).status == 500


def test_complete_wants_json(ask: Ask) -> None:
    upload = begin(ask, "k")
    put_part(ask, "k", upload, 1, b"one")
    answer = ask("POST", f"/k?uploadId={upload}", b"<CompleteMultipartUpload/>")
    assert code(answer) == (400, "InvalidRequest")
    assert complete(ask, "k", upload, (2, "")).status == 500
    assert complete(ask, "other", upload, (1, "")).status == 400
    assert complete(ask, "k", upload, (1, "")).status == 200


def test_abort(server: Server, ask: Ask) -> None:
    upload = begin(ask, "k")
    put_part(ask, "k", upload, 1, b"one")
    assert ask("DELETE", f"/k?uploadId={upload}").status == 204
    assert list(server.bay.temp.iterdir()) == []
    for answer in (
        ask("DELETE", f"/k?uploadId={upload}"),
        put_part(ask, "k", upload, 2, b""),
        complete(ask, "k", upload),
    ):
        assert code(answer) == (400, "InvalidRequest")


# The stand-in itself


def test_faults(server: Server, ask: Ask) -> None:
    """A request is refused before it is done, or its answer is lost afterwards."""
    server.bay.fault = lambda request: "refuse" if request.method == "PUT" else None
    assert put(ask, "k", b"content") == 500
    assert ask("HEAD", "/k").status == 404
    server.bay.fault = lambda request: "lose" if request.method == "PUT" else None
    with pytest.raises(urllib3.exceptions.ProtocolError):
        put(ask, "k", b"content")
    assert ask("GET", "/k").data == b"content"
    assert server.bay.count(f"^PUT {BUCKET}/k$") == 2
    server.bay.fault = lambda _: "full"
    assert put(ask, "l", b"x") == 507
    server.bay.fault = lambda _: "cut"
    with pytest.raises(urllib3.exceptions.ProtocolError):
        ask("GET", "/k")


def test_survives_kill_9(tmp_path: Path) -> None:
    """As a process, what it has answered is there when the next one starts on the folder."""
    port = free_port()
    command = [sys.executable, ghostbay_server.__file__, str(tmp_path), str(port)]
    upload = ""
    for run in range(2):
        with (
            subprocess.Popen(command) as process,
            urllib3.HTTPConnectionPool("127.0.0.1", port, retries=urllib3.Retry(50, backoff_factor=0.01)) as pool,
        ):
            if run == 0:
                assert pool.urlopen("PUT", BUCKET).status == 200
                assert pool.urlopen("PUT", f"{BUCKET}/k", b"kept").status == 200
                upload = pool.urlopen("POST", f"{BUCKET}/m?uploads").json()["UploadId"]
                assert pool.urlopen("PUT", f"{BUCKET}/m?uploadId={upload}&partNumber=1", b"part").status == 200
            else:
                assert pool.urlopen("GET", f"{BUCKET}/k").data == b"kept"
                listed = b'{"CompleteMultipartUpload": {"Part": [{"ETag": "", "PartNumber": 1}]}}'
                assert pool.urlopen("POST", f"{BUCKET}/m?uploadId={upload}", listed).status == 200
                assert pool.urlopen("GET", f"{BUCKET}/m").data == b"part"
            process.kill()
