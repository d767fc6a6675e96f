"""What carries requests to the application, and what it is told of the server."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application."""


class ServerSettings(Struct, frozen=True):
    """What a transport needs of ``[server]`` and ``[tls]``; ``drain_seconds`` bounds the drain after a stop.

    With ``client_ca_file`` clients may show a certificate that one of these authorities has signed; others are refused.
    The process is ``worker``, counted from 0, of the ``workers`` that serve this transport beside each other.
    """

    bind_addr: str
    max_connections: int
    drain_seconds: float
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    worker: int = 0
    workers: int = 1


@runtime_checkable
class Transport(Protocol):
    """Carries requests to the application. Its failure stops the server."""

    async def serve(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        """Serves until cancelled, then lets running requests end within the drain time, and returns.

        Calls ``ready`` once, when connections are accepted. Raises `StartError` where it cannot listen.
        """
        ...
