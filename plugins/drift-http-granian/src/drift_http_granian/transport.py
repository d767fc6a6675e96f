"""Serves an ASGI application by Granian inside the worker's own event loop."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server

from drift_core.api import (
    AsgiApp,
    Renewal,
    ServerSettings,
    Services,
    StartError,
    Transport,
    bind_shared,
    certificate_files,
    ignore_newcomers,
    until_quiet,
)
from drift_http_granian.config import GranianConfig
from drift_http_granian.exchange import Exchanges

SETTLE_SECONDS: Final = 0.05
"""How long Granian gets to fail; that it has begun it does not say."""

LOGGING: Final[dict[str, Any]] = {
    "formatters": {},
    "handlers": {},
    "loggers": {
        "_granian": {"handlers": [], "propagate": True},
        "granian.access": {"handlers": [], "propagate": True},
    },
}
"""Granian's own records go where those of every library go."""


PUBLIC_KEYS: Final = {
    "RSA": bytes.fromhex("06092a864886f70d010101"),
    "ECDSA P-256": bytes.fromhex("06082a8648ce3d030107"),
    "ECDSA P-384": bytes.fromhex("06052b81040022"),
    "Ed25519": bytes.fromhex("06032b6570"),
}
"""The keys that Granian's TLS can use, by the object identifier in the certificate, in DER."""

DRAIN_CUT_SECONDS = 1.0
"""Seconds that Granian gets to notice that what it waited for was cut."""


class GranianTransport:
    """One listener per worker; the workers share the port by SO_REUSEPORT."""

    def __init__(self, config: GranianConfig, services: Services) -> None:
        self._config = config
        self._settings = services.server
        self._log = services.log
        self._renewal = Renewal(services)

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets running requests end for ``drain_seconds``.

        Raises:
            StartError: the address or the files for TLS cannot be used, or Granian ended by itself.
        """
        exchanges = Exchanges(app)
        with bind_shared(self._settings.bind_addr) as listener:
            server = self._server(exchanges, listener)
            self._renewal.serves()
            warning = asyncio.create_task(self._warn())
            serving = asyncio.create_task(server.serve())
            try:
                done, _ = await asyncio.wait({serving}, timeout=SETTLE_SECONDS)
                if not done:
                    ready()
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                await self._drain(exchanges, listener, server, serving)
                raise
            finally:
                warning.cancel()
        message = f"the HTTP server on {self._settings.bind_addr} ended by itself"
        raise StartError(message)

    async def _warn(self) -> None:
        """Says that new files are not served: Granian reads them when it begins."""
        while True:
            await self._renewal.changed()
            self._log.warning("the files of [tls] have changed, and Granian serves the old ones until a restart")

    async def _drain(
        self, exchanges: Exchanges, listener: socket.socket, server: Server, serving: asyncio.Task[None]
    ) -> None:
        """Ends everything within ``drain_seconds``, in the order that fails no request.

        Granian's own stop closes idle connections at once, also one on which a request is just arriving, and waits
        for the rest. So first nobody new gets in and every answer says that it is the last; then Granian stops.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_seconds
        exchanges.drain()
        ignore_newcomers(listener)
        listener.close()
        await until_quiet(exchanges.quiet_for, deadline)
        server.stop()  # type: ignore[no-untyped-call]
        _, waiting = await asyncio.wait({serving}, timeout=max(deadline - loop.time(), 0))
        if waiting:
            self._log.warning("the drain time is over; what still runs is cut", requests=await exchanges.cut())
            # Cancelled in the middle of its own end, Granian would log an error of its own.
            _, waiting = await asyncio.wait({serving}, timeout=DRAIN_CUT_SECONDS)
        if waiting:
            serving.cancel()
            await asyncio.wait({serving})

    def _server(self, app: Exchanges, listener: socket.socket) -> Server:
        config = self._config
        certificate, key = tls_files(self._settings) or (None, None)
        return _Server(
            app,
            listener=listener,
            interface=Interfaces.ASGINL,
            http=HTTPModes(config.http),
            websockets=False,
            backlog=config.backlog,
            backpressure=self._settings.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(config.header_read_timeout * 1000),
                max_buffer_size=config.max_header_bytes,
            ),
            http2_settings=HTTP2Settings(max_headers_size=config.max_header_bytes),
            log_level=LogLevels.error,
            log_dictconfig=LOGGING,
            ssl_cert=certificate,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
        )


class _Server(Server):
    """Granian on a socket of ours, because only who has the socket can stop newcomers without a reset."""

    def __init__(self, app: Exchanges, *, listener: socket.socket, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # Its stub is older than its constructor. Granian closes the descriptor that it gets.
        holder: Any = SocketHolder
        self._shd = holder(os.dup(self._listener.fileno()), False, self.backlog)


def tls_files(settings: ServerSettings) -> tuple[Path, Path] | None:
    """Returns certificate and key, or None without TLS.

    Raises:
        StartError: they cannot be used, or not by Granian, which itself would end the process.
    """
    if settings.client_ca_file is not None:
        raise StartError("tls.client_ca_file: Granian shows the application no certificates; use drift-http-httptools")
    files = certificate_files(settings)
    if files is not None:
        text = files[0].read_text()
        leaf = ssl.PEM_cert_to_DER_cert(text[text.index(ssl.PEM_HEADER) : text.index(ssl.PEM_FOOTER)] + ssl.PEM_FOOTER)
        if not any(identifier in leaf for identifier in PUBLIC_KEYS.values()):
            message = f"tls.cert_file: the key of {files[0]} is none of {', '.join(PUBLIC_KEYS)}"
            raise StartError(message)
    return files


@asynccontextmanager
async def open_transport(config: GranianConfig, services: Services) -> AsyncIterator[Transport]:
    """Yields the transport; it listens only while it serves. Raises `StartError` for unusable files of TLS."""
    tls_files(services.server)
    yield GranianTransport(config, services)
