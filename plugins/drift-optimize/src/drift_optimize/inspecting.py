"""Proves what a layer unpacks to, in a process of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable

from drift_core.api import Denied, Descriptor, Digest, Unavailable
from drift_optimize.config import OptimizationConfig
from drift_optimize.confined.jobs import PackingFailed, inspect
from drift_optimize.optimizer import limits_of

Inspect = Callable[[Descriptor, AsyncIterator[bytes]], Awaitable[Digest]]
"""Returns the digest of the tar in a layer. Raises `Denied` with a reason for one that is damaged, or a bomb."""


def inspector(config: OptimizationConfig) -> Inspect:
    """Returns what inspects layers within the limits of the configuration."""
    limits = limits_of(config)

    async def found(layer: Descriptor, content: AsyncIterator[bytes]) -> Digest:
        try:
            return Digest.parse((await inspect(layer, content, limits)).diff_id)
        except PackingFailed as failed:
            error = Unavailable if failed.kind == "failed" else Denied
            raise error(failed.reason) from failed

    return found
