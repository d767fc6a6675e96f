"""How much space each method saves: `python -m benchmarks.savings FOLDER`, of images made of Debian's packages.

``FOLDER/RELEASE/GROUP/*.deb`` are packages, as ``apt-get download`` fetches them; a group becomes a layer, a release an
image. A release that is named ``X-later`` is X with its updates: an image with the layers of X and, above them, each
group that has changed, as an upgrade makes it. It is pushed by another builder, with ``gzip -9`` instead of ``-6``.
``python -m benchmarks.savings FOLDER --fetch`` fetches them from the archives that this Debian knows.
"""

import argparse
import asyncio
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

from drift_optimize.confined.jobs import Form, Limits, pack, squash
from drift_storage_packed.codecs import CODECS
from drift_storage_packed.container import index_size
from msgspec import Struct

from benchmarks.forms import OCI, at_equal_rank
from benchmarks.several_nodes import show
from drift_core.api import Descriptor

LATER = "-later"
FRAME = 256 << 10
LIMITS = Limits(seconds=3600)
FORMS = (
    Form("gzip", 6),
    Form("gzip", 9),
    Form("zstd", 3),
    Form("zstd", 9),
    Form("zstd", 19),
    Form("zstd-chunked", 3),
    Form("zstd-chunked", 9),
)
GROUPS = {
    "base": "bash coreutils libc6 dpkg perl-base tar",
    "tls": "openssl libssl1.1 libssl3 libssl3t64 curl libcurl4 libcurl4t64 ca-certificates",
    "python": " ".join(f"python3.{n}-minimal libpython3.{n}-minimal libpython3.{n}-stdlib" for n in (9, 11, 13)),
    "web": "nginx nginx-common nginx-core",
    "data": "redis-server redis-tools sqlite3 libsqlite3-0",
    "vim": "vim vim-common",
}
RELEASES = {
    "bullseye": ("bullseye",),
    "bullseye-later": ("bullseye-security", "bullseye"),
    "bookworm": ("bookworm",),
    "bookworm-later": ("bookworm-security", "bookworm"),
    "trixie": ("trixie",),
    "trixie-later": ("trixie-security", "trixie"),
    "sid": ("sid",),
}
"""The suites of each, those first whose version counts."""


class Layer(Struct, frozen=True):
    """A layer's tar, with its digest and size."""

    path: Path
    diff_id: str
    size: int


class Image(Struct, frozen=True):
    """The layers of an image, the lowest first, and the level of gzip with which they were pushed."""

    name: str
    layers: tuple[Layer, ...]
    level: int


