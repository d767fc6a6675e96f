"""Downloads one blob over HTTP/3: several ranges at once, and after a break or a stop only what is missing."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import msgspec

from drift_core.api import Digest, Struct
from drift_quic_aioquic.client import Client, QuicError
from drift_quic_aioquic.engine import HeaderList

PIECE_BYTES: Final = 8 << 20
"""How much one request asks for; what is whole of it need not be fetched again."""

HASH_BYTES: Final = 1 << 20
ATTEMPTS: Final = 5
"""Connections in a row that bring nothing new before it is given up."""

REST_SECONDS: Final = 1.0
PARTIAL: Final = 206
OK: Final = 200

Connect = Callable[[], AbstractAsyncContextManager[Client]]


class Wanted(Struct, frozen=True):
    """A blob: the path at which it is, its digest, and headers for every request."""

    path: str
    digest: Digest
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Kept(Struct):
    """What is whole of a file that is not complete: its size in bytes, and pieces by number of the blob ``digest``."""

    size: int
    pieces: set[int]
    digest: str


class Download:
    """The file ``target`` in the making, beside it a ``.part`` and what is known of that."""

    def __init__(self, wanted: Wanted, target: Path, streams: int, told: Callable[[int, int], None]) -> None:
        self._wanted = wanted
        self._target = target
        self._part = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self._streams = streams
        self._told = told
        self._done = 0

    async def run(self, connect: Connect) -> None:
        """Fetches what is missing, and makes it the file.

        Raises:
            QuicError: the server cannot be reached, has no such blob, or what came has another digest.
        """
        failed = 0
        while True:
            before = self._done
            try:
                async with connect() as client:
                    await self._fetch(client)
            except* QuicError as errors:
                failed = 0 if self._done > before else failed + 1
                if failed >= ATTEMPTS or any(isinstance(one, RefusedError) for one in errors.exceptions):
                    raise errors.exceptions[0] from None
                await asyncio.sleep(REST_SECONDS)
            else:
                break
        await asyncio.to_thread(self._complete)

    async def _fetch(self, client: Client) -> None:
        kept = self._read_notes()
        if kept is None:
            kept = Kept(await self._size(client), set(), str(self._wanted.digest))
        count = max(1, -(-kept.size // PIECE_BYTES))
        self._done = sum(min(PIECE_BYTES, kept.size - number * PIECE_BYTES) for number in kept.pieces)
        self._told(self._done, kept.size)
        missing = [number for number in range(count) if number not in kept.pieces]
        missing.reverse()
        file = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # What is there may be of another attempt, whose notes are gone.
            os.ftruncate(file, kept.size)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._streams, len(missing))):
                    group.create_task(self._pieces(client, file, kept, missing))
        finally:
            os.close(file)

    async def _pieces(self, client: Client, file: int, kept: Kept, missing: list[int]) -> None:
        while missing:
            number = missing.pop()
            start = number * PIECE_BYTES
            stop = min(start + PIECE_BYTES, kept.size)
            place = start
            headers: HeaderList = [*self._wanted.headers, (b"range", b"bytes=%d-%d" % (start, stop - 1))]
            async with client.request("GET", self._wanted.path, headers if stop > start else None) as (answer, body):
                if answer.status != (PARTIAL if stop > start else OK):
                    raise _refused(self._wanted, answer.status)
                async for part in _joined(body):
                    if place + len(part) > stop:
                        message = "the server sent more than was asked for"
                        raise RefusedError(message)
                    await asyncio.to_thread(os.pwrite, file, part, place)
                    place += len(part)
                    self._done += len(part)
                    self._told(self._done, kept.size)
            if place != stop:
                self._done -= place - start
                message = "the server sent less than was asked for"
                raise QuicError(message)
            kept.pieces.add(number)
            self._notes.write_bytes(msgspec.json.encode(kept))

    async def _size(self, client: Client) -> int:
        async with client.request("HEAD", self._wanted.path, list(self._wanted.headers)) as (answer, _):
            if answer.status != OK:
                raise _refused(self._wanted, answer.status)
            return int(answer.headers["content-length"])

    def _read_notes(self) -> Kept | None:
        if not self._part.exists():
            return None
        try:
            kept = msgspec.json.decode(self._notes.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return None
        return kept if kept.digest == str(self._wanted.digest) else None

    def _complete(self) -> None:
        state = hashlib.new(self._wanted.digest.algorithm)
        with self._part.open("rb") as file:
            while part := file.read(HASH_BYTES):
                state.update(part)
            os.fsync(file.fileno())
        self._notes.unlink(missing_ok=True)
        if state.hexdigest() != self._wanted.digest.encoded:
            self._part.unlink()
            message = f"what came is not {self._wanted.digest}"
            raise RefusedError(message)
        self._part.rename(self._target)


class RefusedError(QuicError):
    """To ask again would not help."""


def _refused(wanted: Wanted, status: int) -> QuicError:
    message = f"the server answers {status} for {wanted.path}"
    return QuicError(message) if status >= 500 else RefusedError(message)  # noqa: PLR2004 - its own failure passes


async def _joined(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yields parts of some size, so that each is worth a thread."""
    parts, size = list[bytes](), 0
    async for part in body:
        parts.append(part)
        size += len(part)
        if size >= HASH_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
