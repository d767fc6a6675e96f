"""What the bridge needs of an engine of QUIC, so that another one can serve in aioquic's place."""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from drift_core.api import Struct

Address = tuple[str, int] | tuple[str, int, int, int]
"""Where a datagram comes from, or goes: as the socket module has it."""

Datagrams = tuple[bytes, Address, int]
"""Datagrams of one size in a row, as the kernel joins and cuts them: bytes, where they come from or go, and that size.

The last one may be smaller.
"""

HeaderList = list[tuple[bytes, bytes]]

STREAM_WINDOW: Final = 1 << 20
"""How much of one stream the other side may send before the application has taken any of it."""

CONNECTION_WINDOW: Final = 4 << 20
"""The same of all streams of a connection."""

MAX_STREAMS: Final = 256
"""Requests that one connection may have under way."""

MAX_ONE_WAY_STREAMS: Final = 16
"""Streams of the client in one direction; HTTP/3 has three, and a client may open some that mean nothing."""

KEY_PACKETS: Final = 1 << 22
"""Packets that are encrypted with one key, half of what AES-GCM may (RFC 9001 section 6.6)."""

SMALLEST_DATAGRAM: Final = 1200
CID_BYTES: Final = 8

MOST_JOINED: Final = 65_000
"""Bytes of datagrams that are sent with one call, less than the largest packet of IP."""

MOST_SEGMENTS: Final = 64
"""Datagrams of one call (UDP_MAX_SEGMENTS of older kernels)."""


class Opened(Struct, frozen=True):
    """Both sides have agreed on an application protocol."""

    protocol: str


class Completed(Struct, frozen=True):
    """The handshake is complete: the client is who began it, and what it says now is no replay."""

    resumed: bool
    early: bool


class Headers(Struct, frozen=True):
    """The head of a request, or of an answer; ``ended`` says that nothing follows."""

    stream: int
    headers: HeaderList
    ended: bool


class TooLarge(Struct, frozen=True):
    """The head of a request is larger than is taken; it was passed over."""

    stream: int


class Data(Struct, frozen=True):
    """A part of a body, or of any stream of a protocol that is not HTTP/3."""

    stream: int
    data: bytes
    ended: bool


class Reset(Struct, frozen=True):
    """The other side will send no more of a stream, and it is not whole."""

    stream: int


class Stopped(Struct, frozen=True):
    """The other side wants no more of a stream."""

    stream: int


class Named(Struct, frozen=True):
    """The other side may use one more connection id."""

    cid: bytes


class Unnamed(Struct, frozen=True):
    """The other side uses a connection id no more."""

    cid: bytes


class Answered(Struct, frozen=True):
    """The other side has answered a ping, ``number`` is that of the ping."""

    number: int


class Closed(Struct, frozen=True):
    """The connection is over, for either side's reason; ``code`` is that of RFC 9000 section 20 or RFC 9114."""

    code: int
    reason: str


Event = Opened | Completed | Headers | TooLarge | Data | Reset | Stopped | Named | Unnamed | Answered | Closed


class TicketWanted(Exception):
    """Raised by `Session.receive`: a client wants to resume a session, whose ticket has to be looked for first.

    The session is to be replaced by what its `again` returns, which is then given the same datagrams.
    """

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        super().__init__("a ticket is wanted")


class Ticket(Struct, frozen=True):
    """A session that can be resumed; ``identity`` is all that the client shows. Times in seconds since the epoch."""

    identity: bytes
    cipher_suite: int
    secret: bytes
    age_add: int
    not_before: float
    not_after: float


class Path(Struct, frozen=True):
    """How the network to the other side is; ``rtt`` in seconds, ``window`` and ``in_flight`` in bytes."""

    rtt: float
    window: int
    in_flight: int


