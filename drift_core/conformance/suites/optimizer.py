"""The rules of every `Optimizer`."""

import asyncio
import hashlib
import io
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import ClassVar

import pytest
from msgspec import Struct
from msgspec.structs import replace

from drift_core.api import Descriptor, Digest, Optimizer, StorageFull
from drift_core.conformance.rules import Suite

KIB, MIB = 1 << 10, 1 << 20
GZIP = 31
"""The ``wbits`` with which zlib reads and writes gzip."""

LIMIT = 60.0
"""Seconds after which a rule takes it that an optimizer hangs."""

TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
NO_LAYERS = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.empty.v1+json",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    "application/octet-stream",
    "text/plain",
    "",
)
Unpack = Callable[[Descriptor, bytes], bytes]


class Layer(Struct, frozen=True):
    """A layer, and the tar that is compressed in it."""

    descriptor: Descriptor
    content: bytes
    tar: bytes


class Buffer:
    """A `Sink` that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""
        await asyncio.sleep(0)
        self.written += chunk


class Drain:
    """A `Sink` that keeps nothing; from ``full`` bytes on there is no space."""

    def __init__(self, full: float = float("inf")) -> None:
        self.left = full

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""
        await asyncio.sleep(0)
        self.left -= len(chunk)
        if self.left < 0:
            raise StorageFull


def packed(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    """Yields the chunks as one gzip stream."""
    pack = zlib.compressobj(level, wbits=GZIP)
    for chunk in chunks:
        yield pack.compress(chunk)
    yield pack.flush()


def tar_of(seed: int, lines: int = 10_000) -> bytes:
    """Returns a tar with entries of every kind that images have."""
    draw, file = random.Random(seed), io.BytesIO()
    text = "".join(f"{draw.choice(('bin', 'lib', 'usr', 'etc'))} {draw.randrange(10_000)}\n" for _ in range(lines))
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in (
            ("usr/", tarfile.DIRTYPE, ""),
            ("usr/text", tarfile.REGTYPE, ""),
            ("usr/" + "long/" * 60 + "name", tarfile.REGTYPE, ""),
            ("usr/symbolic", tarfile.SYMTYPE, "text"),
            ("usr/hard", tarfile.LNKTYPE, "usr/text"),
            ("usr/.wh.removed", tarfile.REGTYPE, ""),
            ("usr/null", tarfile.CHRTYPE, ""),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mtime, entry.mode = kind, link, 1_700_000_000, 0o4755
            entry.pax_headers = {"SCHILY.xattr.user.drift": "\N{SNOWMAN}"}
            content = text.encode() if name == "usr/text" else b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def layer_of(tar: bytes) -> Layer:
    """Returns the tar as most builders would push it: by gzip, in a hurry."""
    content = b"".join(packed([tar], 1))
    return Layer(Descriptor(TAR_GZIP, Digest.of(content), len(content)), content, tar)


async def chunked(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yields the chunks, and lets other tasks run before each."""
    for chunk in content:
        await asyncio.sleep(0)
        yield chunk


