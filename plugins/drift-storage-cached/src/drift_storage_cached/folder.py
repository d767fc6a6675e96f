"""The folder of copies that all processes of a node share: where they lie, how much they take, which one goes first.

Everything here blocks, but for the names. What the processes have to agree upon is in the file system: a file that is
locked while a copy is made, so that no other makes it too, and one file with the bytes that all copies take, which is
locked while that changes.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from drift_core.api import ALGORITHMS, Digest

FOLDER_MODE = 0o750
FILE_MODE = 0o640

SPARE = 0.05
"""Of the limit: how much more than needed an eviction frees, since it has to look at every copy."""

GIVEN_BACK = 0.1
"""Of what all copies take: how much of it goes where the disk is full."""

NUMBER = re.compile(rb"\d{1,19}")


class TakenError(Exception):
    """Another process makes a copy of the same blob, or has just made it."""


class Room(NamedTuple):
    """What the copies take after a change, in bytes, and how many were removed for it."""

    held: int
    evicted: int


class Copy(NamedTuple):
    """A copy as a look at the folder finds it; ``used`` in nanoseconds since the epoch."""

    used: int
    size: int
    path: str


class Folder:
    """Copies of blobs, ``limit`` bytes at most, below one folder."""

    def __init__(self, path: str, limit: int) -> None:
        self.root = Path(os.path.abspath(path)) / "cached"  # noqa: PTH100  (resolve() would ask the disk)
        self._limit = limit
        self._making = self.root / "making"
        self._blobs = f"{self.root}{os.sep}blobs{os.sep}"
        self._taken = self.root / "taken"

    def path(self, digest: Digest) -> str:
        """Returns where the copy of a blob lies if there is one; asks no disk."""
        algorithm, _, encoded = digest.partition(":")
        return f"{self._blobs}{algorithm}{os.sep}{encoded[:2]}{os.sep}{encoded}"

    def prepare(self) -> None:
        """Makes the folders, proves that they can be written to, and removes what processes that died left half made.

        Raises OSError.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self._making, *(Path(self._blobs, name) for name in ("", *ALGORITHMS))):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        with self._counting():
            pass
        for name in os.listdir(self._making):  # noqa: PTH208  (a name is all that is needed)
            with suppress(TakenError):
                self._forget(self._lock(name))

    def settle(self, *, recount: bool) -> Room:
        """Brings the copies within the limit, which may be another one than before.

        With ``recount`` they are looked at, each of them: after a crash of the machine the count may be too low.
        """
        with self._counting() as count:
            held = count.read()
            if not recount and held is not None and held <= self._limit:
                return Room(held, 0)
            room = self._evict(self._limit)
            count.write(room.held)
            return room

    def give_back(self) -> Room:
        """Removes copies where the disk is full, a tenth of them at least: others need it more. Raises OSError."""
        with self._counting() as count:
            held = sum(copy.size for copy in self._copies())
            room = self._evict(int(held * (1 - GIVEN_BACK)))
            count.write(room.held)
            return room

    def begin(self, digest: Digest) -> tuple[int, str]:
        """Returns a descriptor and the name of an empty file for a copy, which is ours until the descriptor is closed.

        Raises `TakenError`, and OSError.
        """
        file, path = self._lock(digest.replace(":", "-"))
        try:
            missing = not _size(self.path(digest))
            if missing:
                os.ftruncate(file, 0)
        except BaseException:
            self._forget((file, path))
            raise
        if missing:
            return file, path
        # It has become one meanwhile.
        self._forget((file, path))
        raise TakenError

    def keep(self, digest: Digest, path: str, size: int) -> Room | None:
        """Gives a whole and durable file its place, after others have made room for it.

        None where they cannot, since all of them are just being used. Raises OSError.
        """
        with self._counting() as count:
            held, evicted = count.read(), 0
            if held is None or held + size > self._limit:
                held, evicted = self._evict(self._limit - size)
            if held + size > self._limit:
                count.write(held)
                return None
            place, held = self.path(digest), held + size
            # Whatever ends this between two steps, the count is rather too high, which the next eviction corrects.
            count.write(held)
            Path(place).parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
            os.replace(path, place)  # noqa: PTH105
            return Room(held, evicted)

    def drop(self, digest: Digest) -> Room | None:
        """Removes the copy of a blob; None where there was none. Raises OSError."""
        path = self.path(digest)
        if not _size(path):
            return None
        with self._counting() as count:
            held, size = count.read(), _size(path)
            Path(path).unlink(missing_ok=True)
            if held is None:
                return None
            count.write(max(held - size, 0))
            return Room(max(held - size, 0), 0)

    def _evict(self, goal: int) -> Room:
        """Removes copies until all of them take no more than ``goal``, those first that were not used for longest."""
        copies = sorted(self._copies())
        held, evicted = sum(copy.size for copy in copies), 0
        if held > goal:
            goal -= int(self._limit * SPARE)
        for copy in copies:
            if held <= max(goal, 0):
                break
            with suppress(FileNotFoundError):
                # Whoever uses it just now is about to open it.
                if os.stat(copy.path).st_mtime_ns > copy.used:  # noqa: PTH116
                    continue
                os.unlink(copy.path)  # noqa: PTH108
            held -= copy.size
            evicted += 1
        return Room(held, evicted)

    def _copies(self) -> Iterator[Copy]:
        for algorithm in ALGORITHMS:
            for folder in os.scandir(self._blobs + algorithm):
                for entry in os.scandir(folder.path):
                    with suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        yield Copy(found.st_mtime_ns, found.st_size, entry.path)

    def _lock(self, name: str) -> tuple[int, str]:
        """Opens and locks a file of a copy that is being made. Raises `TakenError` where another process has it."""
        path = str(self._making / name)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one that had it may have moved or removed it between the two calls.
            if os.stat(path).st_ino == os.fstat(file).st_ino:  # noqa: PTH116
                return file, path
        except (BlockingIOError, FileNotFoundError):
            os.close(file)
            raise TakenError from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        raise TakenError

    @staticmethod
    def _forget(made: tuple[int, str]) -> None:
        file, path = made
        try:
            os.unlink(path)  # noqa: PTH108
        finally:
            os.close(file)

    @contextmanager
    def _counting(self) -> Iterator["_Count"]:
        """Locks the count of bytes against all other threads and processes."""
        file = os.open(self._taken, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield _Count(file)
        finally:
            os.close(file)


class _Count:
    """The bytes that all copies take, as the file says that is locked."""

    def __init__(self, file: int) -> None:
        self._file = file

    def read(self) -> int | None:
        """Returns them; None where the file is new, or damaged."""
        text = os.pread(self._file, 100, 0)
        return int(text) if NUMBER.fullmatch(text) else None

    def write(self, held: int) -> None:
        """Of the same length each time, so that no other file can take the space for it."""
        os.pwrite(self._file, b"%019d" % held, 0)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a Path costs more than the question
    except FileNotFoundError:
        return 0
