"""An `Optimizer` that compresses gzip layers again, and better."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Protocol

from drift_core.api import ALGORITHMS, Descriptor, Digest, DigestInvalid, Hash, Sink

GZIP = 31
"""The ``wbits`` with which zlib reads and writes gzip."""

PIECE = 64 * 1024
"""Bytes that are unpacked at a time, whatever they were packed into."""

MEDIA_TYPES = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    }
)


class LayerError(Exception):
    """A layer that is not what its descriptor says, or unpacks to more than is reasonable."""


class Packer(Protocol):
    """What `zlib.compressobj` returns."""

    def compress(self, data: bytes, /) -> bytes:
        """Takes in more bytes, and returns some that are ready."""
        ...

    def flush(self) -> bytes:
        """Returns the rest."""
        ...


class GzipOptimizer:
    """Compresses as well as zlib can; refuses what unpacks to more than ``ratio`` times its size."""

    media_types = MEDIA_TYPES
    ratio = 100

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        """See `Optimizer`."""
        if layer.media_type not in self.media_types:
            return None
        written = Written(sink)
        pack = self.packer()
        async for piece in self.unpacked(layer, self.checked(layer, content)):
            await self.write(written, pack.compress(piece))
        await self.write(written, pack.flush())
        return self.described(layer, written) if self.gains(layer, written) else None

    def packer(self) -> "Packer":
        """Returns what compresses one layer."""
        return zlib.compressobj(9, wbits=GZIP)

    def gains(self, layer: Descriptor, written: "Written") -> bool:
        """Tells whether the new form is worth keeping."""
        return written.size < layer.size

    async def write(self, written: "Written", chunk: bytes) -> None:
        """Writes a part of the new form."""
        await written.write(chunk)

    def described(self, layer: Descriptor, written: "Written") -> Descriptor:
        """Returns the descriptor of the new form."""
        digest = f"sha256:{written.hash.hexdigest()}"
        return Descriptor(
            layer.media_type, digest, written.size, layer.artifact_type, layer.annotations, layer.platform
        )

    async def checked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the content. Raises `DigestInvalid` at its end where it is not the layer's."""
        digest = Digest.parse(layer.digest)
        state = ALGORITHMS[digest.algorithm].new()
        async for chunk in content:
            state.update(chunk)
            yield chunk
        if state.hexdigest() != digest.encoded:
            raise DigestInvalid(digest=layer.digest)

    async def unpacked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yields the tar. Raises `LayerError`."""
        unpack, size = zlib.decompressobj(GZIP), 0
        async for chunk in content:
            rest = chunk
            while rest:
                if unpack.eof:
                    unpack = zlib.decompressobj(GZIP)  # RFC 1952 section 2.2: one member follows another
                try:
                    piece = unpack.decompress(rest, PIECE)
                except zlib.error as error:
                    raise LayerError(str(error)) from error
                size += len(piece)
                if size > self.ratio * layer.size:
                    message = f"unpacks to more than {self.ratio} times its size"
                    raise LayerError(message)
                yield piece
                await asyncio.sleep(0)
                rest = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
        if not unpack.eof:
            raise LayerError("ends too early")


class Written:
    """Counts and hashes what goes into a sink."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.size = 0
        self.hash: Hash = ALGORITHMS["sha256"].new()

    async def write(self, chunk: bytes) -> None:
        """See `Sink`."""
        if chunk:
            await self.sink.write(chunk)
            self.hash.update(chunk)
            self.size += len(chunk)
