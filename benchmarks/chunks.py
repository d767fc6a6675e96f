"""Whether a chunk store would be worth it: `python -m benchmarks.chunks FOLDER`, of the layers of `benchmarks.savings`.

Chunks are cut by FastCDC (``pip install pyfastcdc``) from the tars, and each distinct one is packed by zstd. What was
pushed is a packed layer, so that it has to be packed again into the very same bytes: it is tried how often that works.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard
from msgspec import Struct
from pyfastcdc import FastCDC
from zlib_ng import zlib_ng

from benchmarks import forms
from benchmarks.savings import FRAME, Layer, at_rest, distinct, images
from benchmarks.several_nodes import show

KIB = 1 << 10
AVERAGES = (16 * KIB, 64 * KIB, 256 * KIB)
LEVEL = 3
REFERENCE = 36
"""Bytes for each chunk of a layer: its digest and size."""

RECORD = 48
"""Bytes for each distinct chunk: its digest, its place, and its two sizes."""

RANGE = 64 * KIB
RANGES = 2_000
PREFIX = 1 << 20
HEADER, TRAILER = 10, 8
"""Bytes of gzip around the packed ones (RFC 1952), without a name."""

GIB = 1 << 30


class Stored(Struct):
    """Layers as chunks; ``layers`` has the digests of each, ``seconds`` is the CPU that it took."""

    chunks: dict[bytes, tuple[bytes, int]]
    layers: list[list[bytes]]
    seconds: float

    @property
    def size(self) -> int:
        """All bytes that have to be kept."""
        references = REFERENCE * sum(map(len, self.layers))
        return sum(len(packed) + RECORD for packed, _ in self.chunks.values()) + references


def stored(layers: Sequence[Layer], average: int) -> Stored:
    """Cuts and packs."""
    began = time.process_time()
    cutter: Any = FastCDC(average)
    packer = zstandard.ZstdCompressor(level=LEVEL)
    chunks: dict[bytes, tuple[bytes, int]] = {}
    recipes: list[list[bytes]] = []
    for layer in layers:
        recipe = []
        for chunk in cutter.cut_buf(layer.path.read_bytes()):
            digest = hashlib.sha256(chunk.data).digest()
            recipe.append(digest)
            if digest not in chunks:
                chunks[digest] = packer.compress(chunk.data), len(chunk.data)
        recipes.append(recipe)
    return Stored(chunks, recipes, time.process_time() - began)


def read_back(store: Stored) -> float:
    """Unpacks every layer, and returns the CPU that it takes."""
    began = time.process_time()
    unpacker = zstandard.ZstdDecompressor()
    for recipe in store.layers:
        for digest in recipe:
            unpacker.decompress(store.chunks[digest][0])
    return time.process_time() - began


def unpacked_by_ranges(sizes: Sequence[Sequence[int]]) -> float:
    """Returns how many bytes are unpacked for each that is asked for, by random ranges of layers that are cut so."""
    chance = random.Random(0)  # noqa: S311
    bytes_unpacked = 0
    for _ in range(RANGES):
        parts = chance.choice(sizes)
        start = chance.randrange(max(sum(parts) - RANGE, 1))
        place = 0
        for size in parts:
            if place < start + RANGE and place + size > start:
                bytes_unpacked += size
            place += size
    return bytes_unpacked / (RANGES * RANGE)


def whole(layers: Sequence[Layer]) -> tuple[int, float, float]:
    """Returns the bytes of layers packed as they are, and the CPU to pack and to unpack them."""
    packer, unpacker = zstandard.ZstdCompressor(level=LEVEL), zstandard.ZstdDecompressor()
    size, packing, unpacking = 0, 0.0, 0.0
    for layer in layers:
        tar = layer.path.read_bytes()
        began = time.process_time()
        packed = packer.compress(tar)
        hashlib.sha256(packed)
        done = time.process_time()
        unpacker.decompress(packed)
        size, packing, unpacking = size + len(packed), packing + done - began, unpacking + time.process_time() - done
    return size, packing, unpacking


def table(layers: Sequence[Layer]) -> Iterator[list[str]]:
    """Yields the table of sizes and costs; all ratios are to whole layers in zstd of the same level."""
    size, packing, unpacking = whole(layers)
    tars = sum(layer.size for layer in layers)
    yield ["Store", "Bytes", "To whole layers", "CPU to store", "CPU to read", "Unpacked for each byte of a range"]
    yield [f"whole layers, zstd {LEVEL}", f"{size:,}", "1.00", "1.00", "1.00", "from the start"]
    frames = [[min(FRAME, layer.size - place) for place in range(0, layer.size, FRAME)] for layer in layers]
    packed = sum(map(at_rest, layers))
    yield ["packed at rest", f"{packed:,}", f"{packed / size:.2f}", "", "", f"{unpacked_by_ranges(frames):.1f}"]
    for average in AVERAGES:
        store = stored(layers, average)
        ratios = [store.size / size, store.seconds / packing, read_back(store) / unpacking]
        cut = [[store.chunks[digest][1] for digest in recipe] for recipe in store.layers]
        twice = 1 - sum(length for _, length in store.chunks.values()) / tars
        name = f"chunks of {average // KIB} KiB; {twice:.0%} of the bytes are there already"
        yield [name, f"{store.size:,}", *(f"{ratio:.2f}" for ratio in ratios), f"{unpacked_by_ranges(cut):.1f}"]


Pack = Callable[[bytes], bytes]


def makers() -> dict[str, Callable[[Path], bytes]]:
    """Returns what layers are packed by: the libraries and programs that are here."""

    def program(*command: str) -> Callable[[Path], bytes]:
        return lambda tar: subprocess.run([*command, str(tar)], stdout=subprocess.PIPE, check=True).stdout

    found: dict[str, Callable[[Path], bytes]] = {f"gzip -{n}": program("gzip", f"-{n}", "-n", "-c") for n in (1, 6, 9)}
    if shutil.which("pigz"):
        found["pigz"] = program("pigz", "-n", "-c")
    found["zlib 6"] = lambda tar: zlib.compress(tar.read_bytes(), 6, 31)
    found["Go's, by skopeo"] = by_skopeo
    return found


def by_skopeo(tar: Path) -> bytes:
    """Returns a tar as skopeo packs it, as podman and buildah do by the same library."""
    with tempfile.TemporaryDirectory(dir=tar.parent) as name:
        folder = Path(name)
        source, to = forms.image_of(forms.Layer(tar, "tar", tar, folder)), folder / "to"
        command = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-compress", "--dest-compress-format", "gzip"]
        subprocess.run([*command, f"oci:{source}", f"oci:{to}:tag"], check=True)
        blobs = [path.read_bytes() for path in (to / "blobs" / "sha256").iterdir()]
    return next(blob for blob in blobs if blob[:2] == b"\x1f\x8b")


def candidates() -> dict[str, Pack]:
    """Returns what is tried to make the same bytes again: the two libraries and gzip itself, at all levels."""

    def by(library: Any, level: int, memory: int) -> Pack:
        def packed(tar: bytes) -> bytes:
            packer = library.compressobj(level, zlib.DEFLATED, -15, memory)
            return bytes(packer.compress(tar) + packer.flush())

        return packed

    def by_gzip(level: int) -> Pack:
        command = ["gzip", f"-{level}", "-n", "-c"]

        def packed(tar: bytes) -> bytes:
            done = subprocess.run(command, input=tar, stdout=subprocess.PIPE, check=True)
            return done.stdout[HEADER:-TRAILER]

        return packed

    found: dict[str, Pack] = {}
    for level in range(1, 10):
        found[f"gzip -{level}"] = by_gzip(level)
        for memory in (8, 9):
            found[f"zlib {level}, {memory}"] = by(zlib, level, memory)
            found[f"zlib-ng {level}, {memory}"] = by(zlib_ng, level, memory)
    return found


def remade(tar: bytes, blob: bytes) -> str | None:
    """Returns what makes the bytes of a blob again, None for nothing; only who makes the beginning is tried whole."""
    body = blob[HEADER:-TRAILER]
    for name, packed in candidates().items():
        start = packed(tar[:PREFIX])
        # The end of the beginning is not that of the whole.
        if body.startswith(start[: len(start) // 2]) and packed(tar) == body:
            return name
    return None


def delta(tar: bytes, blob: bytes, folder: Path) -> float:
    """Returns how large the difference to what zlib makes is, to the blob itself."""
    (folder / "ours").write_bytes(zlib.compress(tar, 6, 31))
    (folder / "theirs").write_bytes(blob)
    command = ["zstd", "-q", "-f", "-19", f"--patch-from={folder / 'ours'}"]
    subprocess.run([*command, str(folder / "theirs"), "-o", str(folder / "delta")], check=True)
    return (folder / "delta").stat().st_size / len(blob)


def rebuilt(layers: Sequence[Layer], folder: Path) -> Iterator[list[str]]:
    """Yields the table of whose layers can be packed again into the same bytes."""
    yield ["Packed by", "Made again", "By", "Else the difference, to the blob", "CPU to make again, to unpacking zstd"]
    for name, make in makers().items():
        ways: list[str] = []
        deltas: list[float] = []
        ratios: list[float] = []
        for layer in layers:
            tar, blob = layer.path.read_bytes(), make(layer.path)
            way = remade(tar, blob)
            if way is None:
                deltas.append(delta(tar, blob, folder))
                continue
            ways.append(way)
            if not way.startswith("gzip"):
                ratios.append(_dearer(tar, candidates()[way]))
        count = f"{len(ways)} of {len(layers)}"
        dearer = f"{sum(ratios) / len(ratios):.0f}" if ratios else ""
        left = f"{sum(deltas) / len(deltas):.2f}" if deltas else ""
        yield [name, count, ", ".join(sorted(set(ways))), left, dearer]


def _dearer(tar: bytes, packed: Pack) -> float:
    began = time.process_time()
    packed(tar)
    done = time.process_time()
    zstd = zstandard.ZstdCompressor(level=LEVEL).compress(tar)
    between = time.process_time()
    zstandard.ZstdDecompressor().decompress(zstd)
    return (done - began) / (time.process_time() - between)


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chunks", description=__doc__)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--every", type=int, default=4, help="which layers are packed again: one in so many")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as name:
        folder = Path(name)
        layers = distinct(images(chosen.packages, folder))
        show(table(layers))
        print()
        show(rebuilt(layers[:: chosen.every], folder))


if __name__ == "__main__":
    main()
