"""Images as OCI image layouts in a folder, which skopeo, umoci, crane and podman read."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zstandard

Compression = Literal["none", "gzip", "members", "zstd"]
TYPE = "application/vnd.oci.image."
_SUFFIX = {"none": "", "gzip": "+gzip", "members": "+gzip", "zstd": "+zstd"}


@dataclass(frozen=True)
class Layer:
    """A layer: the tar, and how the blob is compressed; ``members`` is gzip in several members."""

    tar: bytes
    compression: Compression = "gzip"

    @property
    def diff_id(self) -> str:
        return _digest(self.tar)

    @property
    def blob(self) -> bytes:
        return compressed(self.tar, self.compression)


@dataclass(frozen=True)
class Image:
    """Layers from the lowest up, and how many entries the history has; None is one for each layer.

    With ``others``, images for further platforms, it becomes an index.
    """

    layers: tuple[Layer, ...]
    architecture: str = "amd64"
    history: int | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    others: tuple["Image", ...] = ()

    @property
    def tars(self) -> list[bytes]:
        return [layer.tar for layer in self.layers]


def compressed(tar: bytes, compression: Compression) -> bytes:
    match compression:
        case "none":
            return tar
        case "gzip":
            return gzip.compress(tar, mtime=0)
        case "members":
            middle = len(tar) // 2
            return b"".join(gzip.compress(part, mtime=0) for part in (tar[:middle], b"", tar[middle:]))
        case "zstd":
            return zstandard.compress(tar)


def write_layout(folder: Path, images: Iterable[tuple[str, Image | Callable[[], Image]]]) -> None:
    """Writes a layout with each image under its name as the tag: ``oci:FOLDER:NAME``."""
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    manifests: list[dict[str, Any]] = []
    for name, made in images:
        image = made() if callable(made) else made
        descriptor = _write_index(folder, image) if image.others else _write_image(folder, image)
        manifests.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
    _json(folder / "oci-layout", {"imageLayoutVersion": "1.0.0"})
    _json(folder / "index.json", {"schemaVersion": 2, "manifests": manifests})


def _write_index(folder: Path, image: Image) -> dict[str, Any]:
    manifests = [
        {**_write_image(folder, one), "platform": {"os": "linux", "architecture": one.architecture}}
        for one in (image, *image.others)
    ]
    media_type = TYPE + "index.v1+json"
    return _blob(folder, {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}, media_type)


def _write_image(folder: Path, image: Image) -> dict[str, Any]:
    count = len(image.layers) if image.history is None else image.history
    config = {
        "architecture": image.architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": f"step {step}"} for step in range(count)],
    }
    layers = [_blob(folder, layer.blob, TYPE + "layer.v1.tar" + _SUFFIX[layer.compression]) for layer in image.layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": TYPE + "manifest.v1+json",
        "config": _blob(folder, config, TYPE + "config.v1+json"),
        "layers": layers,
        **({"annotations": image.annotations} if image.annotations else {}),
    }
    return _blob(folder, manifest, TYPE + "manifest.v1+json")


def _blob(folder: Path, content: bytes | dict[str, Any], media_type: str) -> dict[str, Any]:
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    digest = _digest(data)
    (folder / "blobs" / digest.replace(":", "/")).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, sort_keys=True))
