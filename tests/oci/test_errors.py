"""What bad requests get: every error in its form, and never a 5xx."""

import json
import re
import socket
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from drift_core import __version__
from tests.oci.client import Registry, is_error_body, refused
from tests.oci.content import OCI_INDEX, Document, image, unique_blob, unique_index, unknown_digest
from tests.oci.wire import Answer, Wire, ask, is_over
from tests.server import Server

DIGEST = "sha256:" + "0" * 64


def code_of(answer: Answer) -> str:
    body = answer.json()
    is_error_body(body)
    return str(body["errors"][0]["code"])


# One of each.


def test_blob_unknown(registry: Registry, repository: str) -> None:
    detail = refused(registry.get(f"/v2/{repository}/blobs/{DIGEST}"), 404, "BLOB_UNKNOWN")
    assert detail == {"name": repository, "digest": DIGEST}


def test_blob_upload_unknown(registry: Registry, repository: str) -> None:
    detail = refused(registry.get(f"/v2/{repository}/blobs/uploads/abc"), 404, "BLOB_UPLOAD_UNKNOWN")
    assert detail == {"name": repository, "upload": "abc"}


def test_blob_upload_invalid(registry: Registry, repository: str) -> None:
    answer = registry.patch(registry.begin(repository), b"abc", content_range="7-9")
    assert refused(answer, 416, "BLOB_UPLOAD_INVALID") == {"received": 0}


def test_digest_invalid(registry: Registry, repository: str) -> None:
    refused(registry.get(f"/v2/{repository}/blobs/sha256:abc"), 400, "DIGEST_INVALID")


def test_size_invalid(registry: Registry, repository: str) -> None:
    answer = registry.patch(registry.begin(repository), b"abc", content_range="0-9")
    assert refused(answer, 400, "SIZE_INVALID") == {"contentRange": "0-9", "contentLength": 3}


def test_manifest_unknown(registry: Registry, repository: str) -> None:
    detail = refused(registry.get(f"/v2/{repository}/manifests/latest"), 404, "MANIFEST_UNKNOWN")
    assert detail == {"name": repository, "reference": "latest"}


def test_manifest_invalid(registry: Registry, repository: str) -> None:
    manifest = Document(b'{"schemaVersion": 2, "manifests": 1}', OCI_INDEX)
    assert refused(registry.put_manifest(repository, manifest), 400, "MANIFEST_INVALID") == {"path": "manifests"}


def test_manifest_blob_unknown(registry: Registry, repository: str) -> None:
    config = unique_blob()
    answer = registry.put_manifest(repository, image(config))
    assert refused(answer, 400, "MANIFEST_BLOB_UNKNOWN") == {"blobs": [config.digest], "manifests": []}


def test_name_invalid(registry: Registry) -> None:
    assert refused(registry.get("/v2/Upper/tags/list"), 400, "NAME_INVALID") == {"name": "Upper"}


def test_name_unknown(registry: Registry, repository: str) -> None:
    assert refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN") == {"name": repository}


def test_unsupported(registry: Registry) -> None:
    answer = registry.post("/v2/_catalog")
    refused(answer, 405, "UNSUPPORTED")
    assert answer.headers["allow"] == "GET, HEAD"


def test_denied(narrow: Registry, repository: str) -> None:
    narrow.push(repository, unique_index(), "v1")
    detail = refused(narrow.put_manifest(repository, unique_index(), "v1"), 403, "DENIED")
    assert detail == {"tag": "v1", "rule": "registry.immutable_tags: v*"}


# Names.


