"""What the connections of one worker share: the application, the limits, who is connected, and the clock."""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from drift_core.api import AsgiApp
from drift_http_httptools.config import HttpConfig

EMPTY_SECONDS: Final = 0.02
"""How often a drain looks whether it is over."""

if TYPE_CHECKING:
    from drift_http_httptools.connection import Connection
    from drift_http_httptools.exchange import Exchange


class Site:
    """``draining`` makes every further answer its connection's last; ``left`` is called when a connection ends."""

    def __init__(self, app: AsgiApp, config: HttpConfig, log: Any, *, tls: bool) -> None:
        self.config = config
        self.log = log
        self.tls = tls
        self.scheme = "https" if tls else "http"
        self.connections: set[Connection] = set()
        self.running: set[Exchange] = set()
        """The requests under way, also those whose clients are gone."""
        self.draining = False
        self.cutting = False
        self.left: Callable[[], None] = lambda: None
        self._app = app
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._last_start = self.now()
        self._date = (0, b"")

    def begin(self, exchange: "Exchange") -> None:
        """Gives a request to the application."""
        self._last_start = self.now()
        self.running.add(exchange)
        exchange.task = self._loop.create_task(exchange.run(self._app))

    def quiet_for(self) -> float:
        """Returns the seconds since a request last began."""
        return self.now() - self._last_start

    def date(self) -> bytes:
        """Returns the header that every answer has (RFC 9110 section 6.6.1), made once a second."""
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, b"date: %s\r\n" % formatdate(second, usegmt=True).encode())
        return self._date[1]

    def close_overdue(self) -> None:
        """Closes connections whose clients let too much time pass."""
        now = self.now()
        for connection in [one for one in self.connections if one.deadline < now]:
            connection.transport.abort()

    def close_idle(self) -> None:
        """Closes connections on which no request is under way."""
        for connection in [one for one in self.connections if one.current is None]:
            connection.transport.close()

    async def empty(self, deadline: float) -> bool:
        """Waits until nobody is connected and nothing runs, or for the loop's time ``deadline``, and says which."""
        while self.connections or self.running:
            self.close_overdue()
            if self.now() >= deadline:
                return False
            await asyncio.sleep(EMPTY_SECONDS)
        return True

    def cut(self) -> None:
        """Cancels the requests that still run."""
        self.cutting = True
        for exchange in self.running:
            if exchange.task is not None:
                exchange.task.cancel()

    def abort(self) -> None:
        """Closes every connection, whatever it still has to send."""
        for connection in tuple(self.connections):
            connection.transport.abort()
