"""Reads one stored blob, and says what is wrong with its bytes."""

import asyncio

from msgspec import Struct

from drift_core.api import ALGORITHMS, BlobUnknown, Digest, LocalRegistry, Pace
from drift_scrub.measures import Measures

SMALL = 64 << 10
"""Bytes that are hashed sooner than another thread is woken up."""


class Damage(Struct, frozen=True):
    """What is wrong with a blob; ``missing`` where the store does not have it at all."""

    missing: bool
    reason: str


async def read(registry: LocalRegistry, digest: Digest, pace: Pace, measures: Measures) -> Damage | None:
    """Returns what is wrong, or None for a whole blob. Raises `Unavailable`: nobody knows."""
    state = ALGORITHMS[digest.algorithm].new()
    size = 0
    try:
        async for chunk in registry.stored_bytes(digest):
            await pace.take(len(chunk))
            if len(chunk) <= SMALL:
                state.update(chunk)
            else:
                await asyncio.to_thread(state.update, chunk)
            size += len(chunk)
            measures.read.inc(len(chunk))
    except BlobUnknown:
        return Damage(missing=True, reason="the store does not have it")
    found = f"{digest.algorithm}:{state.hexdigest()}"
    if found == digest:
        return None
    return Damage(missing=False, reason=f"what is stored are {size} bytes with the digest {found}")
