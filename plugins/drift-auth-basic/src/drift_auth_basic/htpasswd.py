"""An htpasswd file: read once, and again after it has changed."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from drift_auth_basic.accounts import Account, Roster
from drift_auth_basic.hashes import cost_of
from drift_auth_basic.names import split_entry
from drift_core.api import StartError

LOOK_SECONDS: Final = 1.0
"""How often the file is looked at, at most."""

SETTLE_SECONDS: Final = 2.0
"""A file that changed so recently may be half written, or change again within the resolution of its time."""

Version = tuple[int, int, int]


class HtpasswdFile:
    """A `Source`; keeps what it knows while the file is broken or away."""

    def __init__(self, path: str, log: FilteringBoundLogger) -> None:
        self._path = Path(path)
        self._log = log
        self._lock = asyncio.Lock()
        self._looked = 0.0
        self._version: Version | None = None
        self._complaint = ""
        self._roster = Roster.of(())

    async def open(self) -> None:
        """Reads it for the first time. Raises `StartError` where it cannot be used, with the place."""
        try:
            await asyncio.to_thread(self._read)
        except (OSError, ValueError) as error:
            message = f"auth.basic.htpasswd_files: {_reason(self._path, error)}"
            raise StartError(message) from error
        self._looked = time.monotonic()

    async def get(self) -> Roster:
        """See `Source.get`; a thread looks at the file."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            async with self._lock:
                if time.monotonic() - self._looked >= LOOK_SECONDS:
                    began = time.monotonic()
                    await asyncio.to_thread(self._look)
                    self._looked = began
        return self._roster

    def _look(self) -> None:
        complaint = ""
        try:
            if _version(self._path.stat()) != self._version:
                before = self._roster
                self._read()
                if self._roster != before:
                    self._log.info("an htpasswd file has changed", file=str(self._path))
        except (OSError, ValueError) as error:
            complaint = _reason(self._path, error)
            if complaint != self._complaint:
                self._log.error("an htpasswd file cannot be used; its users stay as they were", error=complaint)
        self._complaint = complaint

    def _read(self) -> None:
        with self._path.open("rb") as file:
            version, content = _version(os.fstat(file.fileno())), file.read()
        self._roster = Roster.of(_accounts(content.decode()))
        settled = time.time_ns() - version[0] > SETTLE_SECONDS * 1e9
        self._version = version if settled else None


def _version(stat: os.stat_result) -> Version:
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _accounts(text: str) -> Iterator[Account]:
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            name, hashed = split_entry(entry)
            cost_of(hashed)
        except ValueError as error:
            message = f"{number}: {error}"
            raise ValueError(message) from None
        yield Account(name, hashed)


def _reason(path: Path, error: OSError | ValueError) -> str:
    """Returns what is wrong, and never a line of the file."""
    if isinstance(error, OSError):
        return f"{path}: {error.strerror}"
    return f"{path}: not UTF-8" if isinstance(error, UnicodeDecodeError) else f"{path}:{error}"
