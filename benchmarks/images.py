"""The image that every server gets before its pulls are measured, pushed by the plainest client there is."""

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from functools import cache

from msgspec import Struct, json

from benchmarks.load import Request
from benchmarks.servers import Running
from benchmarks.workload import MIB

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
PATIENCE = 300


class Image(Struct):
    """An image that a server holds: the requests of its pull."""

    manifest: Request
    by_tag: Request
    config: Request
    layer: Request
    content: bytes

    def pull(self) -> list[Request]:
        """Returns what a client sends: it looks for the tag, then fetches everything by digest."""
        return [*heads([self.by_tag]), self.manifest, self.config, self.layer]


def heads(requests: Sequence[Request]) -> list[Request]:
    """Returns the same as HEAD."""
    return [Request(request.path, "HEAD", length=request.length) for request in requests]


@cache
def layer(mib: int) -> bytes:
    """Returns a layer of so many MiB, the same for every server."""
    return os.urandom(mib * MIB)


def digest_of(content: bytes) -> str:
    """Returns the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def call(server: Running, method: str, path: str, body: bytes | None = None, media_type: str = "") -> str:
    """Sends one request outside of what is measured, and returns the Location; raises where it is refused."""
    url = path if "://" in path else f"http://{server.address}{path}"
    headers = {"Content-Type": media_type or "application/octet-stream"}
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(answer.headers.get("Location", ""))


def push_blob(server: Running, repository: str, content: bytes) -> Request:
    """Pushes a blob and returns the request that pulls it."""
    digest = digest_of(content)
    location = call(server, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    call(server, "PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", content)
    return Request(f"/v2/{repository}/blobs/{digest}", length=len(content), digest=digest)


def push_image(server: Running, repository: str, content: bytes) -> Image:
    """Pushes an image of one layer as ``repository:v1``."""
    config, pushed = (push_blob(server, repository, blob) for blob in (CONFIG, content))
    fields = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG_TYPE, "digest": config.digest, "size": config.length},
        "layers": [{"mediaType": LAYER_TYPE, "digest": pushed.digest, "size": pushed.length}],
    }
    manifest = json.encode(fields)
    call(server, "PUT", f"/v2/{repository}/manifests/v1", manifest, MANIFEST)
    by_digest, by_tag = (
        Request(f"/v2/{repository}/manifests/{reference}", length=len(manifest), digest=digest_of(manifest))
        for reference in (digest_of(manifest), "v1")
    )
    return Image(by_digest, by_tag, config, pushed, manifest)
