"""The UDP socket of one process: many datagrams with one system call, and the kernel's choice of the process.

Linux joins datagrams that arrive together (UDP_GRO) and cuts what is sent together (UDP_SEGMENT); without them each
costs a system call. Where the kernel or the network card cannot, they go one by one.
"""

import asyncio
import ctypes
import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from drift_core.api import StartError
from drift_quic_aioquic.engine import Datagrams, apart

UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
SO_ATTACH_REUSEPORT_CBPF: Final = 51

BUFFER_BYTES: Final = 4 << 20
"""What the kernel is asked to hold in each direction; it gives at most net.core.rmem_max and wmem_max."""

READS: Final = 32
"""Calls for arrived datagrams before the loop has its turn."""

CAN_WAIT: Final = frozenset({errno.EAGAIN, errno.ENOBUFS})
NO_SEGMENTS: Final = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP})

SHORT_TO_WORKER: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 0),  # load the first byte
        (0x45, 0, 1, 0x80),  # the long header of a handshake?
        (0x06, 0, 0, 0xFFFFFFFF),  # yes: no process has this number, and the kernel chooses by the addresses
        (0x30, 0, 0, 1),  # load the first byte of the connection id
        (0x16, 0, 0, 0),  # which is the number of the process
    )
)
"""A classic BPF program: a connection stays with its process when the client's address changes."""


def bind_udp(address: str) -> socket.socket:
    """Returns a socket for ``host:port``, beside those of other processes of this server.

    Raises:
        StartError: the address is malformed, not of this machine, not permitted, or in use by somebody else.
    """
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, resolved = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:
        message = f"cannot listen on {address} (UDP): {error}"
        raise StartError(message) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        listener.bind(resolved)
    except OSError as error:
        listener.close()
        message = f"cannot listen on {address} (UDP): {error.strerror}"
        raise StartError(message) from error
    return listener


def route_by_worker(listener: socket.socket) -> bool:
    """Makes the kernel give datagrams to the process that their connection id names; False where it cannot.

    The sockets count in the order in which they were bound.
    """
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(SHORT_TO_WORKER)
    filter_program = struct.pack("@HP", len(SHORT_TO_WORKER) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_program)
    except OSError:
        return False
    return True


class Traffic:
    """What has passed a socket: datagrams and bytes of UDP payload in each direction."""

    def __init__(self) -> None:
        self.packets_sent = self.packets_received = self.bytes_sent = self.bytes_received = 0


class Udp:
    """Reads and writes datagrams in the loop; ``arrived`` gets all that came together.

    While the kernel takes no more, ``full`` is true, and ``resumed`` is called when it does again.
    """

    def __init__(
        self,
        bound: socket.socket,
        arrived: Callable[[list[Datagrams]], None],
        resumed: Callable[[], None],
    ) -> None:
        self.traffic = Traffic()
        self._socket = bound
        self._arrived = arrived
        self._resumed = resumed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Datagrams] = deque()
        self._segments = self._set(UDP_SEGMENT, 0)
        self._set(UDP_GRO, 1)
        self._loop.add_reader(bound, self._read)

    def _set(self, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(socket.SOL_UDP, option, value)
        except OSError:
            return False
        return True

    @property
    def full(self) -> bool:
        """Whether datagrams wait for the kernel."""
        return bool(self._waiting)

    def close(self) -> None:
        """Closes the socket; what waits is dropped, as a network may do."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _read(self) -> None:
        together: list[Datagrams] = []
        traffic = self.traffic
        for _ in range(READS):
            try:
                data, ancillary, _, address = self._socket.recvmsg(65535, 64)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # What an earlier datagram met on its way (ICMP); it says nothing about the next one.
                continue
            size = next((struct.unpack_from("i", value)[0] for _, kind, value in ancillary if kind == UDP_GRO), 0)
            together.append((data, address, size or len(data)))
            traffic.bytes_received += len(data)
            traffic.packets_received += -(-len(data) // size) if size else 1
        if together:
            self._arrived(together)

    def send(self, datagrams: Iterable[Datagrams]) -> None:
        """Sends; keeps what the kernel does not take now."""
        for one in datagrams:
            if self._waiting:
                self._waiting.append(one)
            elif not self._put(one):
                self._waiting.append(one)
                self._loop.add_writer(self._socket, self._write)

    def _put(self, datagrams: Datagrams) -> bool:
        """Gives datagrams to the kernel; False where it has no room. What it refuses is lost, as on any network."""
        data, address, size = datagrams
        try:
            if len(data) <= size:
                self._socket.sendto(data, address)
            elif self._segments:
                self._socket.sendmsg([data], [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", size))], 0, address)
            else:
                for one, _ in apart([datagrams]):
                    self._socket.sendto(one, address)
        except OSError as error:
            if error.errno in CAN_WAIT:
                return False
            if error.errno in NO_SEGMENTS and self._segments and len(data) > size:
                self._segments = False
                return self._put(datagrams)
            return True
        self.traffic.packets_sent += -(-len(data) // size)
        self.traffic.bytes_sent += len(data)
        return True

    def _write(self) -> None:
        while self._waiting:
            if not self._put(self._waiting[0]):
                return
            self._waiting.popleft()
        self._loop.remove_writer(self._socket)
        self._resumed()
