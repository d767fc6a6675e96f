"""The engine aioquic, and the only module that touches what is private in it.

Which attributes those are is in `PRIVATE`; a test compares that with the installed version. Why each is needed:

- aioquic raises its windows with what arrives, not with what the application has taken (RFC 9000 section 4.2 leaves it
  to the receiver), so that a slow application would get everything into memory;
- it buffers whatever is written, and does not say how much of that was never sent;
- connection ids are random, and here their first byte says which process serves them;
- it never changes keys by itself, however much it has encrypted with one;
- it looks at each packet of a transfer for all that a packet may hold, which is most of what a transfer costs.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnnecessaryComparison=false
# See above; and its types do not say all.

import datetime as dt
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from aioquic import tls
from aioquic._crypto import CryptoError
from aioquic.buffer import encode_uint_var
from aioquic.quic import connection as quic
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicFrameType, QuicPacketType, QuicStreamFrame, decode_packet_number
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.recovery import MAX_ACK_RANGES
from aioquic.quic.stream import FinalSizeError

from drift_quic_aioquic.engine import (
    CID_BYTES,
    CONNECTION_WINDOW,
    KEY_PACKETS,
    MAX_ONE_WAY_STREAMS,
    MAX_STREAMS,
    SMALLEST_DATAGRAM,
    STREAM_WINDOW,
    Address,
    Datagrams,
    Event,
    Path,
    Session,
    Ticket,
    TicketWanted,
    apart,
    joined,
    reset_token,
)
from drift_quic_aioquic.http3 import HttpSession

FAR_SECONDS: Final = 0.002
"""From this round trip on it is no local network, and datagrams are spread over it."""

BLACK_HOLE_PROBES: Final = 3
"""So many probes without an answer, and large datagrams are taken for what the network swallows (RFC 8899)."""

KEPT_PACKETS: Final = 4
"""Room in the congestion window that bulk leaves to everything else."""

TURN_PACKETS: Final = 45
"""How much of one stream is sent before the next has its turn: what one call sends at most."""

LEAST_DATA: Final = 64
"""Bytes of a packet from which on it may be one part of a stream and nothing else."""

PRIVATE: Final = {
    "connection": [
        "_ack_delay",
        "_ack_eliciting_sent_since_receipt",
        "_close_at",
        "_close_pending",
        "_cryptos",
        "_handshake_complete",
        "_handshake_confirmed",
        "_host_cid_seq",
        "_host_cids",
        "_idle_timeout",
        "_initialize",
        "_is_client",
        "_local_initial_source_connection_id",
        "_local_max_data",
        "_local_max_streams_bidi",
        "_local_max_streams_uni",
        "_loss",
        "_max_datagram_size",
        "_network_paths",
        "_on_connection_limit_delivery",
        "_on_max_stream_data_delivery",
        "_packet_number",
        "_payload_received",
        "_peer_cid",
        "_probe_pending",
        "_remote_active_connection_id_limit",
        "_remote_max_data",
        "_remote_max_data_used",
        "_stream_is_discarded",
        "_replenish_connection_ids",
        "_spaces",
        "_spin_bit",
        "_spin_highest_pn",
        "_state",
        "_streams",
        "_streams_queue",
        "_write_application",
        "_write_connection_limits",
        "_write_stream_limits",
        "_configuration",
        "_events",
    ],
    "builder": ["_datagrams", "_flight_bytes", "_packet_number", "_packets", "_total_bytes"],
    "recovery": ["_pacer", "_pto_count", "_rtt_initialized", "_rtt_min", "_rtt_smoothed"],
    "sender": ["_buffer", "_buffer_start", "_buffer_stop", "_pending", "_reset_error_code"],
    "crypto": ["_update_key_requested"],
    "aead": ["_aead", "_iv"],
    "protection": ["_encryptor", "_is_chacha20", "_mask"],
    "tls": ["_max_early_data"],
}
"""Attributes of aioquic's objects that its documentation does not promise."""