def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yields the content in chunks."""
    return chunked(content[start : start + 32 * KIB] for start in range(0, len(content), 32 * KIB))


async def optimized(optimizer: Optimizer, layer: Layer) -> tuple[Descriptor, bytes]:
    """Returns the new form, which there has to be."""
    sink = Buffer()
    async with asyncio.timeout(LIMIT):
        made = await optimizer.optimize(layer.descriptor, pieces(layer.content), sink)
    assert made is not None, "the fixture `layer` has to be one that gains"
    return made, bytes(sink.written)


async def kept(optimizer: Optimizer, layer: Descriptor, content: AsyncIterator[bytes], sink: Buffer | Drain) -> bool:
    """Tells whether the original is kept: the optimizer declines, or raises anything."""
    async with asyncio.timeout(LIMIT):
        try:
            return await optimizer.optimize(layer, content, sink) is None
        except Exception:  # noqa: BLE001 - its failure keeps the original, whichever it is
            return True


def corrupt(layer: Layer) -> Iterator[bytes]:
    """Yields what is not the layer."""
    content, half = layer.content, len(layer.content) // 2
    yield b""
    yield content[:half]
    yield content[:-1]
    yield content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    yield content + b"more"
    yield random.Random(0).randbytes(len(content))
    yield layer.tar
    yield layer_of(tar_of(99)).content


class OptimizerSuite(Suite):
    """Needs the fixture ``optimizer``; the others have a default that it may override.

    ``layer`` is one that gains, by default a small gzip. ``unpack`` returns the tar of a new form, by default of one
    that is not compressed, or by gzip.
    """

    family = "optimizer"
    subject = "optimizer"
    large: ClassVar[int] = 128 * MIB
    """Bytes of a large layer, and of what a bomb unpacks to."""
    memory: ClassVar[int] = 8 * MIB
    """Bytes of memory that one layer may take, whatever its size."""

    @pytest.fixture
    def layer(self) -> Layer:
        """A layer that is compressed badly."""
        return layer_of(tar_of(0))

    @pytest.fixture
    def unpack(self) -> Unpack:
        """Returns the tar of a layer."""

        def unpack(descriptor: Descriptor, content: bytes) -> bytes:
            if descriptor.media_type.endswith("tar"):
                return content
            assert descriptor.media_type.endswith("gzip"), "override the fixture `unpack` for this media type"
            return zlib.decompress(content, GZIP)

        return unpack

    async def test_same_tar(self, optimizer: Optimizer, layer: Layer, unpack: Unpack) -> None:
        """The new form unpacks to the same tar, byte for byte: the diff ID in the image's configuration stays true."""
        made, content = await optimized(optimizer, layer)
        assert Digest.of(unpack(made, content)) == Digest.of(layer.tar)

    async def test_digest_and_size(self, optimizer: Optimizer, layer: Layer) -> None:
        """The descriptor has the digest and the size of what was written."""
        made, content = await optimized(optimizer, layer)
        assert (made.digest, made.size) == (Digest.of(content), len(content))
        assert made.media_type

    async def test_repeatable(self, optimizer: Optimizer, layer: Layer) -> None:
        """The same layer gives the same form, whichever node makes it."""
        first = await optimized(optimizer, layer)
        assert await optimized(optimizer, layer) == first

    async def test_its_own_form(self, optimizer: Optimizer, layer: Layer) -> None:
        """A form that is already as it should be is declined, or becomes the same again."""
        made, content = await optimized(optimizer, layer)
        assert await optimizer.optimize(made, pieces(content), Buffer()) in {None, made}

    @pytest.mark.parametrize("media_type", NO_LAYERS)
    async def test_other_media_types(self, optimizer: Optimizer, layer: Layer, media_type: str) -> None:
        """What it does not know to be a layer is declined, even if it looks like one."""
        other = replace(layer.descriptor, media_type=media_type)
        assert await optimizer.optimize(other, pieces(layer.content), Buffer()) is None

    async def test_annotations_are_kept(self, optimizer: Optimizer, layer: Layer) -> None:
        """The new form has the annotations of the layer, and perhaps more."""
        given = {"org.opencontainers.image.title": "layer.tar", "org.example.empty": ""}
        made, _ = await optimized(optimizer, Layer(replace(layer.descriptor, annotations=given), layer.content, b""))
        assert (made.annotations or {}).items() >= given.items()

    async def test_corrupt_layer(self, optimizer: Optimizer, layer: Layer) -> None:
        """Content that is damaged, cut short, or another's than the descriptor says, keeps the original."""
        for number, content in enumerate(corrupt(layer)):
            assert await kept(optimizer, layer.descriptor, pieces(content), Buffer()), number

    async def test_bomb(self, optimizer: Optimizer, layer: Layer) -> None:
        """A layer that unpacks to two hundred times its size keeps the original, in bounded memory."""
        # In a hurry, so that there is something to gain.
        content = b"".join(packed((bytes(MIB) for _ in range(self.large // MIB)), 1))
        bomb = replace(layer.descriptor, digest=Digest.of(content), size=len(content))
        tracemalloc.start()
        try:
            assert await kept(optimizer, bomb, pieces(content), Drain())
            assert tracemalloc.get_traced_memory()[1] < self.memory
        finally:
            tracemalloc.stop()

    async def test_large_layer(self, optimizer: Optimizer, layer: Layer) -> None:
        """A layer takes memory that does not grow with its size."""

        def content() -> Iterator[bytes]:
            return packed((random.Random(number).randbytes(MIB) for number in range(self.large // MIB)), 0)

        state, size = hashlib.sha256(), 0
        for chunk in content():
            state.update(chunk)
            size += len(chunk)
        large = replace(layer.descriptor, digest=f"sha256:{state.hexdigest()}", size=size)
        tracemalloc.start()
        try:
            await optimizer.optimize(large, chunked(content()), Drain())
            assert tracemalloc.get_traced_memory()[1] < self.memory
        finally:
            tracemalloc.stop()

    async def test_full_sink(self, optimizer: Optimizer, layer: Layer) -> None:
        """Where the new form cannot be written the original is kept, at whichever byte the space ends."""
        _, content = await optimized(optimizer, layer)
        for full in (0, 1, len(content) // 2, len(content) - 1):
            assert await kept(optimizer, layer.descriptor, pieces(layer.content), Drain(full))

    async def test_two_at_once(self, optimizer: Optimizer, layer: Layer, unpack: Unpack) -> None:
        """Workers on one layer, and on others beside it, each get their own."""
        layers = [layer, layer_of(tar_of(1)), layer] if layer.descriptor.media_type == TAR_GZIP else [layer] * 3
        alone = [unpack(*await optimized(optimizer, one)) for one in layers]
        together = await asyncio.gather(*(optimized(optimizer, one) for one in layers))
        assert [unpack(*made) for made in together] == alone

    async def test_cancelled(self, optimizer: Optimizer, layer: Layer, unpack: Unpack) -> None:
        """After a run that was cancelled at any point, the next is as good as any."""
        before = unpack(*await optimized(optimizer, layer))
        for steps in range(0, 30, 3):
            run = asyncio.create_task(optimized(optimizer, layer))
            for _ in range(steps):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait([run])
        assert unpack(*await optimized(optimizer, layer)) == before
