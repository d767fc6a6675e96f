"""Offers the transport ``http``; httptools itself is imported when it is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Services, Transport, hookimpl
from drift_http_httptools.config import HttpConfig


def _open(config: HttpConfig, services: Services) -> AbstractAsyncContextManager[Transport]:
    from drift_http_httptools.transport import open_transport

    return open_transport(config, services)


@hookimpl
def drift_transports() -> Iterable[Driver[Transport]]:
    """Offers ``http``."""
    return [Driver("http", HttpConfig, _open)]
