"""Reads manifests and configurations of images, in which anybody may have written anything."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct

from drift_core.api import Digest, DigestInvalid, LocalRegistry, RegistryError

T = TypeVar("T")

LARGEST_CONFIG = 4 << 20
"""Bytes of a configuration that is read."""

LARGE = 64 << 10
"""Bytes of JSON that are read in a thread, as more would hold up everybody else."""

MOST_STEPS = 1000
MOST_LABELS = 5000
"""Steps of a history, and labels or annotations, that are read."""

MOST_BYTES = (1 << 63) - 1
"""What a database takes for a size; layers that are stored nowhere may be of any."""

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")


class TooLarge(RegistryError):
    """A blob is larger than what is shown of it."""

    code, status, text = "DENIED", 403, "it is too large to be shown"


class NotReadable(RegistryError):
    """A blob is not of the form that its media type says."""

    code, status, text = "MANIFEST_INVALID", 400, "it is not of the form that its media type says"


class Part(Struct, frozen=True):
    """What a manifest names: a blob or another manifest; ``size`` in bytes, as the manifest states it."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = {}
    platform: str = ""
    artifact_type: str = ""


class Document(Struct, frozen=True):
    """What the console shows of a manifest. ``kind`` is what an artifact is; empty for an image or an index."""

    media_type: str
    content: bytes
    kind: str
    config: Part | None
    layers: Sequence[Part]
    children: Sequence[Part]
    annotations: Mapping[str, str]
    subject: str | None

    @property
    def is_image(self) -> bool:
        """Whether its configuration is that of an image."""
        return self.config is not None and self.config.media_type in CONFIGS

    @property
    def size(self) -> int:
        """Bytes of its blobs, of an index those of its manifests; at most `MOST_BYTES`."""
        parts = [*self.layers, *self.children] + ([] if self.config is None else [self.config])
        return bytes_of(part.size for part in parts)


class Step(Struct, frozen=True):
    """One line of an image's history."""

    command: str
    created: str
    empty: bool


class ImageConfig(Struct, frozen=True):
    """What the console shows of an image's configuration (image specification, "OCI Image Configuration")."""

    platform: str
    created: str
    author: str
    settings: Sequence[tuple[str, str]]
    labels: Mapping[str, str]
    history: Sequence[Step]


NO_CONFIG = ImageConfig("", "", "", (), {}, ())


def bytes_of(sizes: Iterable[int]) -> int:
    """Returns a sum of what manifests state, at most `MOST_BYTES`."""
    return min(sum(sizes), MOST_BYTES)


async def read_document(registry: LocalRegistry, repository: str, reference: Digest | str) -> Document:
    """Returns a manifest, by `Digest` or tag. Raises MANIFEST_UNKNOWN, or the error of a gate."""
    media_type, content = await registry.manifest(repository, reference)
    return await _apart(lambda read: document_of(media_type, read), content)


def document_of(media_type: str, content: bytes) -> Document:
    """Returns what a manifest says; what is not as it should be is left out."""
    fields = table_of(_decoded(content))
    config = _part(fields.get("config"))
    kind = _text(fields.get("artifactType")) or (
        "" if config is None or config.media_type in CONFIGS else config.media_type
    )
    return Document(
        media_type,
        content,
        kind,
        config,
        _parts(fields.get("layers")),
        _parts(fields.get("manifests")),
        _texts(fields.get("annotations")),
        _text(table_of(fields.get("subject")).get("digest")) or None,
    )


async def read_config(registry: LocalRegistry, repository: str, document: Document) -> ImageConfig:
    """Returns the configuration of an image; an empty one of what is none, or too large."""
    if document.config is None or not document.is_image:
        return NO_CONFIG
    try:
        content = await read_blob(registry, repository, document.config.digest, LARGEST_CONFIG)
    except (TooLarge, DigestInvalid):
        return NO_CONFIG
    return await _apart(config_of, content)


async def _apart(read: Callable[[bytes], T], content: bytes) -> T:
    return read(content) if len(content) <= LARGE else await asyncio.to_thread(read, content)


def config_of(content: bytes) -> ImageConfig:
    """Returns what a configuration says."""
    fields = table_of(_decoded(content))
    settings = table_of(fields.get("config"))
    shown = ("User", "Entrypoint", "Cmd", "WorkingDir", "Env", "ExposedPorts", "Volumes", "StopSignal")
    return ImageConfig(
        _platform(fields),
        _text(fields.get("created")),
        _text(fields.get("author")),
        [(name, _said(settings[name])) for name in shown if settings.get(name)],
        _texts(settings.get("Labels")),
        [_step(table_of(step)) for step in list_of(fields.get("history"))[:MOST_STEPS]],
    )


async def read_blob(registry: LocalRegistry, repository: str, digest: str, most: int) -> bytes:
    """Returns a blob of at most ``most`` bytes. Raises `TooLarge`; `BlobUnknown`; `DigestInvalid`; a gate's error."""
    parts: list[bytes] = []
    size = 0
    async for chunk in registry.blob(repository, Digest.parse(digest)):
        size += len(chunk)
        if size > most:
            raise TooLarge
        parts.append(chunk)
    return b"".join(parts)


def decoded(content: bytes) -> Any:
    """Returns JSON. Raises `NotReadable`."""
    found = _decoded(content)
    if found is None:
        raise NotReadable
    return found


def _decoded(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def table_of(value: Any) -> dict[str, Any]:
    """Returns a table of JSON, an empty one for what is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """Returns a list of JSON, an empty one for what is none."""
    found: Any = value
    return found if isinstance(value, list) else []


def _text(value: Any) -> str:
    # Neither PostgreSQL nor a page takes a zero byte.
    return value.replace("\0", "") if isinstance(value, str) else ""


def _texts(value: Any) -> dict[str, str]:
    said = ((name, text) for name, text in table_of(value).items() if isinstance(text, str))
    return {_text(name): _text(text) for name, text in islice(said, MOST_LABELS)}


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(map(str, cast("dict[str, Any]", value)))
    return "\n".join(map(str, list_of(value))) if isinstance(value, list) else str(value)


def _parts(value: Any) -> list[Part]:
    return [part for one in list_of(value) if (part := _part(one)) is not None]


def _part(value: Any) -> Part | None:
    fields = table_of(value)
    size, digest = fields.get("size"), _text(fields.get("digest"))
    if not digest:
        return None
    return Part(
        _text(fields.get("mediaType")),
        digest,
        size if isinstance(size, int) and 0 <= size < 1 << 62 else 0,
        _texts(fields.get("annotations")),
        _platform(table_of(fields.get("platform"))),
        _text(fields.get("artifactType")),
    )


def _platform(fields: Mapping[str, Any]) -> str:
    """Returns such as ``linux/arm64/v8``; empty for what says that it is unknown, such as an attestation."""
    parts = [_text(fields.get(name)) for name in ("os", "architecture", "variant")]
    return "" if parts[0] in ("", "unknown") else "/".join(part for part in parts if part)


def _step(fields: Mapping[str, Any]) -> Step:
    return Step(_text(fields.get("created_by")), _text(fields.get("created")), fields.get("empty_layer") is True)
