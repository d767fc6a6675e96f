"""Builds blobs and manifests whose bytes and digests are known before they are pushed."""

import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCTETS = "application/octet-stream"

_serial = itertools.count()


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Returns ``algorithm:hex`` of the bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def unknown_digest(algorithm: str = "sha256") -> str:
    """Returns the digest of content that nobody has."""
    return digest_of(os.urandom(32), algorithm)


@dataclass(frozen=True)
class Blob:
    """Bytes to be pushed as a blob."""

    content: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    @property
    def size(self) -> int:
        return len(self.content)

    def descriptor(self, media_type: str = OCI_LAYER, **fields: Any) -> dict[str, Any]:
        """Returns the descriptor of the blob; ``fields`` are added or replace its own."""
        return {"mediaType": media_type, "digest": self.digest, "size": self.size} | fields


@dataclass(frozen=True)
class Document:
    """The exact bytes of a manifest, and the media type under which it is pushed."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    @property
    def size(self) -> int:
        return len(self.content)

    def descriptor(self, **fields: Any) -> dict[str, Any]:
        """Returns the descriptor of the manifest; ``fields`` are added or replace its own."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size} | fields


def unique_blob(size: int = 64) -> Blob:
    """Returns a blob of random bytes that no other test has pushed."""
    return Blob(os.urandom(size))


EMPTY_CONFIG = Blob(b"{}")


def document(fields: Mapping[str, Any], media_type: str, indent: int | None = 1) -> Document:
    """Returns a manifest of the given fields, indented in a way that no registry would write itself."""
    return Document(json.dumps(fields, indent=indent).encode(), media_type)


def image_fields(config: Blob, *layers: Blob, media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    """Returns the fields of an image manifest, for a test to change."""
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(OCI_CONFIG),
        "layers": [layer.descriptor() for layer in layers],
    }


def image(
    config: Blob,
    *layers: Blob,
    media_type: str = OCI_MANIFEST,
    config_type: str = OCI_CONFIG,
    subject: Document | str | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Document:
    """Returns an image manifest; a subject given as a digest claims the size 100."""
    fields = image_fields(config, *layers, media_type=media_type)
    fields["config"]["mediaType"] = config_type
    return document(fields | _common(subject, artifact_type, annotations), media_type)


def index(
    *children: Document,
    media_type: str = OCI_INDEX,
    subject: Document | str | None = None,
    artifact_type: str | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Document:
    """Returns an image index over manifests."""
    fields = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [child.descriptor() for child in children],
    }
    return document(fields | _common(subject, artifact_type, annotations), media_type)


def unique_index(**annotations: str) -> Document:
    """Returns an index without children that differs from every other one: the smallest manifest to push."""
    return index(annotations={"serial": f"{os.getpid()}-{next(_serial)}"} | annotations)


def _common(
    subject: Document | str | None, artifact_type: str | None, annotations: Mapping[str, str] | None
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if isinstance(subject, str):
        fields["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 100}
    elif subject is not None:
        fields["subject"] = subject.descriptor()
    if artifact_type is not None:
        fields["artifactType"] = artifact_type
    if annotations is not None:
        fields["annotations"] = dict(annotations)
    return fields
