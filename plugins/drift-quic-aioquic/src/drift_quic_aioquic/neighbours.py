"""Passes datagrams on between the processes of one server, where the kernel has chosen the wrong one.

That happens when a client's address changes during the handshake, or a process starts or ends then, and after a process
was replaced: the kernel counts the sockets in the order in which they were bound, and a new process is the last.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from drift_quic_aioquic.engine import Address

WAIT_SECONDS: Final = 10.0
"""How long a process waits for the one before it, so that the sockets are bound in order."""

LOOK_SECONDS: Final = 0.02
READS: Final = 64
MOST_BYTES: Final = 66_000
CREDENTIALS: Final = struct.Struct("3i")

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(tuple[bytes, str, int, int, int, bool]).decode


class Neighbours:
    """A socket on which this process gets what is its own, and by which it reaches the others; Linux only.

    The names are of this machine's abstract namespace; what comes from another user is dropped.
    """

    def __init__(self, address: str, worker: int, count: int) -> None:
        self._address = address
        self._worker = worker
        self._count = count
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def _name(self, worker: int) -> str:
        return f"\0drift-quic/{os.getuid()}/{self._address}/{worker}"

    async def turn(self) -> None:
        """Returns when the process before this one is there, or it does not seem to come."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_SECONDS
        while self._worker and loop.time() < deadline and not self._is_there(self._worker - 1):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(LOOK_SECONDS)

    def _is_there(self, worker: int) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(self._name(worker))
            except OSError:
                return False
        return True

    def listen(self, arrived: Callable[[bytes, Address], None]) -> None:
        """Begins to take datagrams; tells the next process thereby that this one's UDP socket is bound."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self._name(self._worker))
        asyncio.get_running_loop().add_reader(self._socket, self._read, arrived)

    def close(self) -> None:
        """Takes no more; without `listen`, never has."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def send(self, worker: int, data: bytes, address: Address) -> bool:
        """Passes a datagram on, which may be lost; False where ``worker`` is this process, or not there."""
        if worker == self._worker or worker >= self._count:
            return False
        host, port, *rest = address
        flow, scope = (int(rest[0]), int(rest[1])) if rest else (0, 0)
        try:
            self._socket.sendto(encode((data, host, port, flow, scope, bool(rest))), self._name(worker))
        except ConnectionRefusedError:
            return False
        except OSError:
            # It has too much to do.
            return True
        return True

    def _read(self, arrived: Callable[[bytes, Address], None]) -> None:
        for _ in range(READS):
            try:
                packed, ancillary, _, _ = self._socket.recvmsg(MOST_BYTES, socket.CMSG_SPACE(CREDENTIALS.size))
            except OSError:
                return
            users = [CREDENTIALS.unpack(value)[1] for _, kind, value in ancillary if kind == socket.SCM_CREDENTIALS]
            if users != [os.getuid()]:
                continue
            data, host, port, flow, scope, long = decode(packed)
            arrived(data, (host, port, flow, scope) if long else (host, port))


def neighbours_of(address: str, worker: int, count: int) -> Neighbours | None:
    """Returns how a process reaches the others, and keeps another server off; None where there are no such names."""
    return Neighbours(address, worker, count) if sys.platform == "linux" else None
