"""The rules of every `Optimizer`."""

import asyncio
import gzip
import hashlib
import io
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import ClassVar, Self

import pytest

from drift_core.api import Descriptor, Digest, Optimizer, RegistryError, Sink, StorageFull, Unavailable
from drift_core.conformance.rules import Suite

MIB = 1 << 20
LIMIT = 60.0
"""Seconds within which any layer of these rules is done with."""

MEMORY = 24 * MIB
"""Most bytes of memory for one layer."""

TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = f"{TAR}+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
UNKNOWN = (
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.empty.v1+json",
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    "application/vnd.example.model.v1+gzip",
    "application/octet-stream",
    "application/gzip",
    "",
)
Layer = tuple[Descriptor, bytes]
Unpack = Callable[[str, bytes], bytes]


class Kept:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.content = bytearray()

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""
        await asyncio.sleep(0)
        self.content += chunk


class Forgotten:
    """A sink that keeps nothing, so that only the optimizer uses memory."""

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""


class Full:
    """A sink with space for ``left`` bytes."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""
        self.left -= len(chunk)
        if self.left < 0:
            raise StorageFull


class OneAtATime:
    """A sink that notices when it is written to while it still writes."""

    def __init__(self) -> None:
        self.writing = 0
        self.most = 0

    async def write(self, chunk: bytes) -> None:  # noqa: ARG002
        """See `Sink`."""
        self.writing += 1
        self.most = max(self.most, self.writing)
        for _ in range(3):
            await asyncio.sleep(0)
        self.writing -= 1


@cache
def tar(seed: int = 1) -> bytes:
    """Returns a tar with all that a layer may hold; some of it can be compressed, some not."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.randint(2, 9)).hex() for _ in range(500)]
    names = ("etc", "etc/.wh.gone", "usr/" + "long/" * 40 + "name", "etc/\N{SNOWMAN}", "noise")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, name in enumerate(names):
            text = " ".join(chance.choices(words, k=2500)).encode()
            content = b"" if number < 2 else chance.randbytes(50_000) if name == "noise" else text
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid = len(content), 0o4755 - number, number
            entry.type = tarfile.DIRTYPE if name == "etc" else tarfile.REGTYPE
            entry.pax_headers = {"SCHILY.xattr.user.number": str(number), "mtime": f"17000.{number}"}
            archive.addfile(entry, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo(f"special-{kind.decode()}")
            entry.type, entry.linkname, entry.devmajor = kind, "noise", 5
            archive.addfile(entry)
    return file.getvalue()


def layer_of(content: bytes, media_type: str = TAR_GZIP) -> Layer:
    """Returns a layer with its descriptor."""
    annotations = {"org.opencontainers.image.title": "layer", "org.example.\N{SNOWMAN}": ""}
    return Descriptor(media_type, Digest.of(content), len(content), annotations=annotations), content


def packed(content: bytes, level: int = 1) -> bytes:
    """Returns one member of gzip, always the same."""
    return gzip.compress(content, level, mtime=0)


async def chunks(content: bytes, size: int = 64 * 1024, error: Exception | None = None) -> AsyncIterator[bytes]:
    """Yields the content as a store would; ``error`` is raised behind it."""
    for start in range(0, len(content), size):
        await asyncio.sleep(0)
        yield content[start : start + size]
    if error:
        raise error


async def optimized(optimizer: Optimizer, layer: Layer, size: int = 64 * 1024) -> tuple[Descriptor | None, bytes]:
    """Returns the new form's descriptor, and what was written."""
    descriptor, content = layer
    sink = Kept()
    async with asyncio.timeout(LIMIT):
        made = await optimizer.optimize(descriptor, chunks(content, size), sink)
    return made, bytes(sink.content)


async def attempt(
    optimizer: Optimizer, descriptor: Descriptor, content: AsyncIterator[bytes], sink: Sink
) -> Descriptor | None:
    """Returns the new form's descriptor; an error that keeps the original counts as None."""
    try:
        async with asyncio.timeout(LIMIT):
            return await optimizer.optimize(descriptor, content, sink)
    except RegistryError:
        return None


def damaged() -> Iterator[tuple[str, bytes]]:
    """Yields layers that no reader of gzip takes, by what is wrong with them."""
    good = packed(tar())
    middle = len(good) // 2
    yield "empty", b""
    yield "cut in its header", good[:5]
    yield "cut in the middle", good[:middle]
    yield "cut before its checksum", good[:-8]
    yield "cut before its last byte", good[:-1]
    yield "a bit is wrong", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    yield "its checksum is wrong", good[:-8] + bytes(4) + good[-4:]
    yield "its length is wrong", good[:-4] + bytes(4)
    yield "something else follows", good + b"something else"
    yield "its second member is cut", good + good[:middle]
    yield "not gzip at all", tar()


def paper(size: int) -> bytes:
    """Returns ``size`` bytes of a tar in gzip, about a thirtieth of the size; made and kept in little memory."""
    chance = random.Random(2)
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    made = bytearray()
    for _ in range(size // (64 * 1024)):
        made += packer.compress(chance.randbytes(1024) * 64)
    return bytes(made + packer.flush())


def bomb(size: int) -> bytes:
    """Returns gzip that unpacks to ``size`` zeros, a thousand times what it is; in members, so that it is made fast."""
    return packed(bytes(MIB), 9) * (size // MIB)


class OptimizerSuite(Suite):
    """Needs the fixture ``optimizer``, configured so that no layer is too small for it.

    ``layers`` are those of which at least one must get a new form; override it where the optimizer takes no tar, or no
    gzip. ``unpack`` takes a media type and bytes and returns the tar; override it for more than gzip.
    """

    family = "optimizer"
    subject = "optimizer"
    large: ClassVar[int] = 128 * MIB
    """Bytes to which the large layer unpacks."""

    bomb: ClassVar[int] = 512 * MIB
    """Bytes to which the bomb would unpack."""

    @pytest.fixture
    def layers(self) -> list[Layer]:
        """A layer that was packed in haste, one in several members, one not packed, and one by Docker's name."""
        half = len(tar(2)) // 2
        return [
            layer_of(packed(tar(1))),
            layer_of(packed(tar(2)[:half]) + packed(tar(2)[half:])),
            layer_of(tar(3), TAR),
            layer_of(packed(tar(4)), DOCKER_TAR_GZIP),
        ]

    @pytest.fixture
    def unpack(self) -> Unpack:
        """Knows gzip, what is not packed, and zstd where the library is installed that packs it."""

        def unpack(media_type: str, content: bytes) -> bytes:
            if media_type.endswith("gzip"):
                return gzip.decompress(content)
            if media_type.endswith("tar"):
                return content
            if media_type.endswith("zstd"):
                zstandard = pytest.importorskip("zstandard")
                reader = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
                return bytes(reader.read())
            return pytest.fail(f"the fixture unpack does not know {media_type}")

        return unpack

    async def test_same_content(self, optimizer: Optimizer, layers: list[Layer], unpack: Unpack) -> None:
        """Unpacked, the new form is byte for byte the layer: the same tar, with the same entries and diff ID."""
        made = 0
        for layer in layers:
            original = unpack(layer[0].media_type, layer[1])
            for size in (997, 64 * 1024, len(layer[1])):
                form, content = await optimized(optimizer, layer, size)
                if form is not None:
                    assert unpack(form.media_type, content) == original
                    made += 1
        assert made

    async def test_digest_and_size(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """The descriptor has the digest and the size of what was written."""
        for layer in layers:
            form, content = await optimized(optimizer, layer)
            if form is not None:
                assert Digest.parse(form.digest) == Digest.of(content, Digest.parse(form.digest).algorithm)
                assert form.size == len(content)

    async def test_annotations(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """The annotations of the layer are kept; others may be added."""
        for layer in layers:
            form, _ = await optimized(optimizer, layer)
            if form is not None:
                assert (layer[0].annotations or {}).items() <= (form.annotations or {}).items()

    async def test_no_gain(self, optimizer: Optimizer) -> None:
        """Where no form is smaller the original is kept."""
        noise = random.Random(3).randbytes(300_000)
        for layer in (layer_of(packed(noise, 9)), layer_of(noise, TAR), layer_of(b"", TAR)):
            form, _ = await optimized(optimizer, layer)
            assert form is None or form.size < layer[0].size

    async def test_idempotent(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """What the optimizer made it leaves as it is."""
        for layer in layers:
            form, content = await optimized(optimizer, layer)
            if form is not None:
                again, _ = await optimized(optimizer, (form, content))
                assert again is None or again.digest == form.digest

    async def test_repeatable(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """The same layer gives the same form each time, whichever node makes it, and is stored once."""
        for layer in layers:
            first = await optimized(optimizer, layer)
            assert await optimized(optimizer, layer) == first

    async def test_unknown_media_types(self, optimizer: Optimizer) -> None:
        """What is not a layer by its media type is declined, even if it could be unpacked."""
        for media_type in UNKNOWN:
            form, _ = await optimized(optimizer, layer_of(packed(tar()), media_type))
            assert form is None, media_type

    async def test_damaged(self, optimizer: Optimizer) -> None:
        """A layer that is damaged is kept as it is, and none of its parts gets a new form."""
        for damage, content in damaged():
            descriptor, _ = layer_of(content)
            assert await attempt(optimizer, descriptor, chunks(content), Kept()) is None, damage

    async def test_other_content(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """Content that is not what the descriptor says gets no new form: it would be served for something else."""
        for descriptor, content in layers:
            others = (
                Descriptor(descriptor.media_type, Digest.of(b"other"), descriptor.size),
                Descriptor(descriptor.media_type, f"sha512:{hashlib.sha512(b'other').hexdigest()}", descriptor.size),
                Descriptor(descriptor.media_type, descriptor.digest, descriptor.size + 1),
            )
            for other in others:
                assert await attempt(optimizer, other, chunks(content), Kept()) is None

    async def test_large_layer(self, optimizer: Optimizer) -> None:
        """A layer of any size passes through in a bounded amount of memory."""
        descriptor, content = layer_of(paper(self.large))
        with _Memory() as memory:
            await attempt(optimizer, descriptor, chunks(content), Forgotten())
        assert memory.peak < MEMORY

    async def test_bomb(self, optimizer: Optimizer) -> None:
        """What unpacks to a thousand times its size is kept as it is, in a bounded amount of memory and time."""
        descriptor, content = layer_of(bomb(self.bomb))
        with _Memory() as memory:
            assert await attempt(optimizer, descriptor, chunks(content), Forgotten()) is None
        assert memory.peak < MEMORY

    async def test_one_write_at_a_time(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """The sink is written to again only when it has taken what it was given: it holds the optimizer back."""
        for descriptor, content in layers:
            sink = OneAtATime()
            await attempt(optimizer, descriptor, chunks(content), sink)
            assert sink.most <= 1

    async def test_source_raises(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """Where the content cannot be read to its end there is no new form."""
        for descriptor, content in layers:
            for read in (0, len(content) // 2, len(content)):
                source = chunks(content[:read], error=Unavailable("the store is gone"))
                assert await attempt(optimizer, descriptor, source, Kept()) is None

    async def test_sink_raises(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """Where the new form cannot be written there is none, at whichever byte the space ends."""
        for descriptor, content in layers:
            _, written = await optimized(optimizer, (descriptor, content))
            for space in {0, 1, len(written) // 2, len(written) - 1} if written else ():
                assert await attempt(optimizer, descriptor, chunks(content), Full(space)) is None

    async def test_many_workers(self, optimizer: Optimizer, layers: list[Layer], unpack: Unpack) -> None:
        """Workers on one layer, and on others beside it, each make the whole form of their own."""
        work = [*layers, *layers]
        alone = [await optimized(optimizer, layer) for layer in work]
        together = await asyncio.gather(*(optimized(optimizer, layer) for layer in work))
        for (expected, original), (form, content) in zip(alone, together, strict=True):
            assert (form is None) == (expected is None)
            if form is not None and expected is not None:
                assert unpack(form.media_type, content) == unpack(expected.media_type, original)

    async def test_cancelled(self, optimizer: Optimizer, layers: list[Layer]) -> None:
        """Work that is cancelled ends, writes nothing more, and keeps the next from nothing."""
        descriptor, content = layers[0]
        before = await attempt(optimizer, descriptor, chunks(content), Kept())
        for steps in range(0, 60, 4):
            sink = Kept()
            work = asyncio.create_task(attempt(optimizer, descriptor, chunks(content, 4096), sink))
            for _ in range(steps):
                await asyncio.sleep(0)
            work.cancel()
            done, _ = await asyncio.wait([work], timeout=LIMIT)
            written = len(sink.content)
            assert done
            after = await attempt(optimizer, descriptor, chunks(content), Kept())
            assert (after is None) == (before is None)
            assert len(sink.content) == written


class _Memory:
    """Measures the most memory that Python took while it was entered, in bytes."""

    peak = 0

    def __enter__(self) -> Self:
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
