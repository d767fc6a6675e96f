"""Reads the files that a configuration names, so that whatever is wrong with one stops the start by its path."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drift_core.api import StartError
from drift_sign_notation.refusal import Refused


@contextmanager
def reading(path: str) -> Iterator[bytes]:
    """Gives the block the content of a file; blocks while it is read.

    Raises `StartError` where it cannot be read, or where the block raises `Refused` for what is in it.
    """
    try:
        yield Path(path).read_bytes()
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error
    except Refused as error:
        raise StartError(f"{path}: {error}") from error
