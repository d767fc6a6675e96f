"""What the content of a manifest says of itself: its media type, and the entries of an index."""

import msgspec

from drift_core.api import Struct

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

MANIFEST_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation that tags an entry of a layout's index (image specification, "Pre-Defined Annotation Keys")."""


class Entry(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A descriptor in an index; ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None


class Index(Struct, frozen=True, rename="camel"):
    """The ``index.json`` of a layout (image specification, "OCI Image Layout")."""

    manifests: list[Entry]
    schema_version: int = 2
    media_type: str | None = OCI_INDEX


class _Stated(Struct, rename="camel"):
    schema_version: int = 0
    media_type: str | None = None
    manifests: list[msgspec.Raw] | None = None


def media_type_of(content: bytes) -> str | None:
    """Returns the media type that a manifest states or, where it states none, that of its form; None if it has no form.

    The OCI forms may leave it out (image specification, "Image Manifest Property Descriptions").
    """
    try:
        stated = msgspec.json.decode(content, type=_Stated)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if stated.media_type is not None:
        return stated.media_type
    return OCI_MANIFEST if stated.manifests is None else OCI_INDEX


def is_schema_1(content: bytes) -> bool:
    """Says whether a manifest is of Docker's first schema, whose digest is not that of its content."""
    try:
        return msgspec.json.decode(content, type=_Stated).schema_version == 1
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
