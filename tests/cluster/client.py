"""A client that goes on when nodes fail: it sends again what may be sent again, and holds every answer to its form."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Self

import httpx

from tests.cluster.balancer import SERVED_BY
from tests.faults.inspection import PATIENCE
from tests.oci.client import CODES, Query, location_of
from tests.oci.content import OCTETS, Blob, Document, image

RETRYABLE = frozenset({502, 503, 504})
"""RFC 9110 section 15.6: the same request may succeed later. 500 is a defect, and 507 does not pass by itself."""

FAILURES = frozenset({"UNAVAILABLE"})

TIMEOUT = 30.0
"""Seconds without a byte after which a client gives up a request, as real ones do."""


class Client:
    """Sends each request on a connection of its own, which the balancer gives to the next node; safe among threads.

    ``retried`` counts by reason what had to be sent again, and ``served`` the answers by the node that gave them.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.http = httpx.Client(
            base_url=url,
            transport=httpx.HTTPTransport(verify=False, limits=httpx.Limits(max_keepalive_connections=0)),
            timeout=timeout,
            follow_redirects=True,
        )
        self.retried: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def ask(
        self,
        method: str,
        path: str,
        params: Query | None = None,
        content: bytes | Iterator[bytes] | None = None,
        /,
        **headers: str,
    ) -> httpx.Response:
        """Sends one request once. Raises `httpx.TransportError` where no whole answer comes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.request(method, path, params=params, content=content, headers=named)
        holds_its_form(answer)
        with self._lock:
            self.served[answer.headers.get(SERVED_BY, "nobody")] += 1
        return answer

    def insist(
        self,
        method: str,
        path: str,
        params: Query | None = None,
        content: bytes | None = None,
        /,
        *,
        patience: float = PATIENCE,
        also: frozenset[int] = frozenset(),
        **headers: str,
    ) -> httpx.Response:
        """Sends a request until an answer says more than "not now"; statuses in ``also`` count as "not now", too."""
        deadline = time.monotonic() + patience
        while True:
            pause = 0.2
            try:
                answer = self.ask(method, path, params, content, **headers)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if answer.status_code not in RETRYABLE | also:
                    return answer
                reason = str(answer.status_code)
                pause = min(float(answer.headers.get("retry-after", pause)), 2.0)
            with self._lock:
                self.retried[reason] += 1
            assert time.monotonic() < deadline, f"{method} {path}: nothing but {reason} in {patience} s"
            time.sleep(pause)

    def push_blob(self, repository: str, blob: Blob) -> Blob:
        """Pushes a blob in one request, again and again until it is acknowledged."""
        answer = self.insist(
            "POST", f"/v2/{repository}/blobs/uploads/", {"digest": blob.digest}, blob.content, content_type=OCTETS
        )
        assert answer.status_code == 201, answer.text
        return blob

    def push_image(self, repository: str, tag: str | None, config: Blob, *layers: Blob) -> Document:
        """Pushes an image under a tag, and returns its manifest once all of it is acknowledged."""
        for blob in (config, *layers):
            self.push_blob(repository, blob)
        manifest = image(config, *layers)
        self.put_manifest(repository, manifest, tag)
        return manifest

    def put_manifest(self, repository: str, manifest: Document, tag: str | None = None) -> None:
        path = f"/v2/{repository}/manifests/{tag or manifest.digest}"
        answer = self.insist("PUT", path, None, manifest.content, content_type=manifest.media_type)
        assert answer.status_code == 201, answer.text

    def begin(self, repository: str) -> str:
        """Begins an upload and returns its location."""
        answer = self.insist("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        return location_of(answer)

    def pull(self, repository: str, reference: str) -> tuple[str, bytes]:
        """Returns the digest and the bytes of a manifest, which must be there."""
        answer = self.insist("GET", f"/v2/{repository}/manifests/{reference}", accept="*/*")
        assert answer.status_code == 200, answer.text
        return answer.headers["docker-content-digest"], answer.content

    def pull_blob(self, repository: str, digest: str) -> bytes:
        """Returns the bytes of a blob, which must be there."""
        answer = self.insist("GET", f"/v2/{repository}/blobs/{digest}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def tags(self, repository: str) -> list[str]:
        """Returns every tag of a repository, page by page."""
        found: list[str] = []
        path: str | None = f"/v2/{repository}/tags/list"
        while path is not None:
            answer = self.insist("GET", path)
            assert answer.status_code == 200, answer.text
            found += answer.json()["tags"]
            path = answer.links["next"]["url"] if "next" in answer.links else None
        return found


def holds_its_form(answer: httpx.Response) -> None:
    """Asserts that an error is one of the specification's, or says that it passes, and when to come again."""
    if answer.status_code < 400 or not answer.request.url.path.startswith("/v2"):
        return
    said = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.headers} {answer.text[:1000]}"
    assert answer.status_code != 500, said
    assert answer.headers["content-type"] == "application/json", said
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0", said
    assert answer.headers["x-request-id"], said
    if answer.status_code in RETRYABLE:
        assert int(answer.headers["retry-after"]) >= 0, said
    if answer.request.method == "HEAD":
        return
    errors = answer.json()["errors"]
    assert errors, said
    known = FAILURES if answer.status_code > 500 else CODES
    assert {error["code"] for error in errors} <= known, said
