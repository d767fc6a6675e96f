"""What every transport over TCP needs: a listening socket that workers share."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

from drift_core.errors import StartError

QUIET_SECONDS: Final = 0.1
"""How long no request may have begun before the connections that are left count as idle."""

FAREWELL_SECONDS: Final = 1.0
"""At most this long clients on kept connections are told to leave before idle connections are closed."""

KEEPALIVE_SECONDS: Final = 60
"""Idle time after which the kernel asks whether a client is still there; a laptop that was closed says nothing."""

SO_ATTACH_FILTER: Final = 26
DROP_SYN: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of TCP flags
        (0x54, 0, 0, 0x12),  # keep SYN and ACK of it
        (0x15, 0, 1, 0x02),  # SYN alone?
        (0x06, 0, 0, 0),  # yes: keep nothing
        (0x06, 0, 0, 0xFFFFFFFF),  # no: keep the packet, so that handshakes under way are completed
    )
)
"""A classic BPF program for a listening socket."""


def bind_shared(address: str) -> socket.socket:
    """Returns a socket bound to ``host:port`` beside those of other workers; it does not listen yet.

    Raises:
        StartError: the address is malformed, not of this machine, not permitted, or in use by a server that
            does not share it.
    """
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, resolved = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, ValueError) as error:
        message = f"cannot listen on {address}: {error}"
        raise StartError(message) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted connections inherit these.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
        listener.bind(resolved)
    except OSError as error:
        listener.close()
        message = f"cannot listen on {address}: {error.strerror}"
        raise StartError(message) from error
    return listener


def ignore_newcomers(listener: socket.socket) -> None:
    """Makes the kernel drop attempts to connect, while those that were accepted go on; does nothing but on Linux.

    A listener that is closed resets the connections that nobody has accepted yet. With nobody new, the queue is
    empty when it closes; a client that tried meanwhile tries again, and then finds the port closed.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(DROP_SYN)
    filter_program = struct.pack("@HP", len(DROP_SYN) // 8, ctypes.addressof(program))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter_program)


async def until_quiet(quiet_for: Callable[[], float], deadline: float) -> None:
    """Returns when requests have ceased to begin, soon in any case, and not behind the loop's time ``deadline``.

    ``quiet_for`` says how many seconds ago a request last began. A connection that is closed sooner may be one on which
    a request is just arriving.
    """
    loop = asyncio.get_running_loop()
    farewell = min(deadline, loop.time() + FAREWELL_SECONDS)
    rest = min(QUIET_SECONDS, farewell - loop.time())
    while rest > 0:
        await asyncio.sleep(rest)
        rest = min(QUIET_SECONDS - quiet_for(), farewell - loop.time())
