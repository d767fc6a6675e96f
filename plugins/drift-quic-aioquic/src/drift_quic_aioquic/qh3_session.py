"""The engine qh3, whose packets are made in Rust, and the only module that touches what is private in it.

Which attributes those are is in `PRIVATE`; a test compares that with the installed version. Why each is needed:

- qh3 raises its windows when an event is taken from its core, and takes all at once. Here they are left there while the
  application is behind; then all of that connection waits, as nothing else would hold its client back;
- it reads each datagram again that it has made, for a log that is off;
- tokens of stateless resets are random, and here they outlive the process;
- it never changes keys by itself, and its view of the network is not shown.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# See above; and its types do not say all.

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from qh3.quic import connection as quic
from qh3.quic import events
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.packet import QuicProtocolVersion
from qh3.tls import ExtensionType

from drift_quic_aioquic.certificates import Identity
from drift_quic_aioquic.config import Settings
from drift_quic_aioquic.engine import (
    CID_BYTES,
    CONNECTION_WINDOW,
    KEY_PACKETS,
    STREAM_WINDOW,
    Address,
    Datagrams,
    Event,
    Path,
    Session,
    Ticket,
    apart,
    joined,
    reset_token,
)
from drift_quic_aioquic.http3 import HttpSession

HELD_BYTES: Final = CONNECTION_WINDOW // 2
"""From so much on that waits for the application nothing more is taken from the core, to which as much again may come.

What is taken at once may exceed it by as much, too.
"""

MOST_EVENTS: Final = 1 << 16
"""What the core may hold while the application is behind: windows bound bytes of streams only."""

EXCESSIVE_LOAD: Final = 0x107
"""H3_EXCESSIVE_LOAD (RFC 9114 section 8.1)."""

LIVING: Final = frozenset({"first_flight", "connected"})

PRIVATE: Final = {
    "connection": [
        "_core",
        "_create_tls",
        "_drain_core",
        "_events",
        "_handshake_complete",
        "_handshake_confirmed",
        "_stream_can_send",
    ],
    "core": [
        "active_path",
        "bytes_in_flight",
        "congestion_window",
        "has_events",
        "poll_transmit",
        "receive_many_datagrams",
        "send_stream",
        "smoothed_rtt",
        "state",
    ],
}
"""Attributes of qh3's objects that its documentation does not promise."""


class Qh3Engine:
    """See `Engine`; ``secret`` makes the tokens of stateless resets."""

    def __init__(self, identity: Identity, config: Settings, secret: bytes) -> None:
        self.configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=config.alpn,
            connection_id_length=CID_BYTES,
            idle_timeout=config.idle_seconds,
            max_data=HELD_BYTES,
            max_stream_data=STREAM_WINDOW,
            max_datagram_size=config.max_datagram_size,
            supported_versions=[QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2],
        )
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in identity.chain)
        key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.configuration.load_cert_chain(chain, key)
        self.versions: Sequence[int] = self.configuration.supported_versions
        self._secret = secret
        # It warns of every client that says goodbye.
        quic.logger.setLevel(logging.ERROR)

    def cid(self) -> bytes:
        """See `Engine`. There is one process, and its further ids are the core's own."""
        return bytes(1) + os.urandom(CID_BYTES - 1)

    def reset_token(self, cid: bytes) -> bytes:
        """See `Engine`."""
        return reset_token(self._secret, cid)

    def session(self, original: bytes, retried: bytes | None) -> Session:
        """See `Engine`."""
        return Qh3Session(self, original, retried)


