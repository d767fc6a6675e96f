"""Offers each form as an `Optimizer`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import gettempdir

from drift_core.api import Denied, Descriptor, Optimizer, Sink, Unavailable
from drift_optimize.config import OptimizationConfig
from drift_optimize.confined.jobs import MIB, Form, FormName, Limits, Packed, PackingFailed, pack
from drift_optimize.spool import chunks_of

LEAST_GAIN = 0.1
"""By how much the tar's entropy must be below that of noise for a layer to be packed anew."""

LAZY: tuple[FormName, ...] = ("zstd-chunked", "estargz")
"""Forms of which clients read parts: they are better even where they are no smaller."""

LARGEST_TABLE = 32 << 20
"""Bytes of a table of contents, which is in memory for a moment."""


class Declined(Denied):
    """A layer is of a kind of which there is no such form; nothing is wrong with it."""


class FormOptimizer:
    """Gives a layer back in one form where that is better. Safe to use for many layers at once.

    ``min_gain`` is the share by which it has to be smaller.
    """

    def __init__(self, form: Form, limits: Limits, scratch: Path, min_gain: float) -> None:
        self._form = form
        self._limits = limits
        self._scratch = scratch
        self._most = 1 - min_gain

    async def optimize(self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink) -> Descriptor | None:
        """See `Optimizer`."""
        try:
            made = await self.optimize_with_table(layer, content, sink)
        except Declined:
            return None
        return None if made is None else made[0]

    async def optimize_with_table(
        self, layer: Descriptor, content: AsyncIterator[bytes], sink: Sink
    ) -> tuple[Descriptor, tuple[Descriptor, bytes] | None] | None:
        """Does the same, and returns beside the layer the table of contents that clients of eStargz want, if any.

        Raises `Declined` with a reason where the other returns None without one.
        """
        try:
            async with pack(layer, content, self._form, self._limits, self._scratch) as packed:
                if not self._is_better(layer, packed):
                    return None
                async for chunk in chunks_of(packed.file):
                    await sink.write(chunk)
                table = packed.table
                if table is not None and table.layer.size > LARGEST_TABLE:
                    raise Declined(f"its table of contents would have {table.layer.size} bytes")
                beside = None if table is None else (table.layer, await asyncio.to_thread(table.file.read))
                return packed.layer, beside
        except PackingFailed as failed:
            kinds = {"unsupported": Declined, "failed": Unavailable}
            raise kinds.get(failed.kind, Denied)(failed.reason) from failed

    def _is_better(self, layer: Descriptor, packed: Packed) -> bool:
        if packed.about.gain <= LEAST_GAIN:
            return False
        return self._form.name in LAZY or packed.layer.size < layer.size * self._most


def limits_of(config: OptimizationConfig) -> Limits:
    """Returns what one process may take."""
    most = config.max_scratch_mb * MIB
    return Limits(
        config.max_memory_mb * MIB, config.max_optimization_time_seconds, output_bytes=most, tar_bytes=4 * most
    )


def scratch_of(config: OptimizationConfig) -> Path:
    """Returns the folder of temporary files."""
    return Path(config.scratch_path or gettempdir())


@asynccontextmanager
async def open_optimizer(name: FormName, config: OptimizationConfig) -> AsyncIterator[Optimizer]:
    """Opens the optimizer of one form, which starts a process for each layer and nothing before."""
    level = config.gzip_level if name in ("gzip", "estargz") else config.zstd_level
    yield FormOptimizer(Form(name, level), limits_of(config), scratch_of(config), config.min_gain)
