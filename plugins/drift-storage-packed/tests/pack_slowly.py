"""Packs a store in a process of its own, and says on standard output at which step it is, until it is killed.

Arguments: the folder of the store beneath, the URL of the database, and the step behind which it waits for the end.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

from drift_storage_fs import plugin as files
from drift_storage_packed.config import PackedConfig
from drift_storage_packed.forms import Pass
from drift_storage_packed.store import open_store

from drift_core.conformance import open_records, services


class Waiting:
    """A store of which one method never returns, once it has done, or half done, what it is for."""

    def __init__(self, beneath: Any, step: str) -> None:
        self._beneath = beneath
        self._step = step

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._beneath, name)
        if name != self._step.partition(" ")[2]:
            return call

        async def waiting(*values: Any) -> Any:
            if self._step.startswith("within"):
                values = (*values[:-1], self._half(values[-1]))
            if not self._step.startswith("before"):
                await call(*values)
            await self._wait()

        return waiting

    async def _half(self, chunks: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            await asyncio.sleep(0.1)
            await self._wait()

    async def _wait(self) -> None:
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def main(folder: str, url: str, step: str) -> None:
    (driver,) = files.drift_storage()
    config = PackedConfig(min_age_minutes=0, rate_mb_per_second=0, keep_original_minutes=0, frame_kib=16)
    async with (
        open_records("storage-packed", "drift_storage_packed.migrations", url) as records,
        driver.open(driver.config(folder), services("storage-fs")) as beneath,
    ):
        waiting: Any = Waiting(beneath, step)
        async with open_store(config, services("storage-packed", records=records, beneath=waiting)) as store:
            async for _ in store.packer.run(Pass.new()):
                pass


asyncio.run(main(*sys.argv[1:]))
