"""Each request on its way to the application: what ASGI promises and Granian alone does not keep, and the drain."""

import asyncio
import time
from typing import Any, Final

from drift_core.api import AsgiApp

LINGER_SECONDS: Final = 10.0
"""How long the rest of a body that the application did not want is read, so that its sender can hear the answer."""

CUT_SECONDS: Final = 1.0
"""How long a cancelled request gets to clean up."""

ASGI: Final = {"version": "3.0", "spec_version": "2.4"}

Message = dict[str, Any]


class ClientGone(OSError):
    """The client left in the middle of a streamed answer; raised by ``send``, as ASGI 2.4 asks."""


class Exchanges:
    """An ASGI application around another: it knows every request that runs, so that a drain can end them."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._running: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._cutting = False
        self._last_start = 0.0

    def drain(self) -> None:
        """Makes every HTTP/1 answer that begins from now on the last one of its connection."""
        self._draining = True
        self._last_start = time.monotonic()

    def quiet_for(self) -> float:
        """Returns the seconds since a request last began, or since `drain`."""
        return time.monotonic() - self._last_start

    async def cut(self) -> int:
        """Cancels the requests that still run, waits for their ends, and returns how many they were."""
        self._cutting = True
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CUT_SECONDS)
        return len(tasks)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Runs the application for one request."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._running.add(task)
        self._last_start = time.monotonic()
        scope["asgi"] = ASGI
        exchange = _Exchange(scope, receive, send, close=self._draining and scope["http_version"] != "2")
        try:
            await self._app(scope, exchange.receive, exchange.send)
            await exchange.linger()
        except ClientGone:
            return
        except asyncio.CancelledError:
            # Granian would log the drain's own cancellation as a failure of the application.
            if not self._cutting:
                raise
        finally:
            exchange.end()
            self._running.discard(task)


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_close", "_gone", "_receive", "_receiving", "_scope", "_send", "_started", "_unread", "_watcher")

    def __init__(self, scope: Any, receive: Any, send: Any, *, close: bool) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._close = close
        self._unread = scope["method"] not in {"GET", "HEAD"}
        self._started = False
        self._receiving = False
        self._gone = False
        self._watcher: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """Returns the next part of the body, then waits for the client to leave."""
        if self._watcher is not None:
            return await asyncio.shield(self._watcher)
        self._started = self._receiving = True
        try:
            message: Message = await self._receive()
        finally:
            self._receiving = False
        if not message.get("more_body"):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the answer. Raises `ClientGone`, without which a stream would go on into the void."""
        if self._gone:
            raise ClientGone
        if self._close and message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        elif self._watcher is None and message.get("more_body") and not self._unread and not self._receiving:
            self._watcher = asyncio.create_task(self._watch())
        await self._send(message)
        if self._watcher is not None:
            # To a client that is gone Granian sends without ever waiting: nothing else in the loop would run.
            await asyncio.sleep(0)

    async def linger(self) -> None:
        """Reads what is left of the body, for a while.

        Closing with unread bytes resets the connection, and the reset overtakes the answer: Go's client, and with
        it most registry clients, then reports a broken pipe instead of the 401 or 413.
        """
        if not self._unread or (not self._started and self._waits_to_continue()):
            return
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while (await self._receive()).get("more_body"):
                    pass
        except TimeoutError:
            return

    def end(self) -> None:
        """Ends what runs beside the application."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> Message:
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                return message

    def _waits_to_continue(self) -> bool:
        # Reading would make Granian ask for the body that the answer has just refused.
        return any(name == b"expect" for name, _ in self._scope["headers"])
