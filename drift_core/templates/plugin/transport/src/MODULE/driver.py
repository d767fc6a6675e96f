"""Opens the transport as the configuration wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drift_core.api import Services, Transport

from ${module}.config import ${prefix}Config
from ${module}.transport import AsyncioTransport


@asynccontextmanager
async def open_transport(config: ${prefix}Config, services: Services) -> AsyncIterator[Transport]:
    """Opens the driver for as long as the server runs; it listens while it serves."""
    services.log.info("the transport is open", address=services.server.bind_addr, enabled=config.enabled)
    yield AsyncioTransport(services.server)
