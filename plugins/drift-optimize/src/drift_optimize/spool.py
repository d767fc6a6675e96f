"""Keeps a form that is being made in a file that nobody else sees, and that is gone with the process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO

from drift_core.api import StorageFull

CHUNK = 1 << 20


class Spool:
    """A `Sink` of at most ``limit`` bytes, which can be read again once everything is written."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        """See `Sink`. Raises `StorageFull` where the limit or the disk says so."""
        self._size += len(chunk)
        if self._size > self._limit:
            message = f"the form is larger than the {self._limit} bytes of optimization.max_scratch_mb"
            raise StorageFull(message)
        try:
            await asyncio.to_thread(self._file.write, chunk)
        except OSError as error:
            message = f"there is no space for the form: {error.strerror}"
            raise StorageFull(message) from error

    def chunks(self) -> AsyncIterator[bytes]:
        """Yields everything that was written."""
        return chunks_of(self._file)


async def chunks_of(file: IO[bytes]) -> AsyncIterator[bytes]:
    """Yields a file from its beginning."""
    await asyncio.to_thread(file.seek, 0)
    while chunk := await asyncio.to_thread(file.read, CHUNK):
        yield chunk


@contextmanager
def open_spool(folder: str | None, limit: int) -> Iterator[Spool]:
    """Opens a spool of at most ``limit`` bytes in a folder, None for the system's; it has no name in it."""
    with TemporaryFile(dir=folder) as file:
        yield Spool(file, limit)
