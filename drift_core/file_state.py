"""What files look like from outside, so that whoever has read them notices when they are others."""

import os
from collections.abc import Sequence

from msgspec import Struct


class FileState(Struct, frozen=True):
    """``changed`` is in seconds since the epoch, by the clock of the file system; also permissions are a change."""

    changed: float
    modified: int
    size: int
    inode: int


FileStates = tuple[FileState | None, ...]
"""Of several files, in order; None stands for one that is missing."""


def file_states(files: Sequence[str | os.PathLike[str]]) -> FileStates:
    """Returns what changes whenever a file is written to or another takes its place; None is one that is missing.

    Symbolic links are followed. About 2 us for each file, which a thread would cost more than.
    """
    return tuple(map(_state, files))


def _state(file: str | os.PathLike[str]) -> FileState | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - a Path costs more than the question
    except OSError:
        return None
    return FileState(found.st_ctime, found.st_mtime_ns, found.st_size, found.st_ino)
