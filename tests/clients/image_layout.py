"""Builds OCI image layouts whose content depends on a seed alone, and compares moved content byte for byte."""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import zstandard

Descriptor = dict[str, Any]
Compression = Literal["gzip", "zstd", "none", "stored"]

TITLE = "org.opencontainers.image.ref.name"
MIB = 1024 * 1024


@dataclass(frozen=True)
class MediaTypes:
    """The media types of one family of formats."""

    manifest: str
    index: str
    config: str
    layer: dict[Compression, str]


OCI = MediaTypes(
    manifest="application/vnd.oci.image.manifest.v1+json",
    index="application/vnd.oci.image.index.v1+json",
    config="application/vnd.oci.image.config.v1+json",
    layer={
        "none": "application/vnd.oci.image.layer.v1.tar",
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "stored": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
    },
)
DOCKER = MediaTypes(
    manifest="application/vnd.docker.distribution.manifest.v2+json",
    index="application/vnd.docker.distribution.manifest.list.v2+json",
    config="application/vnd.docker.container.image.v1+json",
    layer={
        "none": "application/vnd.docker.image.rootfs.diff.tar",
        "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "stored": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
)
MANIFESTS = frozenset({OCI.manifest, OCI.index, DOCKER.manifest, DOCKER.index})


class Writable(Protocol):
    """What a layer can be written to."""

    def write(self, data: bytes, /) -> int:
        """Takes all of `data`."""


def digest_of(data: bytes) -> str:
    """Returns the sha256 digest in the form that descriptors carry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def noise(size: int, seed: int) -> bytes:
    """Returns `size` bytes that do not compress and depend on the seed alone."""
    return random.Random(seed).randbytes(size)


def layer_seed(seed: int, number: int) -> int:
    """Returns the seed of one layer's content in an image made from `seed`."""
    return seed * 1000 + number


class Noise(io.RawIOBase):
    """Reads as `size` bytes that do not compress, made as they are read."""

    def __init__(self, size: int, seed: int) -> None:
        """Starts at the first byte."""
        self._left = size
        self._random = random.Random(seed)

    def read(self, size: int = -1, /) -> bytes:
        """Returns the next `size` bytes, fewer at the end."""
        wanted = self._left if size < 0 else min(size, self._left)
        self._left -= wanted
        return self._random.randbytes(wanted)


class Hashing:
    """Passes bytes on while it hashes and counts them."""

    def __init__(self, target: Writable) -> None:
        """Passes everything on to `target`."""
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """Hashes, counts and passes on."""
        self._hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        """Does nothing: the target's owner flushes it."""

    @property
    def digest(self) -> str:
        """The digest of all that passed."""
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def compressing(target: IO[bytes] | Hashing, compression: Compression) -> Iterator[Writable]:
    """Yields what takes a tar stream and writes it compressed to `target`; "stored" is gzip that costs no time."""
    if compression == "none":
        yield target
    elif compression == "zstd":
        with zstandard.ZstdCompressor(level=3).stream_writer(target, closefd=False) as writer:  # type: ignore[arg-type]
            yield writer
    else:
        level = 0 if compression == "stored" else 6
        with gzip.GzipFile("", "wb", level, target, mtime=0) as writer:
            yield writer


class ImageLayout:
    """One OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/sha256`."""

    def __init__(self, folder: Path) -> None:
        """Opens the layout in `folder`, or starts an empty one."""
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        if not (folder / "index.json").exists():
            self._blobs.mkdir(parents=True)
            (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            self._write_index([])

    def _write_index(self, manifests: list[Descriptor]) -> None:
        document = {"schemaVersion": 2, "mediaType": OCI.index, "manifests": manifests}
        (self.folder / "index.json").write_text(json.dumps(document))

    def path(self, digest: str) -> Path:
        """Returns where the blob is or would be."""
        return self._blobs / digest.removeprefix("sha256:")

    def read(self, descriptor: Descriptor) -> bytes:
        """Returns the bytes that the descriptor names."""
        return self.path(descriptor["digest"]).read_bytes()

    def add(self, data: bytes, media_type: str, **fields: Any) -> Descriptor:
        """Stores a blob and returns its descriptor."""
        digest = digest_of(data)
        self.path(digest).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **fields}

    def add_document(self, document: dict[str, Any], media_type: str, **fields: Any) -> Descriptor:
        """Stores a JSON document and returns its descriptor."""
        return self.add(json.dumps(document, indent=2).encode(), media_type, **fields)

    def add_layer(
        self, path: str, size: int, seed: int, compression: Compression = "gzip", types: MediaTypes = OCI
    ) -> tuple[Descriptor, str]:
        """Stores a layer holding one file of noise; returns its descriptor and its diff id."""
        unfinished = self._blobs / "unfinished"
        with unfinished.open("wb") as file:
            packed = Hashing(file)
            with compressing(packed, compression) as compressed:
                plain = Hashing(compressed)
                with tarfile.open(fileobj=plain, mode="w|", bufsize=MIB, copybufsize=MIB) as tar:  # type: ignore[call-overload]
                    member = tarfile.TarInfo(path)
                    member.size = size
                    member.mode = 0o644
                    tar.addfile(member, Noise(size, seed))
        unfinished.rename(self.path(packed.digest))
        return {"mediaType": types.layer[compression], "digest": packed.digest, "size": packed.size}, plain.digest

    def add_image(
        self,
        seed: int,
        *,
        architecture: str = "amd64",
        layers: int = 3,
        layer_size: int = 20_000,
        compression: Compression = "gzip",
        types: MediaTypes = OCI,
    ) -> Descriptor:
        """Stores an image of some layers, each holding one file of its own; returns the manifest's descriptor."""
        made = [
            self.add_layer(f"opt/layer-{number}.bin", layer_size + number, layer_seed(seed, number), compression, types)
            for number in range(layers)
        ]
        config = {
            "created": "2024-01-01T00:00:00Z",
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/opt"], "Labels": {"seed": str(seed)}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
            "history": [
                {"created": "2024-01-01T00:00:00Z", "created_by": f"layer {number}"} for number in range(layers)
            ],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": self.add_document(config, types.config),
            "layers": [descriptor for descriptor, _ in made],
        }
        platform = {"architecture": architecture, "os": "linux"}
        return self.add_document(manifest, types.manifest, platform=platform)

    def add_index(self, manifests: Iterable[Descriptor], types: MediaTypes = OCI) -> Descriptor:
        """Stores an index, or a manifest list, and returns its descriptor."""
        document = {"schemaVersion": 2, "mediaType": types.index, "manifests": list(manifests)}
        return self.add_document(document, types.index)

    def add_multi_platform(self, seed: int, types: MediaTypes = OCI) -> Descriptor:
        """Stores an index of an amd64 and an arm64 image and returns its descriptor."""
        images = [
            self.add_image(seed + number, architecture=architecture, types=types)
            for number, architecture in enumerate(("amd64", "arm64"))
        ]
        return self.add_index(images, types)

    def tag(self, descriptor: Descriptor, name: str = "v1") -> Descriptor:
        """Makes `name` the only tag of this layout, and returns what it names."""
        self._write_index([{**descriptor, "annotations": {TITLE: name}}])
        return descriptor

    def root(self, name: str = "v1") -> Descriptor:
        """Returns what `name` tags; in a layout with no tags, the only descriptor that there is."""
        manifests: list[Descriptor] = json.loads((self.folder / "index.json").read_bytes())["manifests"]
        tagged = [found for found in manifests if found.get("annotations", {}).get(TITLE) == name]
        (descriptor,) = tagged or manifests
        return descriptor


def content(root: Descriptor, read: Callable[[Descriptor], bytes]) -> dict[str, bytes]:
    """Returns by digest the bytes of every manifest and blob that can be reached from `root`."""
    data = read(root)
    found = {root["digest"]: data}
    if root["mediaType"] in MANIFESTS:
        document = json.loads(data)
        children = [*document.get("manifests", []), *document.get("layers", [])]
        if "config" in document:
            children.append(document["config"])
        for child in children:
            found |= content(child, read)
    return found


def differences(expected: dict[str, bytes], actual: dict[str, bytes]) -> list[str]:
    """Says for every digest how the bytes that arrived differ from those that were sent, if they do."""
    told = []
    for digest in sorted(expected.keys() | actual.keys()):
        if digest not in actual:
            told.append(f"{digest} is missing")
        elif digest not in expected:
            told.append(f"{digest} was never sent")
        elif expected[digest] != actual[digest]:
            told.append(f"{digest} arrived as {len(actual[digest])} bytes with {digest_of(actual[digest])}")
    return told
