"""The reference plugin: a feature that keeps a connection to an endpoint, if it is given one."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from drift_core.api import Driver, Feature, Secret, Services, StartError, Struct, hookimpl


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """A table within the table; in seconds."""

    connect: float = 1.0


class ReferenceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[reference]``; ``port`` None means that there is no endpoint."""

    host: str = "127.0.0.1"
    port: int | None = None
    token: Secret | None = None
    limits: Limits = Limits()


class Reference:
    """A `Feature` that adds nothing."""

    name = "reference"


@asynccontextmanager
async def open_reference(config: ReferenceConfig, services: Services) -> AsyncIterator[Reference]:
    """Opens the feature. Raises `StartError` where the endpoint does not answer in time."""
    if config.port is None:
        await asyncio.sleep(0)
        yield Reference()
        return
    try:
        async with asyncio.timeout(config.limits.connect):
            _, writer = await asyncio.open_connection(config.host, config.port)
    except OSError as error:  # a time-out is one, too
        message = f"{services.plugin}: {config.host}:{config.port} cannot be reached: {error or type(error).__name__}"
        raise StartError(message) from error
    try:
        yield Reference()
    finally:
        writer.close()


DRIVER: Driver[Feature] = Driver("reference", ReferenceConfig, open_reference)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the one feature."""
    return [DRIVER]
