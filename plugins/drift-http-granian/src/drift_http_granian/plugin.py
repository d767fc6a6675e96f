"""Offers the transport ``granian``; Granian itself is imported when it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Transport, hookimpl
from drift_http_granian.config import GranianConfig


def _open(config: GranianConfig, services: Services) -> AbstractAsyncContextManager[Transport]:
    from drift_http_granian.transport import open_transport

    return open_transport(config, services)


@hookimpl
def drift_transports() -> Iterable[Driver[Transport]]:
    """Offers ``granian``."""
    return [Driver("granian", GranianConfig, _open)]
