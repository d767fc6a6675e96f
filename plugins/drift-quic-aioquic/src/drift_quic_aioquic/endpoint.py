"""Gives each datagram that arrives to its connection, and decides who may begin one."""

import os
import secrets
from typing import TYPE_CHECKING, Any, Final

from aioquic._buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from drift_quic_aioquic.connection import Connection
from drift_quic_aioquic.engine import CID_BYTES, SMALLEST_DATAGRAM, Address, Datagrams, Engine, apart
from drift_quic_aioquic.site import Site

if TYPE_CHECKING:
    from drift_quic_aioquic.neighbours import Neighbours
    from drift_quic_aioquic.udp import Udp

RETRY_FROM: Final = 64
"""So many handshakes under way, and further clients have to prove their address first (RFC 9000 section 8.1.2).

One costs about 100 KB until it is complete, and whoever can send a datagram from a false address can begin it.
"""

REFUSED: Final = int(QuicErrorCode.CONNECTION_REFUSED)
INVALID_TOKEN: Final = int(QuicErrorCode.INVALID_TOKEN)

LONG_HEADER: Final = 0x80
MAX_CID: Final = 20
RESETS_PER_SWEEP: Final = 100
"""Stateless resets between two sweeps, which are a second apart."""

RESET_BYTES: Final = 43
"""A reset is smaller than what it answers, so that two servers do not answer each other for ever."""


