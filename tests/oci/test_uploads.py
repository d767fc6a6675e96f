"""Uploads: in chunks, out of order, cut short and resumed, from many connections at once, too large."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import httpx
import pytest

from tests.oci.client import Query, Registry, location_of, refused
from tests.oci.conftest import MAX_BLOB
from tests.oci.content import OCTETS, Blob, digest_of, unique_blob, unknown_digest
from tests.oci.wire import Wire, ask, is_over
from tests.server import Server


def pieces(blob: Blob, size: int) -> Iterator[tuple[int, bytes]]:
    """Yields the bytes of a blob in chunks, each with its offset."""
    for start in range(0, blob.size, size):
        yield start, blob.content[start : start + size]


def span(start: int, content: bytes) -> str:
    """Returns the Content-Range of a chunk."""
    return f"{start}-{start + len(content) - 1}"


def append(registry: Registry, location: str, start: int, content: bytes) -> httpx.Response:
    """Sends a chunk with its Content-Range."""
    return registry.patch(location, content, content_range=span(start, content), content_type=OCTETS)


def test_begin(registry: Registry, repository: str) -> None:
    answer = registry.post(f"/v2/{repository}/blobs/uploads/")
    assert answer.status_code == 202
    upload = answer.headers["docker-upload-uuid"]
    assert location_of(answer).startswith(f"/v2/{repository}/blobs/uploads/{upload}")
    assert answer.headers["range"] == "0-0"
    assert registry.post(f"/v2/{repository}/blobs/uploads/").headers["docker-upload-uuid"] != upload


@pytest.mark.parametrize("form", ["{start}-{last}", "bytes {start}-{last}/{size}", "bytes {start}-{last}/*"])
def test_chunks_with_content_range(registry: Registry, repository: str, form: str) -> None:
    blob = unique_blob(1000)
    location = registry.begin(repository)
    for start, content in pieces(blob, 300):
        last = start + len(content) - 1
        answer = registry.patch(location, content, content_range=form.format(start=start, last=last, size=blob.size))
        assert answer.status_code == 202
        assert answer.headers["range"] == f"0-{last}"
        assert answer.headers["docker-upload-uuid"] in answer.headers["location"]
        location = location_of(answer)
    answer = registry.put(location, {"digest": blob.digest})
    assert answer.status_code == 201
    assert registry.get(location_of(answer)).content == blob.content


def test_chunks_without_content_range(registry: Registry, repository: str) -> None:
    blob = unique_blob(1000)
    location = registry.begin(repository)
    for start, content in pieces(blob, 300):
        answer = registry.patch(location, content)
        assert answer.headers["range"] == f"0-{start + len(content) - 1}"
    assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_streamed_body_without_a_length(registry: Registry, repository: str) -> None:
    blob = unique_blob(3_000_001)
    location = registry.begin(repository)
    answer = registry.patch(location, (content for _, content in pieces(blob, 70_000)))
    assert answer.status_code == 202
    assert answer.headers["range"] == f"0-{blob.size - 1}"
    assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_many_tiny_chunks(registry: Registry, repository: str) -> None:
    blob = unique_blob(60)
    location = registry.begin(repository)
    for start, content in pieces(blob, 1):
        assert append(registry, location, start, content).status_code == 202
    assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_empty_chunk_changes_nothing(registry: Registry, repository: str) -> None:
    blob = unique_blob(100)
    location = registry.begin(repository)
    assert registry.patch(location, b"").headers["range"] == "0-0"
    append(registry, location, 0, blob.content)
    answer = registry.patch(location, b"")
    assert (answer.status_code, answer.headers["range"]) == (202, "0-99")
    assert registry.put(location, {"digest": blob.digest}).status_code == 201


def test_status(registry: Registry, repository: str) -> None:
    location = registry.begin(repository)
    assert registry.get(location).headers["range"] == "0-0"
    append(registry, location, 0, b"a" * 50)
    answer = registry.get(location)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["range"] == "0-49"
    assert location_of(answer).startswith(f"/v2/{repository}/blobs/uploads/{answer.headers['docker-upload-uuid']}")


def test_cancel(registry: Registry, repository: str) -> None:
    location = registry.begin(repository)
    append(registry, location, 0, b"abc")
    assert registry.delete(location).status_code == 204
    is_gone(registry, location)


def is_gone(registry: Registry, location: str) -> None:
    """Asserts that nothing can be done with an upload."""
    refused(registry.get(location), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.patch(location, b"def"), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.put(location, {"digest": digest_of(b"abc")}), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.put(location, {"digest": digest_of(b"abc")}, b"abc"), 404, "BLOB_UPLOAD_UNKNOWN")
    refused(registry.delete(location), 404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("start", [0, 50, 99, 101, 200, (1 << 63) - 1, 1 << 64])
def test_chunk_at_another_place(registry: Registry, repository: str, start: int) -> None:
    """A gap, an overlap or a repetition is refused, says where to go on, and harms nothing."""
    blob = unique_blob(150)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content[:100])
    answer = append(registry, location, start, b"x" * 50)
    assert refused(answer, 416, "BLOB_UPLOAD_INVALID")["received"] == 100
    assert answer.headers["range"] == "0-99"
    assert registry.received(location_of(answer)) == 100
    assert append(registry, location_of(answer), 100, blob.content[100:]).status_code == 202
    assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_first_chunk_not_at_the_beginning(registry: Registry, repository: str) -> None:
    location = registry.begin(repository)
    answer = append(registry, location, 1, b"abc")
    assert refused(answer, 416, "BLOB_UPLOAD_INVALID")["received"] == 0
    assert answer.headers["range"] == "0-0"
    assert append(registry, location, 0, b"abc").status_code == 202


@pytest.mark.parametrize("content_range", ["0-9", "0-3", "0-5", "5-0", "0-9223372036854775808"])
def test_length_that_is_not_the_ranges(registry: Registry, repository: str, content_range: str) -> None:
    location = registry.begin(repository)
    answer = registry.patch(location, b"abcde", content_range=content_range)
    assert refused(answer, 400, "SIZE_INVALID") == {"contentRange": content_range, "contentLength": 5}
    answer = registry.put(location, {"digest": digest_of(b"abcde")}, b"abcde", content_range=content_range)
    refused(answer, 400, "SIZE_INVALID")
    assert append(registry, location, 0, b"abcde").headers["range"] == "0-4"


@pytest.mark.parametrize("content_range", ["0-9", "0-3"])
def test_streamed_length_that_is_not_the_ranges(registry: Registry, repository: str, content_range: str) -> None:
    """Without a Content-Length the difference shows only at the end; an answer 202 would say that all is well."""
    location = registry.begin(repository)
    answer = registry.patch(location, iter([b"abcde"]), content_range=content_range)
    refused(answer, 400, "SIZE_INVALID")
    assert registry.get(location).status_code == 204


@pytest.mark.parametrize(
    "content_range",
    ["", "-", "0-", "-5", "a-b", "0-4-9", "0x0-0x4", "bytes=0-4", "bytes 0-4/x", "+0-4", "0 - 4", "0-4,6-7"],
)
def test_content_range_that_cannot_be_read(registry: Registry, repository: str, content_range: str) -> None:
    location = registry.begin(repository)
    answer = registry.patch(location, b"abcde", content_range=content_range)
    assert answer.status_code in {400, 416}
    assert refused(answer, answer.status_code, "BLOB_UPLOAD_INVALID")["contentRange"] == content_range
    assert append(registry, location, 0, b"abcde").headers["range"] == "0-4"


def test_content_length_that_is_no_number(server: Server, registry: Registry, repository: str) -> None:
    """Whoever finds it, the transport or the registry, answers 400; two lengths would be a smuggled request."""
    location = registry.begin(repository)
    for lines in ("content-length: x", "content-length: -1", "content-length: 5\r\ncontent-length: 6"):
        with Wire(server) as wire:
            wire.send(f"PATCH {location} HTTP/1.1\r\nhost: {server.host}\r\n{lines}\r\n\r\nabcde".encode())
            assert wire.answer().status == 400
    assert registry.get(location).headers["range"] == "0-0"


@pytest.mark.parametrize("ranged", [True, False], ids=["with Content-Range", "without Content-Range"])
def test_last_chunk_by_put(registry: Registry, repository: str, ranged: bool) -> None:
    blob = unique_blob(100)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content[:60])
    headers = {"content_range": "60-99"} if ranged else {}
    answer = registry.put(location, {"digest": blob.digest}, blob.content[60:], **headers)
    assert answer.status_code == 201
    assert registry.get(location_of(answer)).content == blob.content


def test_last_chunk_by_put_without_a_length(registry: Registry, repository: str) -> None:
    blob = unique_blob(200_000)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content[:60])
    answer = registry.request("PUT", location, {"digest": blob.digest}, iter([blob.content[60:]]))
    assert answer.status_code == 201
    assert registry.get(location_of(answer)).content == blob.content


@pytest.mark.parametrize("start", [0, 59, 61, 1000])
def test_last_chunk_out_of_order(registry: Registry, repository: str, start: int) -> None:
    blob = unique_blob(100)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content[:60])
    rest = blob.content[60:]
    answer = registry.put(location, {"digest": blob.digest}, rest, content_range=span(start, rest))
    refused(answer, 416, "BLOB_UPLOAD_INVALID")
    assert answer.headers["range"] == "0-59"
    assert location_of(answer).startswith(location)
    answer = registry.put(location, {"digest": blob.digest}, rest, content_range="60-99")
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "query",
    [{}, {"digest": ""}, {"digest": "sha256:abc"}, {"digest": "md5:" + "0" * 32}, {"digest": "latest"}],
    ids=["none", "empty", "short", "unknown algorithm", "no digest"],
)
def test_put_without_a_usable_digest(registry: Registry, repository: str, query: Query) -> None:
    location = registry.begin(repository)
    append(registry, location, 0, b"abc")
    refused(registry.put(location, query, b"def"), 400, "DIGEST_INVALID")
    assert registry.received(location) == 3
    assert registry.put(location, {"digest": digest_of(b"abc")}).status_code == 201


def test_wrong_digest_keeps_the_upload(registry: Registry, repository: str) -> None:
    blob, claimed = unique_blob(100), unknown_digest()
    location = registry.begin(repository)
    append(registry, location, 0, blob.content)
    assert refused(registry.put(location, {"digest": claimed}), 400, "DIGEST_INVALID")["digest"] == claimed
    for digest in (claimed, blob.digest):
        assert registry.head(f"/v2/{repository}/blobs/{digest}").status_code == 404
    assert registry.received(location) == 100
    assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_wrong_digest_then_more_bytes(registry: Registry, repository: str) -> None:
    """A commit that came too early costs nothing."""
    blob = unique_blob(100)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content[:50])
    refused(registry.put(location, {"digest": blob.digest}), 400, "DIGEST_INVALID")
    append(registry, location, 50, blob.content[50:])
    assert registry.put(location, {"digest": blob.digest}).status_code == 201


def test_committed_upload_is_gone(registry: Registry, repository: str) -> None:
    location = registry.begin(repository)
    assert registry.put(location, {"digest": digest_of(b"abc")}, b"abc").status_code == 201
    is_gone(registry, location)


def test_upload_is_not_a_blob_before_its_commit(registry: Registry, repository: str) -> None:
    blob = unique_blob(100)
    location = registry.begin(repository)
    append(registry, location, 0, blob.content)
    assert registry.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 404
    refused(registry.get(f"/v2/{repository}/tags/list"), 404, "NAME_UNKNOWN")


def test_upload_of_another_repository_is_unknown(registry: Registry, repository: str, other: str) -> None:
    location = registry.begin(repository)
    append(registry, location, 0, b"abc")
    registry.push_blob(other, unique_blob())
    is_gone(registry, location.replace(f"/v2/{repository}/", f"/v2/{other}/"))
    assert registry.received(location) == 3
    assert registry.put(location, {"digest": digest_of(b"abc")}).status_code == 201


@pytest.mark.parametrize(
    "upload",
    [
        "0c73fa1aa5404e92b097a91ed75e3df5",
        "aa2195a7-c6da-44fd-9391-d889ba3a47ef",
        "x",
        "0",
        "x" * 2000,
        "%00",
        "%2e%2e",
        "..%2f..%2fdrift.db",
        "%ff",
        "a b",
        "%F0%9F%90%B3",
    ],
)
def test_unknown_upload(registry: Registry, server: Server, repository: str, upload: str) -> None:
    registry.push_blob(repository, unique_blob())
    target = f"/v2/{repository}/blobs/uploads/{upload.replace(' ', '%20')}"
    for method in ("GET", "PATCH", "DELETE"):
        answer = ask(server, method, target)
        assert answer.status == 404
        assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"
    answer = ask(server, "PUT", f"{target}?digest={digest_of(b'')}")
    assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"


@pytest.mark.parametrize("announced", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("committed", ["sha256", "sha384", "sha512"])
def test_digest_algorithm(registry: Registry, repository: str, announced: str, committed: str) -> None:
    """The parameter is a hint: another digest at the end costs time, and is right."""
    blob = unique_blob(500)
    digest = digest_of(blob.content, committed)
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"digest-algorithm": announced})
    assert answer.status_code == 202
    location = location_of(answer)
    append(registry, location, 0, blob.content[:400])
    append(registry, location, 400, blob.content[400:])
    answer = registry.put(location, {"digest": digest})
    assert answer.status_code == 201
    assert answer.headers["docker-content-digest"] == digest
    assert registry.get(location_of(answer)).content == blob.content


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "SHA256", "sha256:", "blake3", "../x"])
def test_unknown_digest_algorithm(registry: Registry, repository: str, algorithm: str) -> None:
    answer = registry.post(f"/v2/{repository}/blobs/uploads/", {"digest-algorithm": algorithm})
    assert refused(answer, 400, "DIGEST_INVALID")["supported"] == ["sha256", "sha384", "sha512"]


def test_two_uploads_of_one_content(registry: Registry, repository: str) -> None:
    blob = unique_blob(100)
    first, second = registry.begin(repository), registry.begin(repository)
    append(registry, first, 0, blob.content[:50])
    append(registry, second, 0, blob.content)
    append(registry, first, 50, blob.content[50:])
    for location in (first, second):
        assert registry.put(location, {"digest": blob.digest}).status_code == 201
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_each_request_to_any_worker(server: Server, anywhere: Registry, repository: str) -> None:
    assert len(server.workers()) == 2
    blob = unique_blob(24_000)
    location = anywhere.begin(repository)
    for start, content in pieces(blob, 1000):
        answer = append(anywhere, location, start, content)
        assert (answer.status_code, answer.headers["range"]) == (202, f"0-{start + len(content) - 1}")
        assert anywhere.received(location) == start + len(content)
    assert anywhere.put(location, {"digest": blob.digest}).status_code == 201
    for _ in range(8):
        assert anywhere.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content
        refused(anywhere.get(location), 404, "BLOB_UPLOAD_UNKNOWN")


class CutConnection:
    """Sends the beginning of a body, breaks the connection, and waits until the server has noticed."""

    def __init__(self, server: Server, location: str, *, method: str = "PATCH", patient: bool = True) -> None:
        self.server = server
        self.location = location
        self.method = method
        self.patient = patient
        self.request_id = uuid4().hex

    def closed(self, content: bytes, announced: int, **headers: str) -> None:
        """The client ends the connection in an orderly way: everything that was sent arrives."""
        with Wire(self.server) as wire:
            wire.begin(self.method, self.location, content_length=announced, x_request_id=self.request_id, **headers)
            wire.send(content)
        self._wait()

    def closed_while_chunked(self, content: bytes) -> None:
        """The same without a length: only the last, empty chunk is missing."""
        with Wire(self.server) as wire:
            wire.begin(self.method, self.location, transfer_encoding="chunked", x_request_id=self.request_id)
            wire.send_chunk(content)
        self._wait()

    def reset(self, content: bytes, announced: int) -> None:
        """The connection dies; how much of what was sent is read, nobody knows."""
        with Wire(self.server) as wire:
            wire.begin(self.method, self.location, content_length=announced, x_request_id=self.request_id)
            wire.send(content)
            wire.reset()
        self._wait()

    def _wait(self) -> None:
        if self.patient:
            is_over(self.server, self.request_id)


def goes_on(registry: Registry, repository: str, location: str, blob: Blob, held: int) -> None:
    """Asserts that an upload which holds the first bytes of a blob can be completed."""
    answer = append(registry, location, held, blob.content[held:])
    assert answer.status_code == 202, answer.text
    answer = registry.put(location_of(answer), {"digest": blob.digest})
    assert answer.status_code == 201, answer.text
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


@pytest.mark.parametrize("sent", [1000, (1 << 20) + 1, 2_500_000])
@pytest.mark.parametrize("form", ["length", "Content-Range", "chunked"])
def test_resume_after_a_cut(server: Server, anywhere: Registry, repository: str, sent: int, form: str) -> None:
    """The state of the upload says what arrived, and the client goes on from there."""
    blob = unique_blob(3_000_000)
    location = anywhere.begin(repository)
    cut = CutConnection(server, location)
    if form == "chunked":
        cut.closed_while_chunked(blob.content[:sent])
    elif form == "Content-Range":
        cut.closed(blob.content[:sent], blob.size, content_range=span(0, blob.content))
    else:
        cut.closed(blob.content[:sent], blob.size)
    assert anywhere.received(location) == sent
    goes_on(anywhere, repository, location, blob, sent)


def test_resume_at_once(server: Server, anywhere: Registry, repository: str) -> None:
    """A client that does not wait until the server has noticed gets there too, by doing what the answers say."""
    blob = unique_blob(3_000_000)
    location = anywhere.begin(repository)
    CutConnection(server, location, patient=False).closed(blob.content[:2_000_000], blob.size)
    answer = anywhere.get(location)
    for _ in range(200):
        held = int(answer.headers["range"].removeprefix("0-"))
        held += held > 0  # nothing at all is 0-0 as well
        answer = append(anywhere, location, held, blob.content[held:])
        if answer.status_code == 202:
            break
        assert answer.status_code in {409, 416}
        answer = answer if answer.status_code == 416 else anywhere.get(location)
    assert anywhere.put(location, {"digest": blob.digest}).status_code == 201
    assert anywhere.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_resume_after_a_cut_in_the_second_chunk(server: Server, anywhere: Registry, repository: str) -> None:
    blob = unique_blob(500_000)
    location = anywhere.begin(repository)
    append(anywhere, location, 0, blob.content[:200_000])
    CutConnection(server, location).closed(blob.content[200_000:300_000], 300_000)
    assert anywhere.received(location) == 300_000
    goes_on(anywhere, repository, location, blob, 300_000)


def test_resume_after_a_reset(server: Server, anywhere: Registry, repository: str) -> None:
    blob = unique_blob(3_000_000)
    location = anywhere.begin(repository)
    append(anywhere, location, 0, blob.content[:1000])
    CutConnection(server, location).reset(blob.content[1000:2_000_000], blob.size - 1000)
    held = anywhere.received(location)
    assert 1000 <= held <= 2_000_000
    goes_on(anywhere, repository, location, blob, held)


def test_resume_after_a_cut_in_the_closing_put(server: Server, anywhere: Registry, repository: str) -> None:
    blob = unique_blob(500_000)
    location = anywhere.begin(repository)
    append(anywhere, location, 0, blob.content[:100_000])
    closing = f"{location}?digest={blob.digest}"
    CutConnection(server, closing, method="PUT").closed(blob.content[100_000:300_000], 400_000)
    assert anywhere.received(location) == 300_000
    assert anywhere.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 404
    goes_on(anywhere, repository, location, blob, 300_000)


def test_cut_single_post_leaves_no_blob(server: Server, registry: Registry, repository: str) -> None:
    """Not even where what arrived is itself the blob that was named."""
    blob = unique_blob(1000)
    target = f"/v2/{repository}/blobs/uploads/?digest={blob.digest}"
    CutConnection(server, target, method="POST").closed(blob.content, 2000)
    assert registry.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 404
    registry.push_blob(repository, blob)
    assert registry.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_expect_continue(server: Server, registry: Registry, repository: str) -> None:
    location = registry.begin(repository)
    with Wire(server) as wire:
        wire.begin("PATCH", location, content_length=5, expect="100-continue")
        assert wire.socket.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"abcde")
        answer = wire.answer("PATCH")
    assert (answer.status, answer.headers["range"]) == (202, "0-4")


@pytest.mark.parametrize("ranged", [True, False], ids=["with Content-Range", "without Content-Range"])
def test_two_chunks_at_once(anywhere: Registry, repository: str, ranged: bool) -> None:
    """Bytes of two requests are never mixed: what was acknowledged is there, in one order."""
    contents = [bytes([letter]) * 2_000_000 for letter in b"ab"]
    location = anywhere.begin(repository)
    barrier = Barrier(2)

    def send(content: bytes) -> httpx.Response:
        barrier.wait()
        return append(anywhere, location, 0, content) if ranged else anywhere.patch(location, content)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(send, contents))
    kept = [content for content, answer in zip(contents, answers, strict=True) if answer.status_code == 202]
    for answer in answers:
        if answer.status_code != 202:
            refused(answer, answer.status_code, "BLOB_UPLOAD_INVALID")
            assert answer.status_code in ({409, 416} if ranged else {409})
    assert len(kept) == 1 if ranged else kept
    assert anywhere.received(location) == sum(map(len, kept))
    orders = {digest_of(b"".join(order)) for order in (kept, kept[::-1])}
    committed = [anywhere.put(location, {"digest": digest}).status_code for digest in orders]
    assert 201 in committed


def test_two_commits_at_once(anywhere: Registry, repository: str) -> None:
    blob = unique_blob(1_000_000)
    location = anywhere.begin(repository)
    append(anywhere, location, 0, blob.content)
    barrier = Barrier(4)

    def commit(_: int) -> int:
        barrier.wait()
        return anywhere.put(location, {"digest": blob.digest}).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(commit, range(4)))
    assert 201 in statuses
    assert statuses <= {201, 404, 409}
    assert anywhere.get(f"/v2/{repository}/blobs/{blob.digest}").content == blob.content


def test_blob_of_exactly_the_limit(narrow: Registry, repository: str) -> None:
    blob = unique_blob(MAX_BLOB)
    narrow.push_blob(repository, blob)
    location = narrow.begin(repository)
    append(narrow, location, 0, blob.content[:1000])
    answer = narrow.put(location, {"digest": blob.digest}, blob.content[1000:])
    assert answer.status_code == 201


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "with a length"])
def test_blob_beyond_the_limit(narrow_server: Server, narrow: Registry, repository: str, chunked: bool) -> None:
    """A length that is too large is refused before the body is sent; without one, at the byte that is too many."""
    location = narrow.begin(repository)
    append(narrow, location, 0, b"x" * 1000)
    with Wire(narrow_server) as wire:
        if chunked:
            wire.begin("PATCH", location, transfer_encoding="chunked")
            wire.send_chunk(b"x" * (MAX_BLOB - 1000))
            wire.send_chunk(b"x")
        else:
            wire.begin("PATCH", location, content_length=MAX_BLOB - 999)
        answer = wire.answer("PATCH")
    assert answer.status == 413
    error = answer.json()["errors"][0]
    assert (error["code"], error["detail"]) == ("BLOB_UPLOAD_INVALID", {"max_bytes": MAX_BLOB})
    is_gone(narrow, location)


def test_single_post_beyond_the_limit(narrow_server: Server, narrow: Registry, repository: str) -> None:
    with Wire(narrow_server) as wire:
        target = f"/v2/{repository}/blobs/uploads/?digest={unknown_digest()}"
        wire.begin("POST", target, content_length=100_000_000_000)
        answer = wire.answer("POST")
    assert answer.status == 413
    assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_INVALID"
    assert narrow.get("/v2/").status_code == 200


def test_chunk_far_out_of_order_keeps_the_upload(narrow: Registry, repository: str) -> None:
    """A wrong offset is a wrong offset, also where it lies beyond the largest blob; the upload is not to blame."""
    blob = unique_blob(2000)
    location = narrow.begin(repository)
    append(narrow, location, 0, blob.content[:1000])
    answer = append(narrow, location, 5 * MAX_BLOB, blob.content[1000:])
    refused(answer, 416, "BLOB_UPLOAD_INVALID")
    goes_on(narrow, repository, location, blob, 1000)
