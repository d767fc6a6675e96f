"""Manifests of images: what an optimized one takes over from the original, and how an index offers both."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from drift_core.api import Descriptor, Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS, INDEXES = (OCI_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, DOCKER_INDEX)

FORM = "dev.drift.optimization.form"
"""The annotation of what was made here: the name of the form."""

ZSTD_INSTANCE = {"io.github.containers.compression.zstd": "true"}
"""Annotations of an entry of an index by which clients choose zstd over gzip (containers/image)."""

TO_OCI = {
    "application/vnd.docker.container.image.v1+json": OCI_CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""Media types of Docker's images, and those that mean the same in an OCI one: zstd has a place there alone."""

SHOWN_IN_INDEX = ("architecture", "os", "os.version", "os.features", "variant")


class NoImage(Exception):
    """A manifest is nothing that can be optimized; the message says why."""


class Image(Struct, frozen=True):
    """A manifest of an image as it was pushed, and of its configuration what matters here.

    ``diff_ids`` are what the configuration says that the layers unpack to, in their order.
    """

    repository: str
    descriptor: Descriptor
    document: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]

    @property
    def platform(self) -> dict[str, Any]:
        """What the configuration says of the platform, in the terms of a descriptor."""
        return {key: self.config[key] for key in SHOWN_IN_INDEX if self.config.get(key)}


EMPTY = b"{}"
"""The configuration of what has none."""


class Formed(Struct, frozen=True):
    """A better form of an image: the manifest that was made, and of which form it is.

    ``tables`` are tables of contents of its layers, which belong into an image of their own.
    """

    form: str
    descriptor: Descriptor
    content: bytes
    tables: tuple[Descriptor, ...] = ()


def check_kind(media_type: str, content: bytes) -> None:
    """Raises `NoImage` for a manifest that is neither an image nor an index, or was made here."""
    if media_type not in (*MANIFESTS, *INDEXES):
        message = f"{media_type} is no image"
        raise NoImage(message)
    if is_made(content):
        message = "it is a better form itself"
        raise NoImage(message)


def read_image(repository: str, descriptor: Descriptor, content: bytes, config: bytes) -> Image:
    """Returns an image. Raises `NoImage` for what is no image of layers."""
    try:
        document, settings = json.loads(content), json.loads(config)
        layers = msgspec.convert(document["layers"], tuple[Descriptor, ...])
        diff_ids = tuple(Digest.parse(one) for one in settings["rootfs"]["diff_ids"])
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.ValidationError) as error:
        message = f"it is no image with a root file system: {type(error).__name__}"
        raise NoImage(message) from error
    if not layers or len(layers) != len(diff_ids):
        message = f"it has {len(layers)} layers, and its configuration {len(diff_ids)}"
        raise NoImage(message)
    return Image(repository, descriptor, document, settings, layers, diff_ids)


def is_made(content: bytes) -> bool:
    """Says whether a manifest was made here."""
    try:
        return FORM in (json.loads(content).get("annotations") or {})
    except (ValueError, AttributeError, TypeError):
        return False


def write_image(
    image: Image, form: str, layers: Sequence[Descriptor], *, refers: bool, config: Descriptor | None = None
) -> Formed:
    """Returns the manifest of a better form, which ``refers`` to the original; the same layers give the same bytes.

    ``config`` None is that of the original.
    """
    own = config or msgspec.convert(image.document["config"], Descriptor)
    document: dict[str, Any] = {
        **image.document,
        "mediaType": OCI_MANIFEST,
        "config": _in_oci(own),
        "layers": [_in_oci(layer) for layer in layers],
        "annotations": {**(image.document.get("annotations") or {}), FORM: form},
    }
    if refers:
        document["subject"] = _plain(image.descriptor)
    annotations = {FORM: form, **(ZSTD_INSTANCE if form.startswith("zstd") else {})}
    return _formed(form, document, annotations, image.platform or None)


def write_table(tables: Sequence[Descriptor]) -> Formed:
    """Returns the manifest of an image that has tables of contents as its layers, by the order of their digests."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _plain(Descriptor(OCI_CONFIG, str(Digest.of(EMPTY)), len(EMPTY))),
        "layers": [_plain(table) for table in sorted(tables, key=lambda table: table.digest)],
        "annotations": {FORM: "tables of contents"},
    }
    return _formed("table", document)


def write_index(entries: Sequence[Descriptor], subject: Descriptor | None, base: Mapping[str, Any]) -> Formed:
    """Returns an index of ``entries``; what an index that was pushed has besides, ``base``, stays."""
    document: dict[str, Any] = {
        **base,
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [_plain(entry) for entry in entries],
        "annotations": {**(base.get("annotations") or {}), FORM: "index"},
    }
    if subject is not None:
        document["subject"] = _plain(subject)
    return _formed("index", document)


def written(document: Mapping[str, Any]) -> bytes:
    """Returns a document as JSON, the same bytes for the same document."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _formed(
    form: str,
    document: Mapping[str, Any],
    annotations: dict[str, str] | None = None,
    platform: dict[str, Any] | None = None,
) -> Formed:
    content = written(document)
    digest = str(Digest.of(content))
    descriptor = Descriptor(document["mediaType"], digest, len(content), None, annotations, platform)
    return Formed(form, descriptor, content)


def _in_oci(descriptor: Descriptor) -> dict[str, Any]:
    plain = _plain(descriptor)
    return {**plain, "mediaType": TO_OCI.get(descriptor.media_type, descriptor.media_type)}


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(descriptor)
    return plain