BAD_NAMES = [
    "Upper",
    "UPPER/lower",
    "a/B",
    "-a",
    "a-",
    ".a",
    "a.",
    "_a",
    "a_",
    "a..b",
    "a.-b",
    "a___b",
    "a/.b",
    "a/-b",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/./b",
    "%2e%2e",
    "%2e%2e/a",
    "a/%2e%2e/b",
    "%2E%2E%2F%2E%2E%2Fetc",
    "a%2fb",
    "a%2Fb",
    "%2fa",
    "a%5cb",
    "a%00b",
    "a%0ab",
    "a%20b",
    "a%25",
    "a%",
    "a%zz",
    "%ff",
    "a%ff",
    "%c3%a4",
    "%e2%84%aa",
    "a//b",
    "a///b",
    "/a",
    "a/",
    "",
    "a:5000/b",
    "a@b",
    "a~b",
    "a+b",
    "a;b",
    "$(id)",
    "'",
    "x" * 256,
    "/".join(["x"] * 129),
    "x" * 5000,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_name(server: Server, name: str) -> None:
    """On every endpoint with a name, sent as it is: most libraries would mend these before they send them."""
    requests = [
        ("GET", "tags/list"),
        ("GET", "manifests/latest"),
        ("HEAD", f"manifests/{DIGEST}"),
        ("PUT", "manifests/latest"),
        ("DELETE", "manifests/latest"),
        ("GET", f"blobs/{DIGEST}"),
        ("DELETE", f"blobs/{DIGEST}"),
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/0"),
        ("GET", f"referrers/{DIGEST}"),
        ("GET", "_oci/ext/discover"),
    ]
    if name == "":
        requests.pop()  # without a name it is the one for the whole registry
    for method, rest in requests:
        answer = ask(server, method, f"/v2/{name}/{rest}")
        assert answer.status == 400, (method, rest, answer)
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
        if method != "HEAD":
            assert code_of(answer) == "NAME_INVALID"


@pytest.mark.parametrize("target", [b"/v2/\xff/tags/list", b"/v2/\xc3\xa4/tags/list", b"/v2/a\x7f/tags/list"])
def test_bytes_that_a_path_may_not_have(server: Server, target: bytes) -> None:
    """Whoever finds them, the transport or the registry, answers 400."""
    assert ask(server, "GET", target).status == 400


@pytest.mark.parametrize("source", ["Upper", "..", "../../etc/passwd", "", "a b", "x" * 256, "\u00e4"])
def test_bad_name_as_parameter(registry: Registry, repository: str, source: str) -> None:
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"mount": DIGEST, "from": source})
    refused(answer, 400, "NAME_INVALID")


def test_nothing_is_written_outside_the_data_folder(server: Server) -> None:
    """Names, digests and uploads that would be paths elsewhere leave no file anywhere near."""
    before = {path for path in server.folder.parent.rglob("*") if "data" not in path.parts}
    escape = "%2e%2e%2f" * 6 + "tmp%2fescaped"
    for method, target in (
        ("POST", f"/v2/{escape}/blobs/uploads/?digest={DIGEST}"),
        ("PUT", f"/v2/{escape}/manifests/latest"),
        ("PUT", f"/v2/a/manifests/{escape}"),
        ("PUT", f"/v2/a/manifests/sha256:{escape}"),
        ("POST", f"/v2/a/blobs/uploads/?digest=sha256:{escape}"),
        ("PATCH", f"/v2/a/blobs/uploads/{escape}"),
        ("PUT", f"/v2/a/blobs/uploads/{escape}?digest={DIGEST}"),
        ("GET", f"/v2/a/blobs/{escape}"),
        ("GET", f"/v2/a/blobs/sha256:{escape}"),
    ):
        assert ask(server, method, target).status in {400, 404}
    assert {path for path in server.folder.parent.rglob("*") if "data" not in path.parts} == before
    assert not Path("/tmp/escaped").exists()


# Tags and digests.


