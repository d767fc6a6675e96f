"""Opens the format with the keys of the configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from drift_core.api import Services

from ${module}.config import ${prefix}Config
from ${module}.signing import HmacSigning


@asynccontextmanager
async def open_signing(config: ${prefix}Config, services: Services) -> AsyncIterator[HmacSigning]:
    """Opens the driver for as long as the server runs."""
    keys = {key.id: key.secret.encode() for key in config.hmac_keys}
    services.log.info("keys were read", keys=sorted(keys))
    yield HmacSigning(keys, lifetime=config.max_signature_age_hours * 3600)
