"""Files below one place, read by blocking calls; those of a folder are here, those of a bucket in `bucket`."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from drift_transfer.source import Absent, SourceError

T = TypeVar("T")

BLOCK = 1 << 20
"""Bytes that are read at a time."""

PAGE = 64
"""Names that are listed at a time."""


class Files(Protocol):
    """Files by their path, with ``/`` between the names. Every method blocks, and any may raise `SourceError`."""

    def folders(self, path: str) -> Iterator[str]:
        """Yields the names of the folders in a folder, in any order; of one that is not there none."""
        ...

    def read(self, path: str, limit: int) -> bytes:
        """Returns at most the first ``limit`` bytes of a file. Raises `Absent`."""
        ...

    def blocks(self, path: str) -> Iterator[bytes]:
        """Yields the bytes of a file. Raises `Absent` before the first."""
        ...

    def place(self, path: str) -> str:
        """Returns the path as an operator would write it."""
        ...


class Folder:
    """The files of a folder on this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, path: str) -> Iterator[str]:
        """See `Files`."""
        try:
            with os.scandir(self._root / path) as entries:
                for entry in entries:
                    if entry.is_dir():
                        yield entry.name
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise self._explained(path, error) from error

    def read(self, path: str, limit: int) -> bytes:
        """See `Files`."""
        try:
            with (self._root / path).open("rb") as file:
                return file.read(limit)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Absent("is not there") from error
        except OSError as error:
            raise self._explained(path, error) from error

    def blocks(self, path: str) -> Iterator[bytes]:
        """See `Files`."""
        try:
            with (self._root / path).open("rb") as file:
                while block := file.read(BLOCK):
                    yield block
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Absent("is not there") from error
        except OSError as error:
            raise self._explained(path, error) from error

    def place(self, path: str) -> str:
        """See `Files`."""
        return str(self._root / path)

    def _explained(self, path: str, error: OSError) -> SourceError:
        return SourceError(f"cannot be read: {error.strerror} ({self.place(path)})")


async def in_pages(names: Iterator[T]) -> AsyncIterator[list[T]]:
    """Yields what a blocking iterator yields, a page at a time, read in a thread."""
    while page := await asyncio.to_thread(lambda: list(islice(names, PAGE))):
        yield page


async def in_blocks(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yields what a blocking iterator yields, each read in a thread."""
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block
