"""A few bytes of memory that all processes of one database share: they differ after any of them has committed."""

import mmap
import os
from pathlib import Path
from typing import Final

SIZE: Final = 8


class ChangeMark:
    """Reading costs a tenth of a microsecond, `PRAGMA data_version` three and two system calls.

    Any thread may touch it. Raises OSError where its file cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.touch()
            self._memory = mmap.mmap(self._file, SIZE, access=mmap.ACCESS_READ)
        except OSError:
            os.close(self._file)
            raise

    def read(self) -> bytes:
        """Returns what the last process wrote that touched it."""
        return self._memory[:SIZE]

    def touch(self) -> None:
        """Makes it differ from everything that it ever was."""
        # Not through the memory: where a disk is full that would end the process, and this is an error.
        os.pwrite(self._file, os.urandom(SIZE), 0)

    def close(self) -> None:
        """Lets go of the file, which stays."""
        self._memory.close()
        os.close(self._file)
