"""The engine quinn, which is Rust: keys, packets and loss are in `drift_quinn`; HTTP/3 is aioquic's as for all engines.

Its windows open as a stream is read, and a stream is read while the application has taken what came before.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import drift_quinn
from aioquic.quic import events
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from drift_quic_aioquic.certificates import Identity
from drift_quic_aioquic.config import Settings
from drift_quic_aioquic.engine import (
    CID_BYTES,
    CONNECTION_WINDOW,
    MAX_ONE_WAY_STREAMS,
    MAX_STREAMS,
    STREAM_WINDOW,
    Address,
    Datagrams,
    Event,
    Path,
    Session,
    Ticket,
    reset_token,
)
from drift_quic_aioquic.http3 import HttpSession

READ_BYTES: Final = STREAM_WINDOW // 4
"""How much is read of a stream at once, and may wait of it for the application before more is read."""

HELD_BYTES: Final = CONNECTION_WINDOW // 2
"""The same of all streams of a connection; as much again may have come and not be read."""

MOST_SESSIONS: Final = 10_000
"""Sessions that a process keeps for clients that come again."""

GENERAL_PROTOCOL_ERROR: Final = 0x101
"""H3_GENERAL_PROTOCOL_ERROR (RFC 9114 section 8.1)."""

CONTROL_STREAM: Final = 3
"""The first stream of a server in one direction."""

VERSION_1: Final = 1


class QuinnEngine:
    """See `Engine`; ``worker`` is the process, ``secret`` makes the tokens of stateless resets.

    Sessions that can be resumed are in this process's memory, each for one use: in others a client gets a full
    handshake, and early data that is played again meets no session.
    """

    def __init__(self, identity: Identity, config: Settings, secret: bytes, worker: int) -> None:
        self.versions: Sequence[int] = (VERSION_1,)
        self._secret = secret
        self._worker = worker
        self.native = drift_quinn.Engine(
            chain=[one.public_bytes(Encoding.DER) for one in identity.chain],
            key=identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            protocols=[name.encode() for name in config.alpn],
            sessions=MOST_SESSIONS if config.enable_0rtt else 0,
            early=config.enable_early_data,
            worker=worker,
            secret=secret,
            idle_seconds=config.idle_seconds,
            stream_window=STREAM_WINDOW,
            connection_window=HELD_BYTES,
            streams=MAX_STREAMS,
            one_way_streams=MAX_ONE_WAY_STREAMS,
            datagram_bytes=config.max_datagram_size,
        )

    def cid(self) -> bytes:
        """See `Engine`."""
        return bytes([self._worker]) + os.urandom(CID_BYTES - 1)

    def reset_token(self, cid: bytes) -> bytes:
        """See `Engine`."""
        return reset_token(self._secret, cid)

    def session(self, original: bytes, retried: bytes | None) -> Session:
        """See `Engine`."""
        return QuinnSession(self, original, retried)


class _Connection:
    """A connection of quinn with the face of aioquic's, as far as HTTP/3 sees that (`Streams`)."""

    configuration: Final = SimpleNamespace(is_client=False)
    _quic_logger: Final = None
    _remote_max_datagram_frame_size: Final = 1
    """HTTP/3 refuses settings that speak of datagrams where this is None; none is ever sent."""

    def __init__(self, engine: QuinnEngine, original: bytes, retried: bytes | None) -> None:
        self.core = engine.native.connection(original, retried is not None)
        self.waiting: dict[int, int] = {}
        self.kept: Callable[[], int] = int
        """Of `Streams`."""
        self.queue: deque[Any] = deque()
        self.completed = False
        self._readable: deque[int] = deque()
        """Streams of which there may be more."""
        self._held: set[int] = set()
        """Streams that are read when the application has taken more."""

    def next_event(self) -> Any:
        """Returns what has happened next, None for nothing."""
        while not self.queue:
            if self._readable:
                self._read(self._readable.popleft())
                continue
            found = self.core.next_event()
            if found is None:
                return None
            self._tell(found)
        return self.queue.popleft()

    def _tell(self, event: "drift_quinn.Event") -> None:
        if event[0] == "readable":
            self._readable.append(event[1])
        elif event[0] == "negotiated":
            self.queue.append(events.ProtocolNegotiated(event[1].decode()))
        elif event[0] == "completed":
            self.completed = True
            self.queue.append(events.HandshakeCompleted(None, event[1], event[1]))
        elif event[0] == "stopped":
            self.queue.append(events.StopSendingReceived(event[2], event[1]))
        elif event[0] == "named":
            self.queue.append(events.ConnectionIdIssued(event[1]))
        elif event[0] == "unnamed":
            self.queue.append(events.ConnectionIdRetired(event[1]))
        else:
            self.queue.append(events.ConnectionTerminated(event[1], None, event[2]))

    def _read(self, stream: int) -> None:
        if self.waiting.get(stream, 0) >= READ_BYTES or self._holds_enough():
            self._held.add(stream)
            return
        found = self.core.read(stream, READ_BYTES)
        if found is None:
            return
        data, ended, code = found
        if data or ended:
            self.queue.append(events.StreamDataReceived(data, ended, stream))
        if code is not None:
            self.queue.append(events.StreamReset(code, stream))
        elif len(data) == READ_BYTES and not ended:
            self._readable.append(stream)

    def _holds_enough(self) -> bool:
        return sum(self.waiting.values()) + self.kept() >= HELD_BYTES

    def read_on(self) -> None:
        """Reads what may be read now, so that windows that open thereby are told with what is sent next."""
        self.go_on()
        while self._readable:
            self._read(self._readable.popleft())

    def go_on(self) -> bool:
        """Lets streams be read that were held, if they may be now; says whether there is one."""
        if not self._held or self._holds_enough():
            return False
        free = {stream for stream in self._held if self.waiting.get(stream, 0) < READ_BYTES}
        self._held -= free
        self._readable.extend(free)
        return bool(free)

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """Returns the number of the next stream of this side; ends the connection where the client allows none."""
        made = self.core.open(is_unidirectional)
        if made is None:
            self.core.close(GENERAL_PROTOCOL_ERROR, "HTTP/3 needs three streams in each direction")
            return CONTROL_STREAM
        return made

    def send_stream_data(self, stream_id: int, data: Any, end_stream: bool = False) -> None:
        """Sends a part of a stream."""
        self.core.send(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Breaks off what this side sends."""
        self.core.reset(stream_id, error_code)

    def abandon(self, stream_id: int) -> None:
        """Does nothing: what quinn has of a stream goes when that is reset."""

    def is_over(self, stream_id: int) -> bool:
        """Says whether nothing can be sent on a stream any more, since either side has broken it off."""
        return self.core.is_over(stream_id)

    def send_ping(self, uid: int) -> None:
        """Asks the other side for a sign of life."""
        del uid
        self.core.ping()

    def close(self, error_code: int, frame_type: int | None = None, reason_phrase: str = "") -> None:
        """Ends the connection."""
        del frame_type
        self.core.close(error_code, reason_phrase)


class QuinnSession(HttpSession[_Connection]):
    """A `Session` of quinn."""

    _kinds = events

    def __init__(self, engine: QuinnEngine, original: bytes, retried: bytes | None) -> None:
        self.tickets: list[Ticket] = []
        self._made_of = engine, original, retried
        self._quic = _Connection(engine, original, retried)

    @property
    def completed(self) -> bool:
        """Whether the handshake is complete."""
        return self._quic.completed

    @property
    def address(self) -> Address | None:
        """See `Session`. None: where a client goes later is proved to quinn, which does not tell when."""
        return None

    @property
    def names(self) -> Sequence[bytes]:
        """See `Session`. They come with the first events."""
        return ()

    def receive(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """See `Session`."""
        self._quic.core.receive(datagrams, now)

    def again(self, ticket: Ticket | None) -> Session:
        """See `Session`."""
        del ticket
        return QuinnSession(*self._made_of)

    def events(self) -> Iterable[Event]:
        """See `Session`."""
        self._quic.go_on()
        return self._happened()

    def transmit(self, now: float) -> Sequence[Datagrams]:
        """See `Session`."""
        self._quic.read_on()
        return self._quic.core.transmit(now)

    def timer(self) -> float | None:
        """See `Session`."""
        return self._quic.core.timer()

    def expire(self, now: float) -> None:
        """See `Session`."""
        self._quic.core.expire(now)

    def unsent(self, stream: int) -> int:
        """See `Session`."""
        return self._quic.core.unsent(stream)

    def consumed(self, stream: int, size: int) -> bool:
        """See `Session`."""
        self._took(stream, size)
        return self._quic.go_on()

    def forget(self, stream: int) -> None:
        """See `Session`."""
        super().forget(stream)
        self._quic.go_on()

    def stop(self, stream: int, code: int) -> None:
        """See `Session`."""
        self._quic.core.stop(stream, code)

    def path(self) -> Path:
        """See `Session`."""
        return Path(*self._quic.core.path())
