"""A file on its way to a client, which Python never touches where the kernel can send it."""

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drift_http_httptools.connection import Connection

WINDOW_BYTES: Final = 1 << 20
"""How much is sent before others have their turn, and how much is read ahead where it is not in memory."""

SHORTER: Final = "the file is shorter than it was"


async def send_file(connection: "Connection", head: bytes, file: int, size: int) -> None:
    """Sends a head and then the first ``size`` bytes of a file, to a client that reads as slowly as it likes.

    Raises RuntimeError where the file has fewer bytes, and `ConnectionError` when the client leaves.
    """
    transport = connection.transport
    if sys.platform == "linux" and not connection.site.tls:
        if transport.is_closing():
            raise ConnectionResetError
        # What was written before goes out first: without a buffer there is nothing to overtake.
        transport.set_write_buffer_limits(high=0)
        try:
            await connection.writable()
            with connection.second_socket() as client:
                await _send_by_kernel(client, head, file, size)
        finally:
            connection.limit_writing()
        return
    transport.write(head)
    for place in range(0, size, WINDOW_BYTES):
        part = await asyncio.to_thread(os.pread, file, min(WINDOW_BYTES, size - place), place)
        _check(len(part))
        transport.write(part)
        await connection.writable()
        if connection.gone:
            raise ConnectionResetError


async def read_whole(file: int, size: int) -> bytes:
    """Returns the first ``size`` bytes of a file. Raises RuntimeError where it has fewer."""
    wait = size and not _in_memory(file, size - 1)
    content = await asyncio.to_thread(os.pread, file, size, 0) if wait else os.pread(file, size, 0)
    if len(content) < size:
        raise RuntimeError(SHORTER)
    return content


async def _send_by_kernel(client: socket.socket, head: bytes, file: int, size: int) -> None:
    await _send_head(client, head)
    place = 0
    while place < size:
        window = min(WINDOW_BYTES, size - place)
        if not _in_memory(file, place + window - 1):
            # The system call that sends would wait for the disk, and everybody else in the loop with it.
            await asyncio.to_thread(os.pread, file, window, place)
        try:
            sent = os.sendfile(client.fileno(), file, place, window)
        except BlockingIOError:
            await _room(client)
            continue
        _check(sent)
        place += sent
        await asyncio.sleep(0)


async def _send_head(client: socket.socket, head: bytes) -> None:
    while head:
        try:
            # The kernel waits for the file to fill the packet.
            head = head[client.send(head, socket.MSG_MORE) :]
        except BlockingIOError:
            await _room(client)


async def _room(client: socket.socket) -> None:
    """Returns when the client has taken something, or has left."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(client, ready.set_result, None)
    try:
        await ready
    finally:
        loop.remove_writer(client)


def _in_memory(file: int, place: int) -> bool:
    """Says whether a byte of a file can be read without waiting for the disk (preadv2(2), RWF_NOWAIT)."""
    try:
        return os.preadv(file, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except OSError:
        # Not in memory, or of a file system that cannot say.
        return False


def _check(count: int) -> None:
    if count == 0:
        raise RuntimeError(SHORTER)
