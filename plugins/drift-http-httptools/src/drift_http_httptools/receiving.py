"""A long body on its way from a client: read when the application asks, straight into the bytes that it gets."""

import asyncio
import socket
from typing import Any, Final

DIRECT_BYTES: Final = 64 << 10
"""From this size on a body is read here; a shorter one arrives with its head, or soon behind it."""

READ_BYTES: Final = 512 << 10
"""The most that is read at once."""

AWAITED_BYTES: Final = 256 << 10
"""How much has to be there before the loop is woken, so that a fast client wakes it less often."""


class LongBody:
    """The ``left`` bytes of a body that are still to come on a socket that nobody else reads meanwhile."""

    def __init__(self, client: socket.socket, left: int, log: Any) -> None:
        self.left = left
        self._client = client
        self._log = log

    async def read(self) -> bytes:
        """Returns the next part, or b"" where the client leaves before the end."""
        while True:
            try:
                part = self._client.recv(min(self.left, READ_BYTES))
            except BlockingIOError:
                await self._arrival()
                continue
            except OSError as error:
                self._log.info("a client broke off its body", left=self.left, error=error.strerror)
                return b""
            self.left -= len(part)
            return part

    def close(self) -> None:
        """Lets others read again."""
        self._await(1)
        self._client.close()

    async def _arrival(self) -> None:
        self._await(min(self.left, AWAITED_BYTES))
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._client, ready.set_result, None)
        try:
            await ready
        finally:
            loop.remove_reader(self._client)

    def _await(self, size: int) -> None:
        # The end of the connection wakes the loop, too: socket(7), SO_RCVLOWAT.
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
