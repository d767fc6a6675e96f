"""Pushes by HTTP what no client would make: layers that are damaged, or are not what their image says."""

import hashlib
import json
import random
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from msgspec import Struct

from .registry import Optimized

OCI = "application/vnd.oci.image.layer.v1.tar"
OCI_GZIP, OCI_ZSTD = f"{OCI}+gzip", f"{OCI}+zstd"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def text(seed: int, size: int) -> bytes:
    """Returns text that no compressor makes much smaller than three quarters, the same for each seed."""
    return b64encode(random.Random(seed).randbytes(size * 3 // 4))


class Blob(Struct, frozen=True):
    """A layer as it is pushed, and what its image says that it unpacks to; ``size`` None is that of the content."""

    media_type: str
    content: bytes
    diff_id: str
    size: int | None = None

    @property
    def descriptor(self) -> dict[str, Any]:
        size = len(self.content) if self.size is None else self.size
        return {"mediaType": self.media_type, "digest": digest_of(self.content), "size": size}


def put_blob(registry: Optimized, repository: str, content: bytes) -> None:
    """Streams a blob, as every client does."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    url = f"/v2/{repository}/blobs/uploads/?digest={digest_of(content)}"
    headers = {"content-type": "application/octet-stream", "content-length": str(len(content))}
    registry.client.post(url, content=pieces(), headers=headers).raise_for_status()


def put_manifest(
    registry: Optimized, repository: str, reference: str, document: dict[str, Any] | bytes, media_type: str
) -> httpx.Response:
    content = document if isinstance(document, bytes) else json.dumps(document, indent=1).encode()
    url = f"/v2/{repository}/manifests/{reference}"
    return registry.client.put(url, content=content, headers={"content-type": media_type})


def put_image(
    registry: Optimized, repository: str, tag: str, layers: Sequence[Blob], *, docker: bool = False, **fields: Any
) -> str:
    """Pushes an image and returns its digest; ``fields`` are added to its manifest."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"made": "by hand"}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        }
    ).encode()
    for content in (config, *(layer.content for layer in layers)):
        put_blob(registry, repository, content)
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    config_type = DOCKER_CONFIG if docker else OCI_CONFIG
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": config_type, "digest": digest_of(config), "size": len(config)},
        "layers": [layer.descriptor for layer in layers],
        **fields,
    }
    answer = put_manifest(registry, repository, tag, document, media_type)
    assert answer.status_code == 201, answer.text
    return answer.headers["docker-content-digest"]
