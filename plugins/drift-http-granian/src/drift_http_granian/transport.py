"""Serves an ASGI application by Granian inside the worker's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from drift_core.api import AsgiApp, ServerSettings, Services, Transport
from drift_http_granian.config import HttpConfig


class GranianTransport:
    """One listener per worker; the workers share the port by SO_REUSEPORT."""

    def __init__(self, config: HttpConfig, settings: ServerSettings) -> None:
        self._config = config
        self._settings = settings

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then stops accepting and lets running requests end for ``drain_seconds``."""
        server = self._server(app)
        task = asyncio.ensure_future(server.serve())
        await asyncio.sleep(0)
        ready()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            server.stop()
            await asyncio.wait_for(task, self._settings.drain_seconds)
            raise

    def _server(self, app: AsgiApp) -> Server:
        settings = self._settings
        host, _, port = settings.bind_addr.rpartition(":")
        return Server(
            app,
            address=host.strip("[]"),
            port=int(port),
            interface=Interfaces.ASGINL,
            websockets=False,
            backlog=self._config.backlog,
            backpressure=settings.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(self._config.header_read_timeout * 1000),
                max_buffer_size=self._config.max_header_bytes,
            ),
            log_enabled=False,
            ssl_cert=Path(settings.cert_file) if settings.cert_file else None,
            ssl_key=Path(settings.key_file) if settings.key_file else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )


@asynccontextmanager
async def open_transport(config: HttpConfig, services: Services) -> AsyncIterator[Transport]:
    """Yields the transport; it listens only while it serves."""
    yield GranianTransport(config, services.server)
