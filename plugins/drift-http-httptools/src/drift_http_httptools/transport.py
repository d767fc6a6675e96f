"""Accepts the connections of one worker, watches over their time, and drains them at the end."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from drift_core.api import (
    AsgiApp,
    Renewal,
    Services,
    StartError,
    Transport,
    bind_shared,
    ignore_newcomers,
    tls_context,
    until_quiet,
)
from drift_http_httptools.config import HttpConfig
from drift_http_httptools.connection import Connection
from drift_http_httptools.site import Site

PROTOCOLS: Final = ("http/1.1",)
"""What TLS agrees on with a client (RFC 7301)."""

SWEEP_SECONDS: Final = 1.0
"""The most that a client gets beyond its time; a quarter of the time where that is less."""

CUT_SECONDS: Final = 1.0
"""How long a cancelled request gets to clean up and to answer."""

EXHAUSTED_SECONDS: Final = 1.0
EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What the system lacks when it cannot accept; it is asked again after `EXHAUSTED_SECONDS`."""


class HttpTransport:
    """One listener per worker; the workers share the port by SO_REUSEPORT."""

    def __init__(self, config: HttpConfig, services: Services) -> None:
        self._config = config
        self._settings = services.server
        self._log = services.log
        self._renewal = Renewal(services)

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets running requests end for ``drain_seconds``.

        Raises:
            StartError: the address or the files for TLS cannot be used.
        """
        context = tls_context(self._settings, PROTOCOLS)
        self._renewal.serves()
        site = Site(app, self._config, self._log, tls=context is not None)
        with bind_shared(self._settings.bind_addr) as listener:
            try:
                listener.listen(self._config.backlog)
            except OSError as error:
                message = f"cannot listen on {self._settings.bind_addr}: {error.strerror}"
                raise StartError(message) from error
            acceptor = _Acceptor(site, listener, context, self._settings.max_connections)
            ready()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._sweep(site))
                    if context is not None:
                        group.create_task(self._renew(acceptor))
            finally:
                await self._drain(site, acceptor)

    async def _sweep(self, site: Site) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self._config.header_read_timeout / 4))
            site.close_overdue()

    async def _renew(self, acceptor: "_Acceptor") -> None:
        """Gives new connections what the files have, as soon as it can be used; those that are open keep theirs."""
        while True:
            await self._renewal.changed()
            try:
                acceptor.context = await asyncio.to_thread(tls_context, self._settings, PROTOCOLS)
            except StartError as error:
                self._renewal.refused(error)
            else:
                await asyncio.to_thread(self._renewal.renewed)

    async def _drain(self, site: Site, acceptor: "_Acceptor") -> None:
        """Ends everything within ``drain_seconds``, in the order that fails no request.

        A kept connection that is closed at once may be one on which a request is just arriving. So first nobody new
        gets in and every answer says that it is the last; what is idle is closed when no more requests begin.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_seconds
        site.draining = True
        acceptor.stop()
        await until_quiet(site.quiet_for, deadline)
        site.close_idle()
        if not await site.empty(deadline):
            self._log.warning("the drain time is over; what still runs is cut", requests=len(site.running))
            site.cut()
            await site.empty(loop.time() + CUT_SECONDS)
            site.abort()


class _Acceptor:
    """Accepts while there are fewer than ``most`` connections; further ones wait in the backlog."""

    def __init__(self, site: Site, listener: socket.socket, context: ssl.SSLContext | None, most: int) -> None:
        self._site = site
        self._listener = listener
        self.context = context
        """How TLS is spoken with who connects next."""
        self._most = most
        self._open = 0
        self._reading = False
        self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._greetings: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        site.left = self._leave
        self._resume()

    def stop(self) -> None:
        """Accepts who is already there, and nobody new."""
        ignore_newcomers(self._listener)
        self._accept()
        self._pause()
        self._stopped = True
        self._listener.close()

    def _accept(self) -> None:
        while self._open < self._most:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    # This client left before its turn.
                    continue
                self._site.log.exception("cannot accept a connection", error=error.strerror)
                self._pause()
                self._loop.call_later(EXHAUSTED_SECONDS, self._resume)
                return
            self._open += 1
            greeting = self._loop.create_task(self._greet(client))
            self._greetings.add(greeting)
            greeting.add_done_callback(self._greetings.discard)
        self._pause()

    async def _greet(self, client: socket.socket) -> None:
        timeout = None if self.context is None else self._site.config.header_read_timeout
        connection = Connection(self._site)
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, client, ssl=self.context, ssl_handshake_timeout=timeout
            )
        except OSError:
            # It left, or speaks no TLS; `ssl.SSLError` is one, too.
            client.close()
            if not connection.gone:
                self._leave()

    def _leave(self) -> None:
        self._open -= 1
        self._resume()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._listener)

    def _resume(self) -> None:
        if not self._reading and not self._stopped:
            self._reading = True
            self._loop.add_reader(self._listener, self._accept)


@asynccontextmanager
async def open_transport(config: HttpConfig, services: Services) -> AsyncIterator[Transport]:
    """Yields the transport; it listens only while it serves. Raises `StartError` for unusable files of TLS."""
    tls_context(services.server, PROTOCOLS)
    yield HttpTransport(config, services)