class _Pacer:
    """Decides when the next datagram goes out, in place of aioquic's own, where the network is near."""

    def __init__(self, loss: Any, pacer: Any, mode: str) -> None:
        self._loss = loss
        self._pacer = pacer
        self._mode = mode

    def next_send_time(self, now: float) -> float | None:
        near = self._mode == "off" or (self._mode == "auto" and self._loss._rtt_min < FAR_SECONDS)
        found: float | None = None if near else self._pacer.next_send_time(now=now)
        return found

    def update_after_send(self, now: float) -> None:
        self._pacer.update_after_send(now=now)

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        self._pacer.update_rate(congestion_window=congestion_window, smoothed_rtt=smoothed_rtt)


class AioquicEngine:
    """What all sessions of a process have in common; ``secret`` makes the tokens of stateless resets."""

    def __init__(
        self, configuration: QuicConfiguration, *, worker: int, secret: bytes, tickets: bool, early: bool, pacing: str
    ) -> None:
        self.configuration = configuration
        self.versions: Sequence[int] = configuration.supported_versions
        self.worker = worker
        self.secret = secret
        self.tickets = tickets
        self.early = early
        self.pacing = pacing

    def cid(self) -> bytes:
        """Returns a new connection id, whose first byte is the process."""
        return bytes([self.worker]) + os.urandom(CID_BYTES - 1)

    def reset_token(self, cid: bytes) -> bytes:
        """Returns what proves that this server has lost a connection (RFC 9000 section 10.3.2)."""
        return reset_token(self.secret, cid)

    def session(self, original: bytes, retried: bytes | None) -> Session:
        """See `Engine`."""
        return AioquicSession(
            self, {"original_destination_connection_id": original, "retry_source_connection_id": retried}
        )


