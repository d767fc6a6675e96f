"""An `Optimizer` that packs tar layers anew, by gzip at its highest level."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from drift_core.api import ALGORITHMS, Descriptor, Digest, Sink

TAR = "application/vnd.oci.image.layer.v1.tar"
TAR_GZIP = f"{TAR}+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
GZIP = 16 + zlib.MAX_WBITS
"""Makes zlib read and write the format of RFC 1952, with its checksum, without a time."""

PIECE = 256 * 1024
"""Most bytes that are unpacked at a time."""

SLACK = 4 << 20
"""Bytes that any layer may unpack to."""


class DamagedError(Exception):
    """The layer cannot be unpacked, or is not worth it."""


class Tally:
    """Counts and hashes bytes that pass."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self.hash = ALGORITHMS[algorithm].new()
        self.algorithm = algorithm
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Takes in more bytes."""
        self.hash.update(chunk)
        self.size += len(chunk)

    @property
    def digest(self) -> Digest:
        """The digest of everything so far."""
        return Digest(f"{self.algorithm}:{self.hash.hexdigest()}")


class GzipOptimizer:
    """Gives a layer back as gzip where that makes it smaller.

    What unpacks to more than `SLACK`, and to more than ``ratio`` times its size, is left as it is.
    """

    def __init__(self, ratio: int = 100) -> None:
        self.ratio = ratio

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        """See `Optimizer`."""
        if not self.reads(layer.media_type):
            return None
        arrived, written = Tally(Digest.parse(layer.digest).algorithm), Tally()
        packer = self.packer(layer)
        try:
            async for piece in self.unpacked(layer, self.received(content, arrived)):
                await self.put(sink, written, packer.compress(piece))
                # Where others get their turn: a real one packs in a thread.
                await asyncio.sleep(0)
            await self.put(sink, written, packer.flush())
        except (DamagedError, zlib.error):
            return None
        if not self.is_genuine(layer, arrived) or not self.gains(layer, written):
            return None
        return self.described(layer, written)

    def reads(self, media_type: str) -> bool:
        """Tells whether this is a layer that can be unpacked."""
        return media_type in {TAR, TAR_GZIP, DOCKER_TAR_GZIP}

    def packer(self, layer: Descriptor) -> "zlib._Compress":
        """Returns what packs the new form; the same bytes give the same form, and every layer is packed alike."""
        del layer
        return zlib.compressobj(9, zlib.DEFLATED, GZIP)

    async def received(self, content: AsyncIterator[bytes], arrived: Tally) -> AsyncIterator[bytes]:
        """Passes the content on, and tallies it."""
        async for chunk in content:
            arrived.add(chunk)
            yield chunk

    def unpacked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the tar. Raises `DamagedError`."""
        return content if layer.media_type == TAR else self.gunzip(content)

    async def gunzip(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields what gzip packed: any number of members (RFC 1952 section 2.2), in bounded pieces."""
        unpacker = zlib.decompressobj(GZIP)
        received = produced = 0
        async for chunk in content:
            received += len(chunk)
            rest, more = chunk, bool(chunk)
            while more:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(GZIP)
                piece = unpacker.decompress(rest, PIECE)
                rest = unpacker.unconsumed_tail or unpacker.unused_data
                more = bool(rest) or (len(piece) == PIECE and not unpacker.eof)
                produced += len(piece)
                self.check_ratio(received, produced)
                yield piece
        self.check_end(unpacker)

    def check_ratio(self, received: int, produced: int) -> None:
        """Raises `DamagedError` for a bomb."""
        if produced > max(SLACK, self.ratio * received):
            raise DamagedError

    def check_end(self, unpacker: "zlib._Decompress") -> None:
        """Raises `DamagedError` for a layer that was cut."""
        if not unpacker.eof:
            raise DamagedError

    async def put(self, sink: Sink, written: Tally, chunk: bytes) -> None:
        """Writes to the sink, and tallies it; packers often give nothing."""
        if chunk:
            written.add(chunk)
            await sink.write(chunk)

    def is_genuine(self, layer: Descriptor, arrived: Tally) -> bool:
        """Tells whether the content was what the descriptor says."""
        return (arrived.digest, arrived.size) == (layer.digest, layer.size)

    def gains(self, layer: Descriptor, written: Tally) -> bool:
        """Tells whether the new form is better."""
        return written.size < layer.size

    def described(self, layer: Descriptor, written: Tally) -> Descriptor:
        """Returns the descriptor of the new form."""
        return Descriptor(
            TAR_GZIP, written.digest, written.size, layer.artifact_type, layer.annotations, layer.platform
        )