def fetch(folder: Path) -> None:
    """Downloads the packages. The lists of all suites of `RELEASES` have to be known to apt."""
    names = [name for group in GROUPS.values() for name in group.split()]
    known: dict[tuple[str, str], str] = {}
    listed = subprocess.run(["apt-cache", "madison", *names], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name, version, source = (part.strip() for part in line.split("|"))
        known.setdefault((name, source.split()[1].partition("/")[0]), version)
    for release, suites in RELEASES.items():
        for group, members in GROUPS.items():
            place = folder / release / group
            place.mkdir(parents=True, exist_ok=True)
            versions = {
                name: [known[name, suite] for suite in suites if (name, suite) in known] for name in members.split()
            }
            wanted = [f"{name}={found[0]}" for name, found in versions.items() if found]
            subprocess.run(["apt-get", "download", *wanted], cwd=place, check=True)


def images(packages: Path, folder: Path) -> list[Image]:
    """Makes the layers of all images in a folder."""
    made = {release.name: _groups(release, folder) for release in sorted(packages.iterdir())}
    found: list[Image] = []
    for name, groups in made.items():
        beneath = made.get(name.removesuffix(LATER), {}) if name.endswith(LATER) else {}
        changed = [layer for group, layer in groups.items() if layer != beneath.get(group)]
        found.append(Image(name, (*beneath.values(), *changed), 9 if beneath else 6))
    return found


def _groups(release: Path, folder: Path) -> dict[str, Layer]:
    return {group.name: _layer(sorted(group.glob("*.deb")), folder) for group in sorted(release.iterdir())}


def _layer(packages: Sequence[Path], folder: Path) -> Layer:
    """Writes one tar of what several packages hold, each folder once."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        seen: set[str] = set()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out:
            for package in packages:
                for member, content in _members(package):
                    if member.name not in seen:
                        out.addfile(member, content)
                    seen.add(member.name)
    path = Path(file.name)
    diff_id = hashlib.sha256(path.read_bytes()).hexdigest()
    return Layer(
        path.rename(folder / f"{diff_id}.tar"), f"sha256:{diff_id}", (folder / f"{diff_id}.tar").stat().st_size
    )


def _members(package: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar,
    ):
        for member in tar:
            yield member, tar.extractfile(member) if member.isfile() else None


def packed_size(layer: Layer, form: Form) -> int:
    """Returns how large a form of a layer is, which the product's own process makes."""

    async def content() -> AsyncIterator[bytes]:
        with layer.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk

    async def run() -> int:
        described = Descriptor(OCI, layer.diff_id, layer.size)
        async with pack(described, content(), form, LIMITS, layer.path.parent) as packed:
            return packed.layer.size

    return asyncio.run(run())


def squashed(image: Image, folder: Path) -> Layer:
    """Returns the one layer that an image is squashed to."""
    tars = [layer.path.open("rb") for layer in image.layers]
    path = folder / f"{image.name}.squashed"
    with path.open("w+b") as out:
        made = asyncio.run(squash(tars, out, LIMITS))
    for tar in tars:
        tar.close()
    return Layer(path, made.diff_id, made.size)


def at_rest(layer: Layer) -> int:
    """Returns how large a tar is in the packed store, with its default settings."""
    packer = CODECS["zstd"].packer(3)
    with layer.path.open("rb") as file:
        frames = sum(len(packer(frame)) for frame in iter(lambda: file.read(FRAME), b""))
    return frames + index_size(layer.size, FRAME)


def distinct(images: Sequence[Image]) -> list[Layer]:
    """Returns every layer once."""
    return list({layer.diff_id: layer for image in images for layer in image.layers}.values())


def table(images: Sequence[Image], folder: Path) -> Iterator[list[str]]:
    """Yields the rows, the head first."""
    layers = distinct(images)
    blobs = {(layer.diff_id, image.level): layer for image in images for layer in image.layers}
    sizes = {form: {layer.diff_id: packed_size(layer, form) for layer in layers} for form in FORMS[:2]}
    pushed = sum(sizes[Form("gzip", level)][diff_id] for diff_id, level in blobs)

    def row(method: str, count: int, size: int) -> list[str]:
        return [method, str(count), f"{size:,}", f"{size / pushed:.2f}"]

    tars = sum(layer.size for layer in layers)
    yield ["Method", "Blobs", "Bytes", "To what was pushed"]
    yield row("as pushed: gzip 6, updated images gzip 9", len(blobs), pushed)
    best = sum(min(sizes[form][layer.diff_id] for form in FORMS[:2]) for layer in layers)
    yield row("one blob for each diff_id", len(layers), best)
    for form in FORMS:
        size = sum((sizes.get(form) or {one.diff_id: packed_size(one, form) for one in layers}).values())
        yield row(f"the same, {form.name} {form.level}", len(layers), size)
    single = [squashed(image, folder) for image in images]
    zstd = Form("zstd", 3)
    yield row("each image squashed, zstd 3", len(images), sum(packed_size(layer, zstd) for layer in single))
    own = [sum(packed_size(layer, zstd) for layer in image.layers) for image in images]
    yield row("each image for itself, zstd 3, not squashed", sum(len(one.layers) for one in images), sum(own))
    yield row("tars that are not packed", len(layers), tars)
    yield row("tars, packed at rest (zstd 3, frames of 256 KiB)", len(layers), sum(map(at_rest, layers)))


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings", description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--fetch", action="store_true")
    chosen = parser.parse_args()
    if chosen.fetch:
        fetch(chosen.packages)
    at_equal_rank()
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as name:
        made = images(chosen.packages, Path(name))
        layers = list(chain(*(image.layers for image in made)))
        print(f"{len(made)} images of {len(layers)} layers, {len(set(layers))} of them distinct\n")
        show(table(made, Path(name)))


if __name__ == "__main__":
    main()
