"""Optimizers that each break one rule of `OptimizerSuite`."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from msgspec.structs import replace

from drift_core.api import Descriptor, RegistryError, Sink, Unavailable
from drift_core.conformance.reference.optimizer import GZIP, TAR, GzipOptimizer, Tally


class TrimsPadding(GzipOptimizer):
    """Leaves out the zeros with which a tar is padded."""

    async def unpacked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in super().unpacked(layer, content):
            yield piece.rstrip(b"\0")


class KeepsTheSize(GzipOptimizer):
    """Gives the size of the original as that of the new form."""

    def described(self, layer: Descriptor, written: Tally) -> Descriptor:
        return replace(super().described(layer, written), size=layer.size)


class ForgetsAnnotations(GzipOptimizer):
    """Makes a bare descriptor."""

    def described(self, layer: Descriptor, written: Tally) -> Descriptor:
        return replace(super().described(layer, written), annotations=None)


class LikesItsOwn(GzipOptimizer):
    """Prefers its form where it is as small, or a little larger."""

    def gains(self, layer: Descriptor, written: Tally) -> bool:
        return written.size < layer.size + 1024 and written.digest != layer.digest


class TakesSmallSteps(GzipOptimizer):
    """Packs what it made itself once more, and better."""

    def __init__(self) -> None:
        super().__init__()
        self.made: set[str] = set()

    def packer(self, layer: Descriptor) -> "zlib._Compress":
        return super().packer(layer) if layer.digest in self.made else zlib.compressobj(6, zlib.DEFLATED, GZIP)

    def described(self, layer: Descriptor, written: Tally) -> Descriptor:
        self.made.add(written.digest)
        return super().described(layer, written)


class NumbersItsWork(GzipOptimizer):
    """Writes into the header, where gzip has a time, which of its works it is."""

    count = 0

    async def put(self, sink: Sink, written: Tally, chunk: bytes) -> None:
        if chunk and not written.size:
            self.count += 1
            chunk = chunk[:4] + self.count.to_bytes(4, "little") + chunk[8:]
        await super().put(sink, written, chunk)


class GoesByTheName(GzipOptimizer):
    """Takes whatever has gzip in its media type for a layer."""

    def reads(self, media_type: str) -> bool:
        return media_type == TAR or "gzip" in media_type


class TakesACutForTheEnd(GzipOptimizer):
    """Does not notice that the end is missing."""

    def check_end(self, unpacker: "zlib._Decompress") -> None:
        pass


class TrustsTheStore(GzipOptimizer):
    """Does not check what it was given."""

    def is_genuine(self, layer: Descriptor, arrived: Tally) -> bool:
        return True


class GathersEverything(GzipOptimizer):
    """Unpacks the whole layer before it begins to pack it."""

    async def gunzip(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield b"".join([piece async for piece in super().gunzip(content)])


class UnpacksBombs(GzipOptimizer):
    """Unpacks whatever comes."""

    def check_ratio(self, received: int, produced: int) -> None:
        pass


class DoesNotWait(GzipOptimizer):
    """Writes everything at once."""

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        impatient = _Impatient(sink)
        form = await super().optimize(layer, content, impatient)
        await asyncio.gather(*impatient.writes)
        return form


class _Impatient:
    """A sink that promises to write."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.writes: list[asyncio.Task[None]] = []

    async def write(self, chunk: bytes) -> None:
        self.writes += [asyncio.ensure_future(self.sink.write(part)) for part in (chunk[:100], chunk[100:])]


class TakesAnErrorForTheEnd(GzipOptimizer):
    """Goes on with what it has where the store fails."""

    async def received(self, content: AsyncIterator[bytes], arrived: Tally) -> AsyncIterator[bytes]:
        try:
            async for chunk in super().received(content, arrived):
                yield chunk
        except Unavailable:
            return


class WritesIntoTheVoid(GzipOptimizer):
    """Does not mind that nothing is kept of what it writes."""

    async def put(self, sink: Sink, written: Tally, chunk: bytes) -> None:
        try:
            await super().put(sink, written, chunk)
        except RegistryError:
            return


class SharesItsState(GzipOptimizer):
    """Packs all layers by the same packer, while others run."""

    def packer(self, layer: Descriptor) -> "zlib._Compress":
        self.current = super().packer(layer)
        return _Shared(self)  # type: ignore[return-value]


class _Shared:
    """Packs by whatever is the optimizer's at the moment."""

    def __init__(self, optimizer: SharesItsState) -> None:
        self.optimizer = optimizer

    def compress(self, piece: bytes) -> bytes:
        return self.optimizer.current.compress(piece)

    def flush(self) -> bytes:
        return self.optimizer.current.copy().flush()


class EndsWithTheWork(GzipOptimizer):
    """Makes nothing any more after work was cancelled."""

    stopped = False

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        try:
            return None if self.stopped else await super().optimize(layer, content, sink)
        except asyncio.CancelledError:
            self.stopped = True
            raise


MUTANTS: dict[str, type[GzipOptimizer]] = {
    "optimizer.same-content": TrimsPadding,
    "optimizer.digest-and-size": KeepsTheSize,
    "optimizer.annotations": ForgetsAnnotations,
    "optimizer.no-gain": LikesItsOwn,
    "optimizer.idempotent": TakesSmallSteps,
    "optimizer.repeatable": NumbersItsWork,
    "optimizer.unknown-media-types": GoesByTheName,
    "optimizer.damaged": TakesACutForTheEnd,
    "optimizer.other-content": TrustsTheStore,
    "optimizer.large-layer": GathersEverything,
    "optimizer.bomb": UnpacksBombs,
    "optimizer.one-write-at-a-time": DoesNotWait,
    "optimizer.source-raises": TakesAnErrorForTheEnd,
    "optimizer.sink-raises": WritesIntoTheVoid,
    "optimizer.many-workers": SharesItsState,
    "optimizer.cancelled": EndsWithTheWork,
}
