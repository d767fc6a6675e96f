"""The sink ``file``: appends to a file, which is renamed when it is large, and removed when it is old."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from drift_audit.config import FileExport
from drift_audit.delivery import Item, SinkError
from drift_audit.export import csv_header, csv_line, json_line

MODE = 0o640
MIB = 1 << 20
DAY_SECONDS = 86400.0
TAIL_BYTES = 1 << 20
"""More than any two records take."""

OPENING, CLOSING = b"[\n", b"]\n"
"""What is around the records of a JSON array, which has one on each line, led by a comma but for the first."""


class _Sequence(msgspec.Struct):
    """What is read of a line: which record it is."""

    sequence: int
    id: str


class FileSink:
    """Exactly in order. What was on disk before a crash, and not yet known to be, is found there and left out.

    ``jsonlines`` and ``csv`` are appended to; a file of ``json`` is an array whose end is written anew each time.
    """

    name = "file"
    batch_size = 500
    attempts = 1
    deadline_seconds = 10.0

    def __init__(self, config: FileExport) -> None:
        self._config = config
        self._path = Path(config.path)
        self._line: Callable[[bytes], bytes] = csv_line if config.format == "csv" else json_line
        self._file: int | None = None

    async def send(self, items: Sequence[Item]) -> Sequence[int]:
        """See `Sink`; returns once the disk has them."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, items))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            # Nobody may write beside the thread.
            await asyncio.wait([writing])
            raise
        except OSError as error:
            message = f"{self._path}: {error.strerror or error}"
            raise SinkError(message) from error
        return ()

    async def close(self) -> None:
        """See `Sink`."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, items: Sequence[Item]) -> None:
        file = self._opened()
        end, newest = self._mend(file)
        places = [place for place, item in enumerate(items, 1) if newest is not None and _is(item, newest)]
        new = items[places[-1] :] if places else items
        if not new:
            return
        lines = b"".join(self._lines(new, empty=end <= len(OPENING)))
        _write_at(file, lines, end)
        os.fsync(file)
        if os.fstat(file).st_size >= self._config.rotation_size_mb * MIB:
            self._rotate()

    def _lines(self, items: Sequence[Item], *, empty: bool) -> list[bytes]:
        lines = [self._line(item.content) for item in items]
        if self._config.format != "json":
            return lines
        return [line if empty and not place else b"," + line for place, line in enumerate(lines)] + [CLOSING]

    def _opened(self) -> int:
        """Returns the file that is at the path now: somebody may have moved the one that was there."""
        if self._file is not None:
            try:
                if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                    return self._file
            except FileNotFoundError:
                pass
            os.close(self._file)
            self._file = None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        if os.fstat(self._file).st_size == 0:
            _sync_folder(self._path.parent)
        return self._file

    def _mend(self, file: int) -> tuple[int, _Sequence | None]:
        """Cuts off what a crash left of a line; returns where to write, and the newest record that is there."""
        size = os.fstat(file).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(file, size - start, start)
        whole = tail[: tail.rfind(b"\n") + 1]
        if self._config.format == "json":
            whole = whole.removesuffix(CLOSING)
        if not whole and start == 0:
            header = {"json": OPENING, "csv": csv_header()}.get(self._config.format, b"")
            os.ftruncate(file, 0)
            _write_at(file, header, 0)
            return len(header), None
        end = start + len(whole)
        os.ftruncate(file, end)
        return end, self._newest(whole)

    def _newest(self, whole: bytes) -> _Sequence | None:
        line = whole[whole.rfind(b"\n", 0, -1) + 1 :].removeprefix(b",")
        if self._config.format == "csv":
            sequence, _, rest = line.decode().partition(",")
            return _Sequence(int(sequence), rest.partition(",")[0]) if sequence.isdecimal() else None
        try:
            return msgspec.json.decode(line, type=_Sequence)
        except msgspec.MsgspecError:
            return None

    def _rotate(self) -> None:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path.rename(self._path.with_name(f"{self._path.stem}-{moment}{self._path.suffix}"))
        _sync_folder(self._path.parent)
        oldest = time.time() - self._config.retention_days * DAY_SECONDS
        for old in self._path.parent.glob(f"{self._path.stem}-*Z{self._path.suffix}"):
            if old.stat().st_mtime < oldest:
                old.unlink()


def _is(item: Item, newest: _Sequence) -> bool:
    # A trail that was begun anew counts from 1 again: the place alone does not say which record it is.
    return item.sequence == newest.sequence and newest.id.encode() in item.content


def _write_at(file: int, content: bytes, offset: int) -> None:
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
