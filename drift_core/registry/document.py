"""Reads a pushed manifest: strict JSON of a known form, and the edges that it draws to other content."""

import json
from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from drift_core.errors import DigestInvalid, ManifestInvalid
from drift_core.metadata.queries import NewManifest
from drift_core.model import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})

MAX_DESCRIPTORS = 10_000
"""Most descriptors in one manifest; a page of SQL parameters, and far beyond any image."""

MAX_TYPE_LENGTH = 255
"""Longest media or artifact type accepted, in characters (RFC 6838 section 4.2 allows 127 on each side)."""


class _Descriptor(Struct, rename="camel"):
    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None


class _Document(Struct, rename="camel"):
    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


class Manifest(Struct, frozen=True):
    """A checked manifest: what is recorded of it, and the size that it states for each blob and child, in bytes."""

    record: NewManifest
    sizes: dict[str, int]


def read_manifest(content: bytes, content_type: str | None, digest: Digest) -> Manifest:
    """Checks a manifest against the image specification and returns it; ``digest`` is its already verified digest.

    A media type comes from ``content_type``, without parameters, or where that is None from the document.

    Raises:
        ManifestInvalid: it is not JSON, not of a known media type, or not of that type's form; the detail names the
            path of what is wrong.
    """
    document = _decode(content)
    media_type = _media_type(document, content_type)
    index = media_type in INDEX_TYPES
    _check_form(document, index=index)
    blobs = [] if document.config is None else [("config", document.config)]
    layers = [(f"layers[{place}]", layer) for place, layer in enumerate(document.layers or [])]
    children = [(f"manifests[{place}]", child) for place, child in enumerate(document.manifests or [])]
    if len(layers) + len(children) > MAX_DESCRIPTORS:
        raise ManifestInvalid(f"a manifest has at most {MAX_DESCRIPTORS} layers or manifests")
    for path, descriptor in [*blobs, *layers, *children]:
        _check_descriptor(path, descriptor)
    if document.subject is not None:
        _check_descriptor("subject", document.subject)
    artifact_type = document.artifact_type or None
    if artifact_type is None and not index and document.config is not None:
        artifact_type = document.config.media_type
    blobs += [(path, layer) for path, layer in layers if not _external(layer.media_type)]
    sizes: dict[str, int] = {}
    for path, descriptor in [*blobs, *children]:
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ManifestInvalid("the same content is listed with another size", path=f"{path}.size")
    record = NewManifest(
        digest=digest,
        media_type=media_type,
        content=content,
        artifact_type=artifact_type,
        annotations=document.annotations,
        subject=None if document.subject is None else document.subject.digest,
        blobs=frozenset(descriptor.digest for _, descriptor in blobs),
        children=frozenset(descriptor.digest for _, descriptor in children),
    )
    return Manifest(record, sizes)


def _decode(content: bytes) -> _Document:
    try:
        # msgspec reads the types and refuses lone surrogates in them; only the plain parser sees duplicate keys.
        document = msgspec.json.decode(content, type=_Document)
        json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise ManifestInvalid(reason, path=path.rstrip("`").removeprefix("$").removeprefix(".") or ".") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ManifestInvalid(f"the manifest is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ManifestInvalid("the manifest is nested too deeply") from error
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        reason = f"duplicate key {counts.most_common(1)[0][0][:64]!r}"
        raise ValueError(reason)
    return found


def _no_constant(name: str) -> None:
    reason = f"{name} is not JSON"
    raise ValueError(reason)


def _media_type(document: _Document, content_type: str | None) -> str:
    sent = None if content_type is None else content_type.partition(";")[0].strip().lower()
    media_type = sent or document.media_type
    if media_type not in IMAGE_TYPES | INDEX_TYPES:
        supported = sorted(IMAGE_TYPES | INDEX_TYPES)
        raise ManifestInvalid(
            "unsupported manifest media type", mediaType=(media_type or "")[:MAX_TYPE_LENGTH], supported=supported
        )
    if document.media_type is not None and document.media_type != media_type:
        raise ManifestInvalid(
            "the Content-Type and the manifest's mediaType differ",
            path="mediaType",
            mediaType=document.media_type[:MAX_TYPE_LENGTH],
            contentType=media_type,
        )
    return media_type


def _check_form(document: _Document, *, index: bool) -> None:
    if document.schema_version != 2:  # noqa: PLR2004 - image specification, "schemaVersion": always 2
        raise ManifestInvalid("schemaVersion must be 2", path="schemaVersion")
    required = ("manifests",) if index else ("config", "layers")
    foreign = ("config", "layers") if index else ("manifests",)
    for field in required:
        if getattr(document, field) is None:
            raise ManifestInvalid(f"{field} is required", path=field)
    for field in foreign:
        # A document that reads as both lets two clients see two images under one digest (CVE-2021-41190).
        if getattr(document, field) is not None:
            raise ManifestInvalid(f"{field} does not belong in this media type", path=field)
    if document.artifact_type is not None and len(document.artifact_type) > MAX_TYPE_LENGTH:
        raise ManifestInvalid(f"a media type has at most {MAX_TYPE_LENGTH} characters", path="artifactType")


def _check_descriptor(path: str, descriptor: _Descriptor) -> None:
    try:
        Digest.parse(descriptor.digest)
    except DigestInvalid as error:
        raise ManifestInvalid(error.message, path=f"{path}.digest", **error.detail) from error
    if descriptor.size < 0:
        raise ManifestInvalid("a size is not negative", path=f"{path}.size")
    if not descriptor.media_type or len(descriptor.media_type) > MAX_TYPE_LENGTH:
        raise ManifestInvalid(f"a media type has 1 to {MAX_TYPE_LENGTH} characters", path=f"{path}.mediaType")


def _external(media_type: str) -> bool:
    """Says whether a layer may lie elsewhere: image specification, "Non-Distributable Layers", and Docker's foreign."""
    return ".nondistributable." in media_type or ".foreign." in media_type
