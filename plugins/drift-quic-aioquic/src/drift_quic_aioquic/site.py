"""What the connections of one process share: the application, the limits, who is connected, what is counted."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from drift_core.api import AsgiApp
from drift_quic_aioquic.config import Settings
from drift_quic_aioquic.measures import Measures

if TYPE_CHECKING:
    from drift_quic_aioquic.connection import Connection
    from drift_quic_aioquic.exchange import Exchange
    from drift_quic_aioquic.tickets import Tickets

EMPTY_SECONDS: Final = 0.02
"""How often a drain looks whether it is over."""

HANDSHAKE_SECONDS: Final = 10.0
"""How long a client may take to prove that it is there; what it has cost until then is given back."""


class Site:
    """``draining`` means that nobody new is let in, ``refusing`` that no further request is answered."""

    def __init__(
        self,
        app: AsgiApp,
        config: Settings,
        log: Any,
        measures: Measures,
        tickets: "Tickets | None",
        server: tuple[str, int] | None,
    ) -> None:
        self.app = app
        self.config = config
        self.log = log
        self.measures = measures
        self.tickets = tickets
        self.server = server
        self.connections: set[Connection] = set()
        self.half_open: set[Connection] = set()
        """Those whose handshake is not complete, which anybody can begin who can send a datagram."""
        self.running: set[asyncio.Task[None]] = set()
        """The requests and messages under way, also those whose clients are gone."""
        self.draining = self.refusing = self.cutting = False
        self._loop = asyncio.get_running_loop()
        # The clock of every loop; but uvloop looks at it once a round and counts milliseconds, too few for round trips.
        self.now: Callable[[], float] = time.monotonic
        self._last_start = self.now()
        self._pinged_at = self.now()
        self._date = (0, b"")

    def begin(self, exchange: "Exchange") -> None:
        """Gives a request to the application."""
        self.run(exchange.run(self.app))

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs what a drain has to wait for, and returns the task."""
        self._last_start = self.now()
        task = self._loop.create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    def quiet_for(self) -> float:
        """Returns the seconds since a request last began."""
        return self.now() - self._last_start

    def date(self) -> bytes:
        """Returns the value that every answer has (RFC 9110 section 6.6.1), made once a second."""
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    def sweep(self) -> None:
        """Drops handshakes that were abandoned, and pings clients that wait for an answer."""
        now = self.now()
        for connection in [one for one in self.half_open if now - one.began_at > HANDSHAKE_SECONDS]:
            self.measures.abandoned.inc()
            connection.drop()
        interval = self.config.keep_alive_interval_ms / 1000
        if interval and now - self._pinged_at >= interval:
            self._pinged_at = now
            for connection in [one for one in self.connections if one.exchanges]:
                connection.ping()

    async def empty(self, deadline: float) -> bool:
        """Waits until nothing runs, or for the loop's time ``deadline``, and says which."""
        while self.running:
            if self.now() >= deadline:
                return False
            await asyncio.sleep(EMPTY_SECONDS)
        return True

    def cut(self) -> None:
        """Cancels the requests that still run."""
        self.cutting = True
        for task in self.running:
            task.cancel()
