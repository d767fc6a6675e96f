"""Begins to write a part of a file to the disk, without waiting for it; Python itself has no name for that."""

import ctypes
import sys
from typing import Final

SYNC_FILE_RANGE_WRITE: Final = 2


def begin_writeback(fd: int, offset: int, size: int) -> None:
    """Hands ``size`` bytes behind ``offset`` to the disk (sync_file_range(2)); does nothing but on Linux.

    It promises nothing: what it could not do is left to the fsync that follows, which also has the error.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, size, SYNC_FILE_RANGE_WRITE)


_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
