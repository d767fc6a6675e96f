"""A file that is written once, with its size and digest."""

import hashlib
import os

BUFFER = 256 * 1024


class Output:
    """Writes to a file descriptor; ``size`` counts also what waits to be written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._left = BUFFER
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Appends. Raises OSError."""
        self.size += len(chunk)
        self._waiting.append(chunk)
        self._left -= len(chunk)
        if self._left <= 0:
            self.flush()

    def flush(self) -> None:
        """Writes what waits. Raises OSError."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._left = BUFFER
        self._hash.update(data)
        place = 0
        while place < len(data):
            place += os.write(self._descriptor, data[place:])

    @property
    def digest(self) -> str:
        """The digest of everything that was written, once it was flushed."""
        return f"sha256:{self._hash.hexdigest()}"
