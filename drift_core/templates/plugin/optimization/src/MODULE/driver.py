"""Opens the optimizer as the configuration wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drift_core.api import Optimizer, Services

from ${module}.config import ${prefix}Config
from ${module}.optimizer import GzipOptimizer


@asynccontextmanager
async def open_optimizer(config: ${prefix}Config, services: Services) -> AsyncIterator[Optimizer]:
    """Opens the driver for as long as the server runs."""
    services.log.info("the optimizer is open", max_ratio=config.max_ratio)
    yield GzipOptimizer(config.max_ratio)