class Endpoint:
    """The connections of one process by their ids; ``waiting`` are those for which the kernel had no room."""

    udp: "Udp"

    def __init__(self, site: Site, engine: Engine, most: int, neighbours: "Neighbours | None") -> None:
        self.site = site
        self.engine = engine
        self.table: dict[bytes, Connection] = {}
        self.waiting: set[Connection] = set()
        self._most = most
        self._neighbours = neighbours
        self._retry = QuicRetryTokenHandler()
        self._resets = 0

    def arrived(self, datagrams: list[Datagrams]) -> None:
        """Takes what has arrived together."""
        together: dict[Connection, list[Datagrams]] = {}
        for one in datagrams:
            whole = self._connection_of_all(one)
            if whole is not None:
                together.setdefault(whole, []).append(one)
                continue
            for data, address in apart([one]):
                cid = cid_of(data)
                connection = None if cid is None else self.table.get(cid)
                if connection is None and cid is not None:
                    connection = self._stranger(data, address, cid)
                if connection is not None:
                    together.setdefault(connection, []).append((data, address, len(data)))
        for connection, its in together.items():
            connection.receive(its)

    def _connection_of_all(self, datagrams: Datagrams) -> Connection | None:
        """Returns the connection for which several datagrams are; None where they differ, or somebody begins one.

        A client may have several connections at one address. Each slice is what all have at one place.
        """
        data, _, size = datagrams
        if not CID_BYTES < size < len(data) or max(data[::size]) & LONG_HEADER:
            return None
        count = -(-len(data) // size)
        for place in range(1, 1 + CID_BYTES):
            if data[place::size].count(data[place]) != count:
                return None
        return self.table.get(data[1 : 1 + CID_BYTES])

    def _send(self, datagram: bytes, address: Address) -> None:
        self.udp.send([(datagram, address, len(datagram))])

    def forwarded(self, data: bytes, address: Address) -> None:
        """Takes what another process of this server has got in place of this one."""
        cid = cid_of(data)
        connection = None if cid is None else self.table.get(cid)
        if connection is None and cid is not None:
            connection = self._stranger(data, address, cid, forwarded=True)
        if connection is not None:
            connection.receive([(data, address, len(data))])

    def resumed(self) -> None:
        """Lets those send for which the kernel had no room."""
        waiting, self.waiting = self.waiting, set()
        for connection in waiting:
            connection.transmit()

    def sweep(self) -> None:
        """Does what has to be done once a second."""
        self._resets = 0
        self.site.sweep()

    def _stranger(self, data: bytes, address: Address, cid: bytes, *, forwarded: bool = False) -> Connection | None:
        """Returns a new connection for who may begin one; answers others, if anything, without remembering them."""
        if not data[0] & LONG_HEADER:
            if forwarded or not self._pass_on(data, address, cid):
                self._reset(data, address, cid)
            return None
        version = int.from_bytes(data[1:5])
        supported = list(self.engine.versions)
        if version not in supported:
            # RFC 9000 section 6.1: not for small ones, and never in answer to the same.
            if version and len(data) >= SMALLEST_DATAGRAM:
                source = data[7 + len(cid) : 7 + len(cid) + data[6 + len(cid)]] if len(data) > 6 + len(cid) else b""
                answer = encode_quic_version_negotiation(cid, source[:MAX_CID], supported)
                self._send(answer, address)
            return None
        # The kernel chooses by addresses, and otherwise as soon as a process has started or ended. A first id that a
        # client has made up may name another process by chance, which then serves it.
        if not forwarded and self._pass_on(data, address, cid):
            return None
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            return None
        if header.packet_type != QuicPacketType.INITIAL or len(data) < SMALLEST_DATAGRAM or len(cid) < CID_BYTES:
            return None
        return self._newcomer(header, address)

    def _newcomer(self, header: QuicHeader, address: Address) -> Connection | None:
        site, cid = self.site, header.destination_cid
        if site.draining or len(site.connections) >= self._most:
            site.measures.refused.inc()
            self._answer(refusal, header, address, REFUSED)
            return None
        original: bytes | None = None
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=address, destination_cid=cid, token=header.token, now=site.now()
                )
            except ValueError:
                # Of another time, or of another server at this address.
                original = None
        if original is None and len(site.half_open) >= RETRY_FROM:
            if header.token:
                self._answer(refusal, header, address, INVALID_TOKEN)
            else:
                self._prove(header, address)
            return None
        session = self.engine.session(original or cid, cid if original else None)
        connection = Connection(site, self, session, address)
        connection.name(cid, *session.names)
        return connection

    def _answer(self, make: Any, header: QuicHeader, address: Address, code: int) -> None:
        assert header.version is not None  # noqa: S101 - the long header has one
        self._send(make(header.version, header.source_cid, header.destination_cid, code), address)

    def _prove(self, header: QuicHeader, address: Address) -> None:
        """Asks a client to come again with a token that it gets only at its address."""
        assert header.version is not None  # noqa: S101 - the long header has one
        self.site.measures.retries.inc()
        source = self.engine.cid()
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=self.site.now(),
        )
        answer = encode_quic_retry(
            version=header.version,
            source_cid=source,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._send(answer, address)

    def _pass_on(self, data: bytes, address: Address, cid: bytes) -> bool:
        """Gives a datagram to the process that its id names; False where that is this one, or it is not there."""
        if self._neighbours is None or len(cid) != CID_BYTES or not self._neighbours.send(cid[0], data, address):
            return False
        self.site.measures.forwarded.inc()
        return True

    def _reset(self, data: bytes, address: Address, cid: bytes) -> None:
        """Tells a client whose connection is lost, as after a crash, that it need not wait (RFC 9000 section 10.3)."""
        if len(data) <= RESET_BYTES or self._resets >= RESETS_PER_SWEEP or len(cid) != CID_BYTES:
            return
        self._resets += 1
        size = RESET_BYTES - 1 - secrets.randbelow(4)
        head = bytes([0x40 | secrets.randbelow(0x40)]) + os.urandom(size - 17)
        self._send(head + self.engine.reset_token(cid), address)


def cid_of(data: bytes) -> bytes | None:
    """Returns the connection id for which a datagram is, or None where it has none that could be ours."""
    if len(data) <= CID_BYTES:
        return None
    if not data[0] & LONG_HEADER:
        return data[1 : 1 + CID_BYTES] if data[0] & 0x40 else None
    size = data[5] if len(data) > 6 else 0  # noqa: PLR2004 - behind the version
    return data[6 : 6 + size] if 0 < size <= MAX_CID and len(data) > 6 + size else None


def refusal(version: int, client_cid: bytes, server_cid: bytes, code: int) -> bytes:
    """Returns the datagram that refuses a client's first one, without a connection (RFC 9000 section 5.2.2)."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=server_cid, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=server_cid,
        is_client=False,
        max_datagram_size=SMALLEST_DATAGRAM,
        peer_cid=client_cid,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    frame = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=25)
    frame.push_uint_var(code)
    frame.push_uint_var(QuicFrameType.PADDING)
    frame.push_uint_var(0)
    return builder.flush()[0][0]
