"""How a committed blob is read, and how all of them are listed. Everything here blocks."""

import os
import re
import stat
from concurrent.futures import Future, wait
from pathlib import Path

from drift_core.api import ALGORITHMS, BlobStat, BlobUnknown, Digest, Unavailable
from drift_storage_fs.layout import Layout

BLOCK = 1 << 20
PREFIX = re.compile(r"[0-9a-f]{2}")


def unknown(layout: Layout, digest: Digest) -> BlobUnknown:
    """Returns the error for a blob that has no file.

    Raises:
        Unavailable: there are no files at all.
    """
    layout.require(layout.blobs / digest.algorithm)
    return BlobUnknown(digest=digest)


def stat_blob(layout: Layout, digest: Digest) -> BlobStat:
    """Asks for size and time of a blob."""
    try:
        found = layout.blob(digest).stat()
    except FileNotFoundError:
        raise unknown(layout, digest) from None
    return BlobStat(digest, found.st_size, found.st_mtime)


class BlobReader:
    """Reads a range of a blob from one descriptor, so that the blob may be deleted or replaced meanwhile."""

    __slots__ = ("_at", "_digest", "_fd", "_layout", "_stop", "done")

    def __init__(self, layout: Layout, digest: Digest, start: int, stop: int | None) -> None:
        if start < 0 or (stop is not None and stop < start):
            message = f"no range: {start} to {stop}"
            raise ValueError(message)
        self.done = False
        self._layout = layout
        self._digest = digest
        self._at = start
        self._stop = stop
        self._fd = -1

    @property
    def closed(self) -> bool:
        """Whether no file is open; to be asked while no thread is in `next`."""
        return self._fd < 0

    def next(self) -> bytes:
        """Returns the next bytes, none only for an empty range; opens the file first, and closes it after the last.

        Raises:
            BlobUnknown: there is no such blob.
            Unavailable: the file is shorter than the range.
        """
        stop = self._open() if self._fd < 0 else self._stop
        assert stop is not None  # noqa: S101
        block = os.pread(self._fd, min(BLOCK, stop - self._at), self._at) if stop > self._at else b""
        if not block and self._at != stop:
            message = "the blob is shorter than it should be"
            raise Unavailable(message, digest=self._digest)
        self._at += len(block)
        if self._at == stop:
            self._close()
            self.done = True
        return block

    def close_after(self, job: Future[bytes]) -> None:
        """Closes the file when the last call of `next` has ended; another file may get the number of a closed one."""
        wait((job,))
        self._close()

    def _open(self) -> int:
        try:
            self._fd = os.open(self._layout.blob_path(self._digest), os.O_RDONLY)
        except FileNotFoundError:
            raise unknown(self._layout, self._digest) from None
        size = os.fstat(self._fd).st_size
        if self._stop is None:
            self._stop = size
        if max(self._at, self._stop) > size:
            message = "the range ends behind the blob"
            raise Unavailable(message, digest=self._digest, size=size)
        return self._stop

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def list_prefixes(layout: Layout, algorithm: str, after: Digest | None) -> list[Path]:
    """Returns the prefix folders of an algorithm that may hold a digest behind ``after``, in order."""
    first = ""
    if after is not None:
        if algorithm < after.algorithm:
            return []
        if algorithm == after.algorithm:
            first = after.encoded[:2]
    folder = layout.blobs / algorithm
    layout.require(folder)
    names = (path.name for path in folder.iterdir())
    return [folder / name for name in sorted(names) if PREFIX.fullmatch(name) and name >= first]


def list_blobs(folder: Path, after: Digest | None) -> list[BlobStat]:
    """Returns the blobs of one prefix folder that are behind ``after``, in order; other files are left out."""
    algorithm = ALGORITHMS[folder.parent.name]
    form = re.compile(f"{folder.name}[0-9a-f]{{{algorithm.length - 2}}}")
    found: list[BlobStat] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                digest = Digest(f"{algorithm.name}:{entry.name}")
                if form.fullmatch(entry.name) is None or (after is not None and digest <= after):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # deleted meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.append(BlobStat(digest, status.st_size, status.st_mtime))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda blob: blob.digest)
