"""Optimizers that each break one rule of `OptimizerSuite`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from drift_core.api import Descriptor, Sink, StorageFull
from drift_core.conformance.reference.optimizer import GzipOptimizer, Written


class PadsTheTar(GzipOptimizer):
    """Ends the tar with a block of zeros more, which no reader of tars would notice."""

    async def unpacked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in super().unpacked(layer, content):
            yield piece
        yield bytes(512)


class CountsTheOldSize(GzipOptimizer):
    """Describes the new form by the size of the old."""

    def described(self, layer: Descriptor, written: Written) -> Descriptor:
        return replace(super().described(layer, written), size=layer.size)


class NumbersItsWork(GzipOptimizer):
    """Writes into the header which of its works it is."""

    count = 0

    async def write(self, written: Written, chunk: bytes) -> None:
        if chunk.startswith(b"\x1f\x8b\x08") and not written.size:
            self.count += 1
            chunk = chunk[:4] + self.count.to_bytes(4, "little") + chunk[8:]
        await super().write(written, chunk)


class NeverContent(GzipOptimizer):
    """Makes its own form into another again, which differs in where it came from."""

    def gains(self, layer: Descriptor, written: Written) -> bool:
        return True

    def described(self, layer: Descriptor, written: Written) -> Descriptor:
        origin = {**(layer.annotations or {}), "org.example.origin": layer.digest}
        return replace(super().described(layer, written), annotations=origin)


class TakesEverything(GzipOptimizer):
    """Takes whatever is gzip, whatever it means."""

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        self.media_types = self.media_types | {layer.media_type}
        return await super().optimize(layer, content, sink)


class DropsAnnotations(GzipOptimizer):
    """Makes a descriptor of its own."""

    def described(self, layer: Descriptor, written: Written) -> Descriptor:
        return replace(super().described(layer, written), annotations=None)


class BelievesTheDescriptor(GzipOptimizer):
    """Does not check that it reads what the descriptor names."""

    def checked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        return content


class UnpacksBombs(GzipOptimizer):
    """Unpacks whatever there is."""

    ratio = 1 << 40


class ReadsEverythingFirst(GzipOptimizer):
    """Collects the layer before it begins."""

    async def checked(self, layer: Descriptor, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        chunks = [chunk async for chunk in super().checked(layer, content)]
        for chunk in chunks:
            yield chunk


class OverlooksFullSinks(GzipOptimizer):
    """Goes on where a part could not be written."""

    async def write(self, written: Written, chunk: bytes) -> None:
        with suppress(StorageFull):
            await super().write(written, chunk)
            return
        written.hash.update(chunk)


class SharesItsState(GzipOptimizer):
    """Compresses what is worked on at the same time into one stream."""

    working = 0
    shared: Any = None

    def packer(self) -> Any:
        if self.working == 1:
            self.shared = super().packer()
        return self.shared

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        self.working += 1
        try:
            return await super().optimize(layer, content, sink)
        finally:
            self.working -= 1


class StaysCancelled(GzipOptimizer):
    """Declines everything after a run was cancelled."""

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        try:
            return await super().optimize(layer, content, sink)
        except asyncio.CancelledError:
            self.media_types = frozenset()
            raise


MUTANTS: dict[str, type[GzipOptimizer]] = {
    "optimizer.same-tar": PadsTheTar,
    "optimizer.digest-and-size": CountsTheOldSize,
    "optimizer.repeatable": NumbersItsWork,
    "optimizer.its-own-form": NeverContent,
    "optimizer.other-media-types": TakesEverything,
    "optimizer.annotations-are-kept": DropsAnnotations,
    "optimizer.corrupt-layer": BelievesTheDescriptor,
    "optimizer.bomb": UnpacksBombs,
    "optimizer.large-layer": ReadsEverythingFirst,
    "optimizer.full-sink": OverlooksFullSinks,
    "optimizer.two-at-once": SharesItsState,
    "optimizer.cancelled": StaysCancelled,
}