@pytest.mark.parametrize(
    "tag",
    [
        "-a",
        ".a",
        "..",
        "%2e%2e",
        "a%2fb",
        "a%20b",
        "a%00",
        "%ff",
        "%c3%a4",
        "a+b",
        "a@b",
        "a%3fb",
        "x" * 129,
        "x" * 3000,
        "latest~",
    ],
)
def test_bad_tag(server: Server, repository: str, tag: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = ask(server, method, f"/v2/{repository}/manifests/{tag}")
        assert answer.status == 400
        assert code_of(answer) == "MANIFEST_INVALID"
    assert ask(server, "HEAD", f"/v2/{repository}/manifests/{tag}").status == 400


BAD_DIGESTS = {
    "sha256:": "not a digest",
    "sha256:abc": "64",
    "sha256:" + "0" * 63: "64",
    "sha256:" + "0" * 65: "64",
    "sha256:" + "A" * 64: "lower-case",
    "sha256:" + "g" * 64: "hex",
    "sha256:" + "0" * 64 + "%0a": "not a digest",
    "sha384:" + "0" * 64: "96",
    "sha512:" + "0" * 64: "128",
    "md5:" + "0" * 32: "algorithm",
    "sha1:" + "0" * 40: "algorithm",
    "blake3:" + "0" * 64: "algorithm",
    "sha256.b64:AAAA": "algorithm",
    "SHA256:" + "0" * 64: "not a digest",
    ":" + "0" * 64: "not a digest",
    "sha256%3a" + "0" * 63: "64",
    "sha256:..%2f..%2fetc%2fpasswd": "not a digest",
    "sha256:" + "0" * 5000: "64",
    "sha256:%ff": "not a digest",
}


@pytest.mark.parametrize("digest", BAD_DIGESTS)
def test_bad_digest(server: Server, repository: str, digest: str) -> None:
    for method, rest in (
        ("GET", f"blobs/{digest}"),
        ("DELETE", f"blobs/{digest}"),
        ("POST", f"blobs/uploads/?digest={digest}"),
        ("POST", f"blobs/uploads/?mount={digest}"),
        ("GET", f"manifests/{digest}"),
        ("PUT", f"manifests/{digest}"),
        ("PUT", f"manifests/latest?digest={digest}"),
        ("DELETE", f"manifests/{digest}"),
        ("GET", f"referrers/{digest}"),
    ):
        if "%ff" in digest and "?" in rest:
            continue  # a query that is not UTF-8 cannot be read at all
        answer = ask(server, method, f"/v2/{repository}/{rest}")
        assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID"), (method, rest)
        assert BAD_DIGESTS[digest] in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("reference", ["latest", "abc", "%20"])
def test_blob_by_something_that_is_no_digest(server: Server, repository: str, reference: str) -> None:
    answer = ask(server, "GET", f"/v2/{repository}/blobs/{reference}")
    assert (answer.status, code_of(answer)) == (400, "DIGEST_INVALID")


def test_encoded_colon_is_a_colon(registry: Registry, server: Server, repository: str) -> None:
    blob = registry.push_blob(repository, unique_blob())
    answer = ask(server, "GET", f"/v2/{repository}/blobs/{blob.digest.replace(':', '%3A')}")
    assert (answer.status, answer.body) == (200, blob.content)


# Methods, endpoints, queries.


@pytest.mark.parametrize(
    ("rest", "allowed"),
    [
        ("", "GET, HEAD"),
        ("_catalog", "GET, HEAD"),
        ("_oci/ext/discover", "GET, HEAD"),
        ("a/tags/list", "GET, HEAD"),
        (f"a/referrers/{DIGEST}", "GET, HEAD"),
        ("a/manifests/latest", "DELETE, GET, HEAD, PUT"),
        (f"a/blobs/{DIGEST}", "DELETE, GET, HEAD"),
        ("a/blobs/uploads/", "POST"),
        ("a/blobs/uploads/0", "DELETE, GET, HEAD, PATCH, PUT"),
    ],
)
def test_methods_that_are_not_allowed(server: Server, rest: str, allowed: str) -> None:
    methods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - set(
        allowed.split(", ")
    )
    for method in methods:
        answer = ask(server, method, f"/v2/{rest}")
        assert answer.status == 405, method
        assert ", ".join(sorted(answer.headers["allow"].split(", "))) == allowed
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
        if method != "HEAD":
            assert code_of(answer) == "UNSUPPORTED"


@pytest.mark.parametrize(
    "target",
    [
        "/v2/a",
        "/v2/a/b/c",
        "/v2/a/tags",
        "/v2/a/tags/",
        "/v2/a/tags/list/",
        "/v2/a/tags/other",
        "/v2/a/manifests",
        "/v2/a/blobs",
        "/v2/a/blobs/uploads/x/y",
        "/v2/_catalog/",
        "/v2/_catalog/x",
        "/v2/_oci",
        "/v2/_oci/ext",
        "/v2/_oci/ext/discover/",
        "/v2/_other/x",
        "/v2//",
    ],
)
def test_unknown_endpoint_below_v2(server: Server, target: str) -> None:
    answer = ask(server, "GET", target)
    assert (answer.status, code_of(answer)) == (404, "UNSUPPORTED")
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    assert answer.json()["errors"][0]["detail"] == {"path": target}


@pytest.mark.parametrize(
    "target", ["/", "/v1", "/v2x", "/v2x/tags/list", "/V2/", "/v3/", "/healthx", "/health/x", "//v2/"]
)
def test_unknown_endpoint_elsewhere(server: Server, target: str) -> None:
    answer = ask(server, "GET", target)
    assert (answer.status, code_of(answer)) == (404, "UNSUPPORTED")


@pytest.mark.parametrize("query", ["n=%ff", "%ff=1", "n=%"])
def test_query_that_cannot_be_read(server: Server, query: str) -> None:
    answer = ask(server, "GET", f"/v2/_catalog?{query}")
    assert (answer.status, code_of(answer)) == (400, "UNSUPPORTED")


def test_query_with_too_many_parameters(server: Server) -> None:
    answer = ask(server, "GET", "/v2/_catalog?" + "&".join(f"a{number}=1" for number in range(1001)))
    assert (answer.status, code_of(answer)) == (414, "UNSUPPORTED")


# What every answer has.


def test_base(registry: Registry, server: Server) -> None:
    answer = registry.get("/v2/")
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    assert registry.head("/v2/").status_code == 200
    assert ask(server, "GET", "/v2").status == 200
    assert ask(server, "GET", "/v2/?x=y").status == 200


def test_version_of_the_api_everywhere(registry: Registry, repository: str) -> None:
    """`Registry` asserts it on each answer; here are those that it can miss: success, not modified, no content."""
    blob = registry.push_blob(repository, unique_blob())
    location = registry.begin(repository)
    path = f"/v2/{repository}/blobs/{blob.digest}"
    answers = [
        registry.get(path),
        registry.get(path, range="bytes=0-1"),
        registry.get(path, range="bytes=1000-"),
        registry.get(path, if_none_match="*"),
        registry.get(location),
        registry.delete(location),
        registry.delete(path),
    ]
    assert [answer.status_code for answer in answers] == [200, 206, 416, 304, 204, 204, 202]
    for answer in answers:
        assert answer.headers.get_list("docker-distribution-api-version") == ["registry/2.0"]


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog/x", "/healthz", "/unknown"])
def test_request_id(registry: Registry, path: str) -> None:
    kept = registry.get(path, x_request_id="abc-DEF_1.2")
    assert kept.headers.get_list("x-request-id") == ["abc-DEF_1.2"]
    made = {registry.get(path).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("sent", ["", "a b", "a" * 65, "a\tb", '"', "\xe4", "a,b"])
def test_request_id_that_is_not_plain_is_replaced(registry: Registry, sent: str) -> None:
    answer = registry.http.get("/v2/", headers=[(b"x-request-id", sent.encode("latin-1"))])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_request_id_is_in_the_log(registry: Registry, server: Server, repository: str) -> None:
    request_id = uuid4().hex
    registry.get(f"/v2/{repository}/tags/list", x_request_id=request_id)
    is_over(server, request_id)
    (line,) = [line for line in server.log.read_text().splitlines() if request_id in line]
    assert repository in line
    assert "404" in line


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/version"])
def test_status(registry: Registry, path: str) -> None:
    answer = registry.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    expected = {
        "/health": {"status": "ok"},
        "/healthz": {"status": "ok"},
        "/readyz": {"status": "ready"},
        "/version": {"name": "drift", "version": __version__, "api_version": "registry/2.0"},
    }
    assert answer.json() == expected[path]


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/version"])
def test_status_by_head(server: Server, path: str) -> None:
    """RFC 9110 section 9.1: whatever has GET has HEAD, which is what many load balancers ask."""
    answer = ask(server, "HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/version"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PROPFIND"])
def test_status_by_another_method(server: Server, path: str, method: str) -> None:
    """RFC 9110 section 15.5.6: a 405 must say what is allowed."""
    answer = ask(server, method, path)
    assert (answer.status, code_of(answer)) == (405, "UNSUPPORTED")
    assert "GET" in answer.headers["allow"]


# Too much of everything.


def answers_or_hangs_up(server: Server, request: bytes, statuses: set[int]) -> None:
    """Asserts that an oversized request gets one of these answers or a closed connection, and harms nobody."""
    with Wire(server) as wire:
        try:
            wire.send(request)
            status = wire.answer().status
        except (OSError, HTTPException):
            status = None
    assert status is None or status in statuses
    assert ask(server, "GET", "/v2/").status == 200


@pytest.mark.parametrize("size", [10_000, 60_000, 100_000, 2_000_000])
def test_long_uri(server: Server, size: int) -> None:
    target = b"/v2/" + b"a/" * (size // 2) + b"tags/list"
    request = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    answers_or_hangs_up(server, request, {400, 404, 414, 431})


@pytest.mark.parametrize("size", [10_000, 100_000, 1_000_000, 20_000_000])
def test_big_header(server: Server, size: int) -> None:
    request = b"GET /v2/_catalog/x HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * size + b"\r\n\r\n"
    answers_or_hangs_up(server, request, {400, 404, 413, 431})


def test_many_headers(server: Server) -> None:
    lines = b"".join(b"x-%d: 1\r\n" % number for number in range(10_000))
    answers_or_hangs_up(server, b"GET /v2/_catalog/x HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n", {400, 404, 413, 431})


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /v2/ HTTP/1.1\r\nhost: x\r\n bad: fold\r\n\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x00" * 1000,
    ],
    ids=repr,
)
def test_not_http(server: Server, request_bytes: bytes) -> None:
    with Wire(server) as wire:
        received = b""
        wire.send(request_bytes)
        with suppress(OSError):  # the server may have hung up already
            wire.socket.shutdown(socket.SHUT_WR)
            received = wire.socket.recv(65536)
    assert b" 5" not in received[:12]
    assert ask(server, "GET", "/v2/").status == 200


@pytest.mark.parametrize("start", ["OPTIONS * HTTP/1.1", "CONNECT example.org:443 HTTP/1.1", "PRI * HTTP/1.1"])
def test_targets_that_are_no_path(server: Server, start: str) -> None:
    with Wire(server) as wire:
        wire.send(f"{start}\r\nhost: {server.host}\r\n\r\n".encode())
        assert 400 <= wire.answer().status < 500


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_target_in_absolute_form(server: Server, version: str) -> None:
    """RFC 9112 section 3.2.2: a server must accept what is meant for a proxy."""
    with Wire(server) as wire:
        wire.send(f"GET {server.url}/v2/ HTTP/{version}\r\nhost: {server.host}\r\n\r\n".encode())
        answer = wire.answer()
    assert (answer.status, answer.body) == (200, b"{}")


def test_if_none_match_of_a_thousand_tags(registry: Registry, repository: str) -> None:
    blob = registry.push_blob(repository, unique_blob())
    tags = ", ".join(f'"{number}"' for number in range(1000))
    answer = registry.get(f"/v2/{repository}/blobs/{blob.digest}", if_none_match=tags)
    assert answer.content == blob.content


def test_body_where_none_belongs(registry: Registry, repository: str) -> None:
    """It is neither used nor taken for the next request."""
    blob = registry.push_blob(repository, unique_blob())
    path = f"/v2/{repository}/blobs/{blob.digest}"
    for method, status in (("GET", 200), ("HEAD", 200), ("DELETE", 202)):
        assert registry.request(method, path, None, b"GET /v2/ HTTP/1.1\r\n\r\n" * 10).status_code == status
    assert registry.get("/v2/").json() == {}


def test_detail_never_carries_what_is_huge(registry: Registry, repository: str) -> None:
    long = "x" * 6000
    answers: list[httpx.Response] = [
        registry.get(f"/v2/{long}/tags/list"),
        registry.get(f"/v2/{repository}/manifests/{long}"),
        registry.get(f"/v2/{repository}/blobs/sha256:{long}"),
        registry.get(f"/v2/{repository}/blobs/uploads/{long}"),
        registry.get(f"/v2/{repository}/{long}"),
        registry.get(f"/v2/{repository}/tags/list", {"n": long}),
        registry.get(f"/v2/{repository}/tags/list", {"last": long}),
        registry.patch(registry.begin(repository), b"a", content_range=long),
        registry.post(f"/v2/{repository}/blobs/uploads/", {"digest-algorithm": long}),
        registry.post(f"/v2/{repository}/blobs/uploads/", {"mount": unknown_digest(), "from": long}),
        registry.put(f"/v2/{repository}/manifests/latest", None, json.dumps({long: 1, "schemaVersion": 2}).encode()),
        registry.put_manifest(repository, unique_index(), "latest", content_type=long),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 2000, answer.text[:200]
