"""Serves an ASGI application by Granian inside the worker's own event loop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from granian.constants import Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from drift_core.api import AsgiApp, ServerSettings, Services, StartError, Transport
from drift_http_granian.config import HttpConfig

LISTEN_ATTEMPTS = 200
LISTEN_PAUSE = 0.025
"""Seconds between two attempts to reach the listener that was just started."""


class GranianTransport:
    """One listener per worker; the workers share the port by SO_REUSEPORT."""

    def __init__(self, config: HttpConfig, services: Services) -> None:
        self._config = config
        self._settings = services.server
        self._log = services.log

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then stops accepting and lets running requests end for ``drain_seconds``.

        Granian closes idle connections at once and those with a request in flight when it is answered.
        """
        _check_tls(self._settings)
        server = self._server(app)
        serving = asyncio.ensure_future(server.serve())
        try:
            await self._listening(serving)
            ready()
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.stop()
            _, cut = await asyncio.wait([serving], timeout=self._settings.drain_seconds)
            if cut:
                self._log.warning("requests were still running at the end of the drain and are cut")
                serving.cancel()
            raise
        message = f"the HTTP server on {self._settings.bind_addr} ended by itself"
        raise StartError(message)

    def _server(self, app: AsgiApp) -> Server:
        settings = self._settings
        host, port = _address(settings)
        return Server(
            app,
            address=host,
            port=port,
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

    async def _listening(self, serving: "asyncio.Future[None]") -> None:
        """Returns when a connection is accepted: Granian does not say when it listens."""
        host, port = _address(self._settings)
        for _ in range(LISTEN_ATTEMPTS):
            if serving.done():
                serving.result()
                return
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(LISTEN_PAUSE)
                continue
            writer.close()
            return
        message = f"the HTTP server does not listen on {self._settings.bind_addr}"
        raise StartError(message)


def _address(settings: ServerSettings) -> tuple[str, int]:
    host, _, port = settings.bind_addr.rpartition(":")
    return host.strip("[]"), int(port)


def _check_tls(settings: ServerSettings) -> None:
    if settings.cert_file is None or settings.key_file is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        message = f"tls: {settings.cert_file} and {settings.key_file} cannot be used: {error}"
        raise StartError(message) from error


@asynccontextmanager
async def open_transport(config: HttpConfig, services: Services) -> AsyncIterator[Transport]:
    """Yields the transport; it listens only while it serves."""
    yield GranianTransport(config, services)