class Session(Protocol):
    """One QUIC connection, without any socket: datagrams in, events and datagrams out. Times are the loop's.

    Sizes are in bytes. Nothing here blocks, and nothing may be called from two threads. ``tickets`` are those that
    were given to the client since the list was last emptied.
    """

    tickets: list[Ticket]

    @property
    def completed(self) -> bool:
        """Whether the handshake is complete."""
        ...

    @property
    def address(self) -> Address | None:
        """Where the other side has proved to be, None before it has proved anything."""
        ...

    @property
    def names(self) -> Sequence[bytes]:
        """The first connection id of this side."""
        ...

    def receive(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """Takes in what has arrived together. Raises `TicketWanted`."""
        ...

    def events(self) -> Iterable[Event]:
        """Yields what has happened since it was last asked."""
        ...

    def transmit(self, now: float) -> Sequence[Datagrams]:
        """Returns the datagrams that may be sent now."""
        ...

    def timer(self) -> float | None:
        """Returns when `expire` has to be called, None for never."""
        ...

    def expire(self, now: float) -> None:
        """Does what was due: declares datagrams lost, or ends the connection."""
        ...

    def again(self, ticket: Ticket | None) -> "Session":
        """Returns the same session as it was before its first datagram, with the answer to `TicketWanted`."""
        ...

    def unsent(self, stream: int) -> int:
        """Returns how much of what was written to a stream has never been sent."""
        ...

    def consumed(self, stream: int, size: int) -> bool:
        """Opens the window by what the application has taken, and says whether the client has to be told."""
        ...

    def head(self, stream: int, headers: HeaderList, *, ended: bool) -> None:
        """Sends the head of an answer, or of a request.

        This and the next two do nothing where the stream is broken off: the other side may do so at any time.
        """
        ...

    def body(self, stream: int, data: bytes | memoryview, *, ended: bool) -> None:
        """Sends a part of a body."""
        ...

    def write(self, stream: int, data: bytes, *, ended: bool) -> None:
        """Sends bytes on a stream of a protocol that is not HTTP/3."""
        ...

    def reset(self, stream: int, code: int) -> None:
        """Breaks off what this side sends; one that is over is left as it is."""
        ...

    def stop(self, stream: int, code: int) -> None:
        """Asks the other side to send no more."""
        ...

    def forget(self, stream: int) -> None:
        """Drops what was counted for a stream that nobody reads any more."""
        ...

    def next_stream(self) -> int:
        """Returns the number of the next stream of this side."""
        ...

    def goaway(self, first: int) -> None:
        """Says that requests on streams from ``first`` on are not answered any more (RFC 9114 section 5.2)."""
        ...

    def ping(self, number: int) -> None:
        """Asks the other side for a sign of life."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Ends the connection."""
        ...

    def path(self) -> Path:
        """Returns how the network to the other side is."""
        ...


def apart(datagrams: Iterable[Datagrams]) -> Iterator[tuple[bytes, Address]]:
    """Yields each datagram."""
    for data, address, size in datagrams:
        if len(data) <= size:
            yield data, address
        else:
            for start in range(0, len(data), size):
                yield data[start : start + size], address


def joined(datagrams: Sequence[tuple[bytes, Address]]) -> list[Datagrams]:
    """Returns datagrams with those of a size to one address together, as far as one call may send them."""
    made = list[Datagrams]()
    place = 0
    while place < len(datagrams):
        first, address = datagrams[place]
        size = whole = len(first)
        run = [first]
        place += 1
        while place < len(datagrams) and len(run) < MOST_SEGMENTS:
            data, other = datagrams[place]
            if other != address or len(data) > size or whole + len(data) > MOST_JOINED:
                break
            run.append(data)
            whole += len(data)
            place += 1
            if len(data) < size:
                break
        made.append((b"".join(run), address, size))
    return made


def reset_token(secret: bytes, cid: bytes) -> bytes:
    """Returns what proves that a server has lost a connection (RFC 9000 section 10.3.2)."""
    return hmac.digest(secret, cid, "sha256")[:16]


class Engine(Protocol):
    """Makes the sessions of one server, whose certificate it has; ``versions`` are those of QUIC that it speaks."""

    versions: Sequence[int]

    def cid(self) -> bytes:
        """Returns a new connection id, whose first byte is the process."""
        ...

    def reset_token(self, cid: bytes) -> bytes:
        """Returns what proves that this server has lost a connection (RFC 9000 section 10.3.2)."""
        ...

    def session(self, original: bytes, retried: bytes | None) -> Session:
        """Returns a session for a client whose first datagram was for ``original``.

        ``retried`` is the id that it was asked to come again with, and has, None where it was not asked.
        """
        ...