class _Connection(quic.QuicConnection):
    """aioquic's connection, with windows that follow the application and connection ids of our own."""

    def __init__(self, engine: AioquicEngine, **arguments: Any) -> None:
        # `super().__init__` makes an id, and replenishing needs to know how.
        self._engine = engine
        self.waiting: dict[int, int] = {}
        """Bytes of each stream that the application has not taken."""
        self.kept: Callable[[], int] = int
        """Returns how many bytes of frames that are not whole HTTP/3 keeps."""
        self._key_phase = self._key_since = 0
        """The current key, and the packet with which its use began."""
        super().__init__(configuration=engine.configuration, **arguments)
        self._rename(engine.cid())
        loss: Any = self._loss
        loss._pacer = _Pacer(self._loss, self._loss._pacer, engine.pacing)
        if not self._configuration.is_client:
            for limit, value in (
                (self._local_max_streams_bidi, MAX_STREAMS),
                (self._local_max_streams_uni, MAX_ONE_WAY_STREAMS),
            ):
                limit.value = limit.sent = value

    @property
    def queue(self) -> deque[Any]:
        """What has happened and was not told yet."""
        return self._events

    def _rename(self, cid: bytes) -> None:
        """Makes ``cid`` the first connection id."""
        if self._configuration.is_client:
            return
        self._host_cids[0].cid = cid
        self._host_cids[0].stateless_reset_token = self._engine.reset_token(cid)
        self.host_cid = self._local_initial_source_connection_id = cid

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        if not self._engine.early:
            self.tls._max_early_data = None

    def _replenish_connection_ids(self) -> None:
        if self._configuration.is_client:
            super()._replenish_connection_ids()
            return
        while len(self._host_cids) < min(8, self._remote_active_connection_id_limit):
            cid = self._engine.cid()
            made = quic.QuicConnectionId(cid, self._host_cid_seq, self._engine.reset_token(cid))
            self._host_cids.append(made)
            self._host_cid_seq += 1

    def abandon(self, stream_id: int) -> None:
        """Forgets what will never be sent of a stream that was broken off."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.sender.is_finished:
            sender = stream.sender
            sender._buffer_stop = sender.highest_offset
            sender._buffer.clear()

    def is_over(self, stream_id: int) -> bool:
        """Says whether nothing can be sent on a stream any more, since either side has broken it off."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._stream_is_discarded(stream_id)
        return stream.sender._reset_error_code is not None

    def held(self) -> int:
        """Returns how much of what has arrived is in memory: not taken, or behind a gap."""
        beyond_gaps = sum(
            stream.receiver.highest_offset - stream.receiver.starting_offset()
            for stream in self._streams.values()
            if not stream.receiver.is_finished
        )
        return beyond_gaps + sum(self.waiting.values()) + self.kept()

    def due(self, stream_id: int) -> bool:
        """Says whether the other side soon needs to know of room that there is."""
        limit, stream = self._local_max_data, self._streams.get(stream_id)
        if limit.sent - limit.used < CONNECTION_WINDOW // 2:
            return True
        if stream is None or stream.receiver.is_finished:
            return False
        return bool(stream.max_stream_data_local_sent - stream.receiver.starting_offset() < STREAM_WINDOW // 2)

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Takes a datagram in."""
        if not self._handshake_confirmed or not self._receive_plain(data, addr, now):
            super().receive_datagram(data, addr, now)

    def _receive_plain(self, data: bytes, addr: Any, now: float) -> bool:
        """Takes in a packet as nearly all are: on the known path, by the current id and keys, once.

        aioquic's way looks at each for all that may be different; where something is, or seems so, this returns False
        and has changed nothing.
        """
        path, start = self._network_paths[0], 1 + CID_BYTES
        recv: Any = self._cryptos[tls.Epoch.ONE_RTT].recv
        known = path.addr == addr and path.is_validated and data[1:start] == self.host_cid
        if not known or data[0] & 0xC0 != 0x40 or self._state is not quic.QuicConnectionState.CONNECTED:  # noqa: PLR2004
            return False
        if self._close_pending or len(data) < start + 20 or recv.hp is None or recv.hp._is_chacha20:
            return False
        mask = recv.hp._encryptor.update(data[start + 4 : start + 20])
        first = data[0] ^ (mask[0] & 0x1F)
        if first & 0x18 or (first >> 2) & 1 != recv.key_phase:
            return False
        size = (first & 3) + 1
        truncated = int.from_bytes(data[start : start + size]) ^ int.from_bytes(mask[1 : 1 + size])
        space = self._spaces[tls.Epoch.ONE_RTT]
        number = decode_packet_number(truncated, size * 8, space.expected_packet_number)
        if number in space.received_packets:
            return False
        head = b"".join((bytes((first,)), data[1:start], truncated.to_bytes(size)))
        try:
            payload = recv.aead.decrypt(data[start + size :], head, number)
        except CryptoError:
            return False
        self._take(payload, number, path, now, spin=bool(first & 0x20))
        return True

    def _take(self, payload: bytes, number: int, path: Any, now: float, *, spin: bool) -> None:
        """Handles the frames of a packet that was decrypted, and remembers to acknowledge it."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        space.expected_packet_number = max(space.expected_packet_number, number + 1)
        if self._cryptos[tls.Epoch.ZERO_RTT].recv.is_valid():
            self._cryptos[tls.Epoch.ZERO_RTT].recv.teardown()
        if number > self._spin_highest_pn:
            self._spin_bit, self._spin_highest_pn = spin != self._is_client, number
        context = quic.QuicReceiveContext(tls.Epoch.ONE_RTT, self.host_cid, path, None, now, None)
        try:
            asks = self._take_data(payload) or self._payload_received(context, payload)[0]
        except quic.QuicConnectionError as error:
            self.close(error.error_code, error.frame_type, error.reason_phrase)
            return
        if self._state is not quic.QuicConnectionState.CONNECTED or self._close_pending:
            return
        self._close_at = now + self._idle_timeout()
        self._ack_eliciting_sent_since_receipt = False
        if number > space.largest_received_packet:
            space.largest_received_packet, space.largest_received_time = number, now
        space.ack_queue.add(number)
        space.received_packets.add(number)
        if len(space.ack_queue) > MAX_ACK_RANGES:
            space.ack_queue.shift()
        if asks and space.ack_at is None:
            space.ack_at = now + self._ack_delay

    def _take_data(self, payload: bytes) -> bool:
        """Takes in a packet that is one part of a known stream; False, with nothing changed, where it may be more."""
        kind = payload[0]
        if kind & 0xF9 != 0x08 or len(payload) < LEAST_DATA:  # noqa: PLR2004 - STREAM, and not its end
            return False
        number, place = _varint(payload, 1)
        offset, place = _varint(payload, place) if kind & 4 else (0, place)
        size, place = _varint(payload, place) if kind & 2 else (len(payload) - place, place)
        stream = self._streams.get(number)
        if place + size != len(payload) or stream is None or stream.receiver.is_finished:
            return False
        receiver, limit = stream.receiver, self._local_max_data
        fresh = max(0, offset + size - receiver.highest_offset)
        if offset + size > stream.max_stream_data_local or limit.used + fresh > limit.value:
            return False
        try:
            event = receiver.handle_frame(QuicStreamFrame(data=payload[place:], offset=offset))
        except FinalSizeError:
            return False
        if event is not None:
            self._events.append(event)
        limit.used += fresh
        return True

    def _write_application(self, builder: Any, network_path: Any, now: float) -> None:
        if self._handshake_confirmed:
            self._change_key(builder._packet_number)
        if self._handshake_confirmed and network_path.is_validated:
            self._write_bulk(builder, now)
        super()._write_application(builder, network_path, now)

    def _change_key(self, number: int) -> None:
        """Has keys changed before the current one has encrypted too much; ``number`` is that of the next packet."""
        crypto = self._cryptos[tls.Epoch.ONE_RTT]
        if crypto.key_phase != self._key_phase:
            self._key_phase, self._key_since = crypto.key_phase, number
        elif number - self._key_since >= KEY_PACKETS:
            self.request_key_update()

    def _write_bulk(self, builder: Any, now: float) -> None:
        """Makes packets that are full of one stream, which is most of what a download is.

        aioquic's way looks, for each packet, at all that a packet may hold. Everything else is left to that, with room
        in the congestion window: ends of streams, acknowledgements, limits, and whatever is rare.
        """
        crypto, loss = self._cryptos[tls.Epoch.ONE_RTT], self._loss
        if builder.max_flight_bytes is None or crypto._update_key_requested or self._probe_pending:
            return
        size = self._max_datagram_size
        left = (builder.max_flight_bytes - builder._flight_bytes) // size - KEPT_PACKETS
        if left <= 0 or loss._pacer.next_send_time(now=now) is not None:
            return
        head = bytes([0x40 | (self._spin_bit << 5) | (crypto.key_phase << 2) | 1]) + self._peer_cid.cid
        most = size - len(head) - 2 - crypto.aead_tag_size
        made: list[tuple[bytes, Any]] = []
        queue = self._streams_queue
        ready = [stream for stream in queue if not (stream.is_blocked or stream.sender.buffer_is_empty)]
        while ready and len(made) < left:
            stream, before = ready.pop(0), len(made)
            self._fill(stream, min(left - before, TURN_PACKETS), most, made)
            if len(made) > before:
                ready.append(stream)
                # Whoever was served goes behind those who were not.
                queue.remove(stream)
                queue.append(stream)
        if made:
            self._seal(builder, crypto.send, head, made)

    def _fill(self, stream: Any, count: int, most: int, made: list[tuple[bytes, Any]]) -> None:
        """Cuts what a stream has to send into at most ``count`` payloads of ``most`` bytes each."""
        sender = stream.sender
        if not len(sender._pending):
            return
        first = sender._pending[0]
        limit = min(
            sender.highest_offset + self._remote_max_data - self._remote_max_data_used, stream.max_stream_data_remote
        )
        start, stop = first.start, min(first.stop, limit)
        name = encode_uint_var(stream.stream_id)
        buffer, origin = memoryview(sender._buffer), sender._buffer_start
        for _ in range(count):
            place = b"\x0e" + name + encode_uint_var(start)
            part = most - len(place) - 2
            if stop - start < part:
                break
            frame = b"".join((place, (part | 0x4000).to_bytes(2), buffer[start - origin : start - origin + part]))
            made.append((frame, (sender.on_data_delivery, (start, start + part, False))))
            start += part
        buffer.release()
        if start > first.start:
            sender._pending.subtract(first.start, start)
            if start > sender.highest_offset:
                self._remote_max_data_used += start - sender.highest_offset
                sender.highest_offset = start

    def _seal(self, builder: Any, send: Any, head: bytes, made: list[tuple[bytes, Any]]) -> None:
        """Encrypts packets, with one call for the protection of all headers (RFC 9001 section 5.4)."""
        number, sealed = builder._packet_number, list[tuple[bytes, bytes]]()
        aead, vector = send.aead._aead, send.aead._iv
        for place, (frame, _) in enumerate(made):
            whole = head + ((number + place) & 0xFFFF).to_bytes(2)
            sealed.append((whole, aead.encrypt((vector ^ (number + place)).to_bytes(12), frame, whole)))
        if send.hp._is_chacha20:
            masks = b"".join(send.hp._mask(body[2:18])[:5] + bytes(11) for _, body in sealed)
        else:
            masks = send.hp._encryptor.update(b"".join(body[2:18] for _, body in sealed))
        cid = head[1:]
        for place, (whole, body) in enumerate(sealed):
            mask = masks[16 * place : 16 * place + 3]
            first = bytes((whole[0] ^ (mask[0] & 0x1F),))
            last = bytes((whole[-2] ^ mask[1], whole[-1] ^ mask[2]))
            datagram = b"".join((first, cid, last, body))
            packet = QuicSentPacket(
                tls.Epoch.ONE_RTT,
                in_flight=True,
                is_ack_eliciting=True,
                is_crypto_packet=False,
                packet_number=number + place,
                packet_type=QuicPacketType.ONE_RTT,
                sent_bytes=len(datagram),
                delivery_handlers=[made[place][1]],
            )
            builder._packets.append(packet)
            builder._datagrams.append(datagram)
            builder._flight_bytes += len(datagram)
            builder._total_bytes += len(datagram)
        builder._packet_number += len(sealed)

    def _write_connection_limits(self, builder: Any, space: Any) -> None:
        del space
        limit = self._local_max_data
        if limit.sent - limit.used < CONNECTION_WINDOW // 2:
            limit.value = max(limit.value, limit.used - self.held() + CONNECTION_WINDOW)
        streams = (self._local_max_streams_bidi, self._local_max_streams_uni)
        for one in (limit, *(one for one in streams if one.sent - one.used < one.value - one.sent)):
            if one.value != one.sent:
                frame = builder.start_frame(
                    one.frame_type, capacity=9, handler=self._on_connection_limit_delivery, handler_args=(one,)
                )
                frame.push_uint_var(one.value)
                one.sent = one.value

    def _write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        del space
        receiver = stream.receiver
        if receiver.is_finished or not stream.max_stream_data_local:
            return
        start = receiver.starting_offset()
        if stream.max_stream_data_local - start < STREAM_WINDOW // 2 or stream.max_stream_data_local_sent == 0:
            taken = start - self.waiting.get(stream.stream_id, 0)
            stream.max_stream_data_local = max(stream.max_stream_data_local, taken + STREAM_WINDOW)
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            frame = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=17,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            frame.push_uint_var(stream.stream_id)
            frame.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Returns an integer of variable length, and the place behind it (RFC 9000 section 16)."""
    size = 1 << (data[place] >> 6)
    return int.from_bytes(data[place : place + size]) & ((1 << (8 * size - 2)) - 1), place + size


class AioquicSession(HttpSession[_Connection]):
    """A `Session` of aioquic."""

    _kinds = quic_events

    def __init__(self, engine: AioquicEngine, arguments: dict[str, bytes | None] | None = None) -> None:
        self.tickets: list[Ticket] = []
        self._engine = engine
        self._arguments: dict[str, Any] = dict(arguments or {})
        self._looked = False
        self._found: Ticket | None = None
        self._size = engine.configuration.max_datagram_size
        handlers = {
            "session_ticket_fetcher": self._fetch if engine.tickets else None,
            "session_ticket_handler": self._keep if engine.tickets else None,
        }
        self._quic = _Connection(engine, **self._arguments, **handlers)

    @property
    def completed(self) -> bool:
        """Whether the handshake is complete."""
        return bool(self._quic._handshake_complete)

    @property
    def address(self) -> Address | None:
        """See `Session`."""
        return next((path.addr for path in self._quic._network_paths if path.is_validated), None)

    @property
    def names(self) -> Sequence[bytes]:
        """See `Session`."""
        return (self._quic.host_cid,)

    def connect(self, address: Any, now: float) -> None:
        """Begins as a client."""
        self._quic.connect(address, now)

    def receive(self, datagrams: Sequence[Datagrams], now: float) -> None:
        """See `Session`."""
        for datagram, address in apart(datagrams):
            self._quic.receive_datagram(datagram, address, now)

    def again(self, ticket: Ticket | None) -> Session:
        """See `Session`."""
        fresh = AioquicSession(self._engine, self._arguments)
        fresh._looked, fresh._found = True, ticket
        fresh._quic._rename(self._quic.host_cid)
        # A client takes a second packet of the same number for a copy of the first.
        fresh._quic._packet_number = self._quic._packet_number
        return fresh

    def _fetch(self, identity: bytes) -> tls.SessionTicket | None:
        if not self._looked:
            raise TicketWanted(identity)
        found = self._found
        if found is None or found.identity != identity:
            return None
        return tls.SessionTicket(
            age_add=found.age_add,
            cipher_suite=tls.CipherSuite(found.cipher_suite),
            not_valid_after=dt.datetime.fromtimestamp(found.not_after, dt.UTC),
            not_valid_before=dt.datetime.fromtimestamp(found.not_before, dt.UTC),
            resumption_secret=found.secret,
            server_name="",
            ticket=identity,
        )

    def _keep(self, ticket: tls.SessionTicket) -> None:
        self.tickets.append(
            Ticket(
                ticket.ticket,
                int(ticket.cipher_suite),
                ticket.resumption_secret,
                ticket.age_add,
                ticket.not_valid_before.timestamp(),
                ticket.not_valid_after.timestamp(),
            )
        )

    def events(self) -> Iterable[Event]:
        """See `Session`."""
        return self._happened()

    def transmit(self, now: float) -> Sequence[Datagrams]:
        """See `Session`."""
        if not self._quic._network_paths:
            return []
        return joined(self._quic.datagrams_to_send(now))

    def timer(self) -> float | None:
        """See `Session`."""
        return self._quic.get_timer() if self._quic._close_at is not None else None

    def expire(self, now: float) -> None:
        """See `Session`."""
        self._quic.handle_timer(now)
        if self._size > SMALLEST_DATAGRAM and self._quic._loss._pto_count >= BLACK_HOLE_PROBES:
            self._size = self._quic._max_datagram_size = SMALLEST_DATAGRAM

    def unsent(self, stream: int) -> int:
        """See `Session`."""
        found = self._quic._streams.get(stream)
        return 0 if found is None else found.sender._buffer_stop - found.sender.highest_offset

    def consumed(self, stream: int, size: int) -> bool:
        """See `Session`."""
        self._took(stream, size)
        return self._quic.due(stream)

    def stop(self, stream: int, code: int) -> None:
        """See `Session`."""
        found = self._quic._streams.get(stream)
        if found is not None and not found.receiver.is_finished:
            self._quic.stop_stream(stream, code)

    def path(self) -> Path:
        """See `Session`."""
        loss = self._quic._loss
        return Path(loss._rtt_smoothed if loss._rtt_initialized else 0.0, loss.congestion_window, loss.bytes_in_flight)
