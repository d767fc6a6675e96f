"""How fast a store is, beside the reference store on the same machine at the same time."""

import hashlib
import os
import time
from collections.abc import AsyncIterator

from msgspec import Struct

from drift_core.api import BlobStore, Digest
from drift_core.conformance.reference.storage import open_memory_store

MIB = 1 << 20
CHUNK = 1 << 16
STAT_SECONDS = 0.5


class Speed(Struct, frozen=True):
    """One measure of what is done in a second; ``reference`` is that of the store in memory."""

    what: str
    unit: str
    driver: float
    reference: float


async def bench(store: BlobStore, mib: int = 64) -> list[Speed]:
    """Measures with one blob of ``mib`` MiB, which is removed afterwards, and one call after the other."""
    block = os.urandom(MIB)  # so that the blob is nobody else's
    measured = await _measure(store, block, mib)
    async with open_memory_store() as reference:
        beside = await _measure(reference, block, mib)
    units = {"append and commit": "MiB/s", "read": "MiB/s", "stat": "1/s"}
    return [Speed(what, unit, measured[what], beside[what]) for what, unit in units.items()]


async def _measure(store: BlobStore, block: bytes, mib: int) -> dict[str, float]:
    state = hashlib.sha256()
    for _ in range(mib):
        state.update(block)
    digest = Digest(f"sha256:{state.hexdigest()}")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(mib):
            for start in range(0, MIB, CHUNK):
                yield block[start : start + CHUNK]

    began = time.perf_counter()
    upload = await store.begin()
    await store.append(upload, 0, chunks())
    await store.commit(upload, digest)
    written = time.perf_counter()
    async for _ in store.read(digest):
        pass
    read = time.perf_counter()
    calls = 0
    while (end := time.perf_counter()) < read + STAT_SECONDS:
        await store.stat(digest)
        calls += 1
    await store.delete(digest)
    return {"append and commit": mib / (written - began), "read": mib / (read - written), "stat": calls / (end - read)}
