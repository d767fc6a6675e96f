"""Around every request: its id, a line in the log, what is counted, and an answer where the server stops before it."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Sequence
from itertools import count
from secrets import token_hex
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from drift_core.errors import Unavailable, Unexpected
from drift_core.http.client import Clients
from drift_core.http.measures import OTHER, Measures
from drift_core.http.message import ClientGone, Request, error_reply
from drift_core.http.routes import FORMS
from drift_core.observing import Observers
from drift_core.protocols.transport import AsgiApp

ENDPOINT = "endpoint"
"""Where the state of a request says of which kind it is."""

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
CLIENT_CLOSED = 499
"""What the log says where the client left before its answer; nginx made the number usual."""


class RequestLog:
    """ASGI middleware; a request id that the client sends as X-Request-Id is kept if it is short and plain.

    ``headers`` are added to every answer.
    """

    def __init__(
        self,
        app: AsgiApp,
        log: FilteringBoundLogger,
        clients: Clients,
        measures: Measures,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._app = app
        self.measures = measures
        self._headers = tuple(headers)
        self._clients = clients
        # Bound now: a logger that is not yet bound finds out its level with every line.
        self._log = log.bind()
        self._logs = self._log.is_enabled_for(logging.INFO)
        # Unique among processes, and a tenth of the price of a UUID.
        self._ids = map(f"{token_hex(12)}{{:08x}}".format, count())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves the request, logs method, path, status, bytes sent and milliseconds, and counts."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _sent_id(scope) or next(self._ids)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        began = time.perf_counter()
        status, sent, received, headers = 0, 0, 0, ()
        self.measures.begin()

        async def take() -> Any:
            nonlocal received
            event = await receive()
            received += len(event.get("body", b""))
            return event

        async def observe(event: Any) -> None:
            nonlocal status, sent, headers
            if event["type"] == "http.response.start":
                status, headers = event["status"], event["headers"]
                event["headers"] = [*headers, (b"x-request-id", request_id.encode()), *self._headers]
            elif event["type"] == "http.response.pathsend":
                sent += _announced(headers)
            else:
                sent += len(event.get("body", b""))
            try:
                await send(event)
            except OSError as error:
                # How ASGI 2.4 says that the client of a streamed answer has left.
                raise ClientGone from error

        try:
            await self._app(scope, take, observe)
        except asyncio.CancelledError:
            if not status:
                await error_reply(Unavailable("the server is stopping")).send(Request(scope, receive), observe)
            raise
        except Exception as error:
            # The answer has begun: only a broken connection can tell the client that it is not whole.
            self._log.exception("request failed", request_id=request_id, path=scope["path"], error=str(error))
            raise
        finally:
            self._end(scope, status or CLIENT_CLOSED, time.perf_counter() - began, received, sent)

    def _end(self, scope: Any, status: int, seconds: float, received: int, sent: int) -> None:
        state = scope["state"]
        self.measures.end(state.get(ENDPOINT, OTHER), scope["method"], status, seconds, received, sent)
        if self._logs:
            self._log.info(
                "request",
                request_id=state["request_id"],
                method=scope["method"],
                path=scope["path"],
                status=status,
                bytes=sent,
                ms=round(seconds * 1000, 2),
                client=self._clients.origin(scope)[0],
            )


class ObservedRequestLog(RequestLog):
    """The same, told to observers, whose fields every line of the log has that is written for the request."""

    def __init__(self, observers: Observers, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._observers = observers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See `RequestLog`."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        status, failure = None, None

        async def answer(event: Any) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        begun = self._observers.request(scope, self._clients.origin(scope)[0])
        try:
            with structlog.contextvars.bound_contextvars(**begun.fields):
                await super().__call__(scope, receive, answer)
        except BaseException as error:
            failure = error
            raise
        finally:
            begun.end(failure, status, _form(scope))


def request_log(
    app: AsgiApp,
    clients: Clients,
    measures: Measures,
    observers: Observers,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> RequestLog:
    """Returns an application within the log, told to observers where there are any."""
    within = (app, structlog.get_logger("drift.http"), clients, measures, headers)
    return ObservedRequestLog(observers, *within) if observers else RequestLog(*within)


def _form(scope: Any) -> str:
    """Returns what the path of a request looks like, "" where nobody knows it."""
    form: str = FORMS.get(scope["state"].get(ENDPOINT, "")) or scope.get("path_template") or ""
    return form


def defect(scope: Any, error: Exception) -> Unexpected:
    """Logs what nobody foresaw, and returns what the client is told: the request's id."""
    request_id = str(scope.get("state", {}).get("request_id", ""))
    log = structlog.get_logger("drift.http")
    log.error("request failed", request_id=request_id, path=scope["path"], error=str(error), exc_info=error)
    return Unexpected(request_id=request_id)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return next((int(value) for name, value in headers if name == b"content-length"), 0)


def _sent_id(scope: Any) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return None
