"""Asks the registry over plain HTTP, with no client in between."""

import http.client
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.clients.image_layout import MANIFESTS, Descriptor, ImageLayout, content


@dataclass(frozen=True)
class Answer:
    """One answer of the registry."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body as parsed JSON."""
        return json.loads(self.body)


class RegistryApi:
    """The distribution API of one registry."""

    def __init__(self, host: str) -> None:
        """Asks the registry at `host`, written as address:port."""
        self.host = host

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Sends one request on a connection of its own and returns the answer, whatever its status."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def _get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        answer = self.request("GET", path, headers)
        assert answer.status == http.HTTPStatus.OK, f"GET {path}: {answer.status} {answer.body[:500]!r}"
        return answer

    def manifest(self, repository: str, reference: str) -> Answer:
        """Returns a manifest by tag or digest."""
        return self._get(f"/v2/{repository}/manifests/{reference}", {"Accept": ", ".join(sorted(MANIFESTS))})

    def blob(self, repository: str, digest: str) -> bytes:
        """Returns a blob's bytes."""
        return self._get(f"/v2/{repository}/blobs/{digest}").body

    def manifest_status(self, repository: str, reference: str) -> int:
        """Returns the status with which the registry answers HEAD for a manifest."""
        path = f"/v2/{repository}/manifests/{reference}"
        return self.request("HEAD", path, {"Accept": ", ".join(sorted(MANIFESTS))}).status

    def blob_status(self, repository: str, digest: str) -> int:
        """Returns the status with which the registry answers HEAD for a blob."""
        return self.request("HEAD", f"/v2/{repository}/blobs/{digest}").status

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Answer:
        """Pushes a manifest."""
        answer = self.request("PUT", f"/v2/{repository}/manifests/{reference}", {"Content-Type": media_type}, data)
        assert answer.status == http.HTTPStatus.CREATED, f"PUT {reference}: {answer.status} {answer.body[:500]!r}"
        return answer

    def put_blob(self, repository: str, data: bytes, digest: str) -> None:
        """Pushes a blob with one POST and one PUT."""
        started = self.request("POST", f"/v2/{repository}/blobs/uploads/", {"Content-Length": "0"})
        assert started.status == http.HTTPStatus.ACCEPTED, f"POST: {started.status} {started.body[:500]!r}"
        location = urllib.parse.urlsplit(started.headers["location"])
        query = f"{location.query}&digest={digest}" if location.query else f"digest={digest}"
        headers = {"Content-Type": "application/octet-stream"}
        done = self.request("PUT", f"{location.path}?{query}", headers, data)
        assert done.status == http.HTTPStatus.CREATED, f"PUT {digest}: {done.status} {done.body[:500]!r}"

    def put_content(self, repository: str, tag: str, layout: ImageLayout) -> Descriptor:
        """Pushes all that a layout's root reaches, children first, and tags the root; returns its descriptor."""
        root = layout.root()
        for digest, data in reversed(content(root, layout.read).items()):
            document = json.loads(data) if data[:1] == b"{" else {}
            if document.get("mediaType") in MANIFESTS:
                self.put_manifest(repository, digest, data, document["mediaType"])
            else:
                self.put_blob(repository, data, digest)
        self.put_manifest(repository, tag, layout.read(root), root["mediaType"])
        return root

    def tags(self, repository: str) -> list[str]:
        """Returns the tags of a repository, in the registry's order."""
        tags = self._get(f"/v2/{repository}/tags/list").json()["tags"]
        return list(tags or [])

    def referrers(self, repository: str, digest: str, artifact_type: str | None = None) -> list[Descriptor]:
        """Returns the descriptors of what refers to `digest`."""
        query = f"?artifactType={urllib.parse.quote(artifact_type, safe='')}" if artifact_type else ""
        answer = self._get(f"/v2/{repository}/referrers/{digest}{query}")
        assert answer.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
        return list(answer.json()["manifests"])

    def reader(self, repository: str) -> Callable[[Descriptor], bytes]:
        """Returns what reads a repository's manifests and blobs by descriptor."""

        def read(descriptor: Descriptor) -> bytes:
            if descriptor["mediaType"] in MANIFESTS:
                return self.manifest(repository, descriptor["digest"]).body
            return self.blob(repository, descriptor["digest"])

        return read
