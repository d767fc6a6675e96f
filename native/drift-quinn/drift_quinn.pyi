"""quinn's state machine of QUIC: datagrams in, events and datagrams out, and no socket of its own.

Times are seconds of `time.monotonic`, sizes are bytes, an address is as the socket module has it. Datagrams of one size
in a row are one `bytes` object; the last may be smaller. Nothing here blocks, and no object is for two threads.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, final

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
Datagrams: TypeAlias = tuple[bytes, Address, int]
Event: TypeAlias = (
    tuple[Literal["negotiated"], bytes]
    | tuple[Literal["completed"], bool]
    | tuple[Literal["readable"], int]
    | tuple[Literal["stopped"], int, int]
    | tuple[Literal["named"], bytes]
    | tuple[Literal["unnamed"], bytes]
    | tuple[Literal["closed"], int, str]
)
"""What has happened: the protocol (empty for none); whether the first flight carried data; a stream, and a code; a
connection id; a code and a reason."""

@final
class Engine:
    """Makes the connections of one server, also of several threads."""

    def __init__(
        self,
        *,
        chain: Sequence[bytes],
        key: bytes,
        protocols: Sequence[bytes],
        sessions: int,
        early: bool,
        worker: int,
        secret: bytes,
        idle_seconds: float,
        stream_window: int,
        connection_window: int,
        streams: int,
        one_way_streams: int,
        datagram_bytes: int,
    ) -> None:
        """Takes the certificate and its key in DER.

        ``sessions`` is how many are kept to be resumed, each once, which ``early`` lets carry requests in their first
        flight. ``worker`` is the first byte of each connection id, ``secret`` makes the tokens of stateless resets.
        ``streams`` and ``one_way_streams`` are how many a client may have open.

        Raises:
            ValueError: the key does not belong to the certificate, or is of no kind that serves TLS 1.3.
        """

    def connection(self, original: bytes, retried: bool) -> Connection:
        """Returns a connection for a client whose first datagram was for ``original``.

        ``retried`` says that it was asked to come again from its address, and has.
        """

@final
class Connection:
    """One connection. A stream that is over is no error anywhere."""

    def receive(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """Takes in what has arrived together."""

    def next_event(self) -> Event | None:
        """Returns what has happened next, None for nothing."""

    def read(self, stream: int, most: int) -> tuple[bytes, bool, int | None] | None:
        """Returns up to ``most`` bytes of a stream, which opens its window by so much; None where there is nothing now.

        The others say whether it is complete, and the code with which it was broken off. Where there are ``most`` bytes
        there may be more, of which no event tells.
        """

    def transmit(self, now: float) -> list[Datagrams]:
        """Returns what may be sent now."""

    def timer(self) -> float | None:
        """Returns when `expire` has to be called, None for never."""

    def expire(self, now: float) -> None:
        """Does what was due."""

    def send(self, stream: int, data: bytes | memoryview, end: bool) -> None:
        """Writes to a stream, however much; nothing of ``data`` is kept."""

    def unsent(self, stream: int) -> int:
        """Returns how much of a stream waits for its turn."""

    def is_over(self, stream: int) -> bool:
        """Says whether nothing can be sent on a stream any more."""

    def reset(self, stream: int, number: int) -> None:
        """Breaks off what this side sends, with a code."""

    def stop(self, stream: int, number: int) -> None:
        """Asks for no more of a stream, with a code."""

    def open(self, one_way: bool) -> int | None:
        """Opens a stream of this side and returns its number, None where the client allows no more."""

    def ping(self) -> None:
        """Asks for a sign of life."""

    def close(self, number: int, reason: str) -> None:
        """Ends the connection with a code of the application."""

    def path(self) -> tuple[float, int, int]:
        """Returns the round trip, the congestion window, and what is on its way."""