class _Connection(quic.QuicConnection):
    """qh3's connection, whose events wait in its core while the application is behind."""

    def __init__(self, engine: Qh3Engine, original: bytes, retried: bytes | None) -> None:
        super().__init__(
            configuration=engine.configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        self.host_cid = engine.cid()
        self.waiting: dict[int, int] = {}
        self.kept: Callable[[], int] = int
        """Of `Streams`; heads are bounded by their number here."""
        self._held_events = 0
        """What has come to the core since the application is behind."""
        self._engine = engine

    @property
    def queue(self) -> deque[Any]:
        """What has happened and was not told yet."""
        return self._events

    @property
    def core(self) -> Any:
        """What is in Rust; None before the first datagram."""
        return self._core

    @property
    def completed(self) -> bool:
        """Whether the handshake is complete."""
        return bool(self._handshake_complete)

    def _create_tls(self, remote_source_cid: bytes | None) -> Any:
        made = super()._create_tls(remote_source_cid)
        made.stateless_reset_token = self._engine.reset_token(self.host_cid)
        parameters = made.serialize_transport_parameters()
        made.tls.handshake_extensions = [(ExtensionType.QUIC_TRANSPORT_PARAMETERS, parameters)]
        return made

    @property
    def behind(self) -> bool:
        """Whether the application has so much to take that nothing more is given to it, while the connection lives.

        Heads that are not whole do not count, whose rest would never come: their number and size are bounded.
        """
        return not self.ends and sum(self.waiting.values()) > HELD_BYTES

    def receive_many_datagrams(self, datagrams: list[bytes], addr: Any, now: float) -> None:
        """Takes in what has arrived together."""
        if not self._handshake_complete:
            super().receive_many_datagrams(datagrams, addr, now)
            return
        *_, added = self.core.receive_many_datagrams(datagrams, addr, now)
        self._held_events = self._held_events + added if self.behind else 0
        if self._held_events > MOST_EVENTS:
            self.close(EXCESSIVE_LOAD, reason_phrase="too much was sent while what came before is not read")
        self.go_on()

    def _drain_core(self) -> None:
        self.go_on()

    def go_on(self) -> bool:
        """Takes what has come, or was held, if it may be taken now; says whether there was something."""
        if self._core is None or not self._core.has_events or self.behind:
            return False
        super()._drain_core()
        return True

    @property
    def ends(self) -> bool:
        """Whether the connection is over, or about to be, so that the core takes no orders."""
        return self._core is None or self._core.state not in LIVING

    def is_over(self, stream_id: int) -> bool:
        """Says whether nothing more can be sent on a stream."""
        return not self._stream_can_send(stream_id)

    def send_stream_data(self, stream_id: int, data: Any, end_stream: bool = False) -> None:
        """Sends a part of a stream, where there is still somebody to get it."""
        if self._handshake_complete and not stream_id & 1:
            # An answer; whoever sends it has asked whether it is over.
            self.core.send_stream(stream_id, data, end_stream)
        elif not self.ends:
            super().send_stream_data(stream_id, data, end_stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Breaks off what this side sends, unless that is complete."""
        if not self.is_over(stream_id):
            super().reset_stream(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Asks for no more of a stream, unless that is complete, which the core says by an error only."""
        if not self.ends:
            with suppress(ValueError):
                super().stop_stream(stream_id, error_code)

    def send_ping(self, uid: int) -> None:
        """Asks for a sign of life."""
        if not self.ends:
            super().send_ping(uid)

    def abandon(self, stream_id: int) -> None:
        """Does nothing: what the core has of a stream goes when that is reset."""

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """Returns the datagrams that may be sent now."""
        if self._core is None:
            return []
        poll, made = self._core.poll_transmit, list[tuple[bytes, Any]]()
        try:
            while (one := poll(now)) is not None:
                made.append(one[:2])
        except RuntimeError:
            # What comes next is larger than what may be sent to an address that is not proved, and goes out when it is.
            if self._handshake_complete:
                raise
        return made

    def change_key(self) -> None:
        """Has keys changed; nothing happens while the last change is not acknowledged."""
        if self._handshake_confirmed and not self.ends:
            with suppress(ValueError):
                self.request_key_update()


class Qh3Session(HttpSession[_Connection]):
    """A `Session` of qh3. It has no tickets: early data of quic-go ends its connections."""

    _kinds = events

    def __init__(self, engine: Qh3Engine, original: bytes, retried: bytes | None) -> None:
        self.tickets: list[Ticket] = []
        self._engine = engine
        self._ids = original, retried
        self._quic = _Connection(engine, original, retried)
        self._sealed = 0
        """Packets since the key was changed, no fewer."""

    @property
    def completed(self) -> bool:
        """Whether the handshake is complete."""
        return self._quic.completed

    @property
    def address(self) -> Address | None:
        """See `Session`."""
        found: Address | None = self._quic.core.active_path[2] if self._quic.completed else None
        return found

    @property
    def names(self) -> Sequence[bytes]:
        """See `Session`."""
        return (self._quic.host_cid,)

    def receive(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """See `Session`."""
        for address, together in groupby(apart(datagrams), itemgetter(1)):
            self._quic.receive_many_datagrams([data for data, _ in together], address, now)

    def again(self, ticket: Ticket | None) -> Session:
        """See `Session`."""
        del ticket
        return Qh3Session(self._engine, *self._ids)

    def events(self) -> Iterable[Event]:
        """See `Session`."""
        while True:
            yield from self._happened()
            if not self._quic.go_on():
                return

    def transmit(self, now: float) -> Sequence[Datagrams]:
        """See `Session`."""
        self._quic.go_on()
        made = self._quic.datagrams_to_send(now)
        self._sealed += len(made)
        if self._sealed >= KEY_PACKETS:
            self._sealed = 0
            self._quic.change_key()
        return joined(made)

    def timer(self) -> float | None:
        """See `Session`."""
        return self._quic.get_timer()

    def expire(self, now: float) -> None:
        """See `Session`."""
        self._quic.handle_timer(now)

    def unsent(self, stream: int) -> int:
        """See `Session`."""
        return self._quic.get_send_buffer_size(stream)

    def consumed(self, stream: int, size: int) -> bool:
        """See `Session`."""
        behind = self._quic.behind
        self._took(stream, size)
        return behind and not self._quic.behind

    def stop(self, stream: int, code: int) -> None:
        """See `Session`."""
        self._quic.stop_stream(stream, code)

    def path(self) -> Path:
        """See `Session`."""
        core = self._quic.core
        if core is None:
            return Path(0.0, 0, 0)
        return Path(core.smoothed_rtt or 0.0, core.congestion_window, core.bytes_in_flight)
