"""Removes what nothing has reached for the time of grace."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drift_core.api import Collector, Contents, Removal, Services, SupportsRoots

from ${module}.config import ${prefix}Config


class ${prefix}Collector:
    """The core knows what is reached; this decides what goes, and when."""

    def __init__(self, config: ${prefix}Config) -> None:
        self._grace = config.grace_period_hours * 3600

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        """Yields each removal after it happened. A root source that fails ends it before anything is removed."""
        kept = {digest for source in roots async for digest in source.roots()}
        async for candidate in contents.unreached(time.time() - self._grace):
            # Nothing is removed, and returned, that was reached again in the meantime.
            if candidate.digest not in kept and (dry_run or await contents.remove([candidate])):
                yield Removal(
                    candidate.digest, candidate.size, "nothing reaches it", candidate.kind, candidate.repository
                )


@asynccontextmanager
async def open_collector(config: ${prefix}Config, services: Services) -> AsyncIterator[Collector]:
    """Opens the driver for as long as the server runs."""
    services.log.info("the collector is open", grace_period_hours=config.grace_period_hours)
    yield ${prefix}Collector(config)
