"""Speaks the distribution API to one server, and holds every single answer to what all answers promise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from tests.oci.content import OCTETS, Blob, Document

Query = Mapping[str, str | int | Sequence[str]]

CODES = frozenset(
    {
        "BLOB_UNKNOWN",
        "BLOB_UPLOAD_INVALID",
        "BLOB_UPLOAD_UNKNOWN",
        "DIGEST_INVALID",
        "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID",
        "MANIFEST_UNKNOWN",
        "NAME_INVALID",
        "NAME_UNKNOWN",
        "SIZE_INVALID",
        "UNAUTHORIZED",
        "DENIED",
        "UNSUPPORTED",
        "TOOMANYREQUESTS",
    }
)
"""Distribution specification, "Error Codes"; nothing else may be sent with a 4xx status."""

ALL = 10_000


class Registry:
    """An HTTP client of one server; ``fresh`` opens a connection for every request, so that any worker may get it."""

    def __init__(self, url: str, *, fresh: bool = False) -> None:
        limits = httpx.Limits(max_keepalive_connections=0) if fresh else httpx.Limits(max_connections=8)
        self.http = httpx.Client(
            base_url=url,
            # No certificates are needed on loopback, and loading them takes longer than most tests.
            transport=httpx.HTTPTransport(verify=False, limits=limits),
            timeout=60,
            event_hooks={"response": [keeps_its_promises]},
        )

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, params: Query | None = None, /, **headers: str) -> httpx.Response:
        """GET; keywords are headers, with ``_`` for ``-``."""
        return self.request("GET", path, params, **headers)

    def head(self, path: str, params: Query | None = None, /, **headers: str) -> httpx.Response:
        return self.request("HEAD", path, params, **headers)

    def delete(self, path: str, params: Query | None = None, /, **headers: str) -> httpx.Response:
        return self.request("DELETE", path, params, **headers)

    def post(self, path: str, params: Query | None = None, content: bytes = b"", /, **headers: str) -> httpx.Response:
        return self.request("POST", path, params, content, **headers)

    def put(self, path: str, params: Query | None = None, content: bytes = b"", /, **headers: str) -> httpx.Response:
        return self.request("PUT", path, params, content, **headers)

    def patch(self, path: str, content: bytes | Iterator[bytes], /, **headers: str) -> httpx.Response:
        return self.request("PATCH", path, None, content, **headers)

    def request(
        self,
        method: str,
        path: str,
        params: Query | None = None,
        content: bytes | Iterator[bytes] | None = None,
        /,
        **headers: str,
    ) -> httpx.Response:
        """Sends one request; a body that is an iterator goes out chunked."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, path, params=params, content=content, headers=named)

    def push_blob(self, repository: str, blob: Blob) -> Blob:
        """Pushes a blob in one request."""
        answer = self.post(
            f"/v2/{repository}/blobs/uploads/", {"digest": blob.digest}, blob.content, content_type=OCTETS
        )
        assert answer.status_code == 201, answer.text
        return blob

    def begin(self, repository: str, **params: str) -> str:
        """Begins an upload and returns its location."""
        answer = self.post(f"/v2/{repository}/blobs/uploads/", {**params})
        assert answer.status_code == 202, answer.text
        return location_of(answer)

    def received(self, location: str) -> int:
        """Returns how many bytes an upload says that it holds; it must not be empty or hold one byte."""
        answer = self.get(location)
        assert answer.status_code == 204, answer.text
        return int(answer.headers["range"].removeprefix("0-")) + 1

    def put_manifest(
        self,
        repository: str,
        manifest: Document,
        reference: str | None = None,
        query: Query | None = None,
        /,
        **headers: str,
    ) -> httpx.Response:
        """Sends a manifest, by its digest where no reference is given, and returns whatever the answer is."""
        headers = {"content_type": manifest.media_type} | headers
        path = f"/v2/{repository}/manifests/{reference or manifest.digest}"
        return self.put(path, query, manifest.content, **headers)

    def push(
        self, repository: str, manifest: Document, reference: str | None = None, query: Query | None = None
    ) -> Document:
        """Pushes a manifest, which must succeed."""
        answer = self.put_manifest(repository, manifest, reference, query)
        assert answer.status_code == 201, answer.text
        return manifest

    def tags(self, repository: str) -> list[str]:
        """Returns every tag of a repository that has less than a page of them."""
        answer = self.get(f"/v2/{repository}/tags/list")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["tags"])

    def referrers(self, repository: str, subject: str, **params: str | int) -> list[dict[str, Any]]:
        """Returns the descriptors on the first page of referrers."""
        answer = self.get(f"/v2/{repository}/referrers/{subject}", {**params})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["manifests"])

    def pages(self, path: str, params: Query | None = None) -> Iterator[httpx.Response]:
        """Yields a listing page by page, going only where Link says."""
        for _ in range(ALL):
            answer = self.get(path, params)
            assert answer.status_code == 200, answer.text
            yield answer
            if "next" not in answer.links:
                assert "link" not in answer.headers
                return
            path, params = answer.links["next"]["url"], None
        raise AssertionError(f"{path} never ends")


def location_of(answer: httpx.Response) -> str:
    """Returns the path of a Location, which may be absolute or relative."""
    parts = urlsplit(answer.headers["location"])
    assert parts.path.startswith("/v2/"), answer.headers["location"]
    return parts.path + (f"?{parts.query}" if parts.query else "")


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Asserts that an answer is one error with this status and code, and returns its detail."""
    assert answer.status_code == status, answer.text
    errors = answer.json()["errors"]
    assert [error["code"] for error in errors] == [code], answer.text
    detail = errors[0]["detail"]
    assert isinstance(detail, dict)
    return detail


def keeps_its_promises(answer: httpx.Response) -> None:
    """Asserts what holds for every answer: never a 5xx, always a request id, and errors in the specified form."""
    answer.read()
    assert answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.text}"
    assert answer.headers["x-request-id"]
    if not answer.request.url.path.startswith("/v2"):
        return
    assert answer.headers.get_list("docker-distribution-api-version") == ["registry/2.0"]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/json"
        if answer.request.method != "HEAD":
            is_error_body(answer.json())


def is_error_body(body: Any) -> None:
    """Asserts the form of an error body: distribution specification, "Error Codes"."""
    assert set(body) == {"errors"}
    assert body["errors"]
    for error in body["errors"]:
        assert set(error) == {"code", "message", "detail"}
        assert error["code"] in CODES
        assert isinstance(error["message"], str)
        assert error["message"]
