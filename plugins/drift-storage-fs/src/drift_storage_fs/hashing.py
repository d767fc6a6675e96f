"""What is known of an upload's digest: live hashes in memory, and a record beside the file for other workers."""

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import msgspec

from drift_core.api import ALGORITHMS, Digest, Struct, UploadId
from drift_storage_fs.layout import FILE_MODE, Layout

DEFAULT_ALGORITHM = "sha256"
BLOCK = 1 << 20
LIVE_HASHES = 1024
"""Most live hashes that a worker keeps, about 0.5 KiB each; an upload whose hash fell out is read again at commit."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Record(Struct, frozen=True):
    """The content of a state file: ``digest`` is that of the first ``offset`` bytes of the upload."""

    offset: int
    digest: str
    boot: str | None


class Running:
    """A hash of the first ``offset`` bytes of an upload, which can go on."""

    __slots__ = ("_hash", "algorithm", "offset")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.offset = 0
        self._hash = ALGORITHMS[algorithm].new()

    def update(self, piece: bytes) -> None:
        """Goes on; releases the GIL for all but tiny pieces."""
        self._hash.update(piece)
        self.offset += len(piece)

    def digest(self) -> Digest:
        """Returns the digest so far."""
        return Digest(f"{self.algorithm}:{self._hash.hexdigest()}")


def boot_id() -> str | None:
    """Returns what names this run of the kernel, or None where the system does not say."""
    with suppress(OSError):
        return BOOT_ID.read_text(encoding="ascii").strip() or None
    return None


def hash_file(fd: int, algorithm: str) -> Running:
    """Reads the whole file."""
    running = Running(algorithm)
    while block := os.pread(fd, BLOCK, running.offset):
        running.update(block)
    return running


class Hashes:
    """The hashes of all uploads of one store.

    Only the holder of the upload's lock calls a method for it, except `drop`. The methods block.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._boot = boot_id()
        self._live: OrderedDict[UploadId, Running] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, upload: UploadId, algorithm: str) -> None:
        """Begins the hash of an empty upload; other workers learn of an algorithm that is not the usual one."""
        running = Running(algorithm if algorithm in ALGORITHMS else DEFAULT_ALGORITHM)
        if running.algorithm != DEFAULT_ALGORITHM:
            self.record(upload, running)
        self.put(upload, running)

    def take(self, upload: UploadId, size: int) -> Running | None:
        """Removes and returns the live hash, if there is one and it covers all ``size`` bytes that the file holds.

        Another size means that another worker appended; what this one knows is then of no more use.
        """
        with self._lock:
            running = self._live.pop(upload, None)
        return running if running is not None and running.offset == size else None

    def put(self, upload: UploadId, running: Running) -> None:
        """Keeps a live hash, and forgets the one that was not used for longest when there are too many."""
        with self._lock:
            self._live[upload] = running
            while len(self._live) > LIVE_HASHES:
                self._live.popitem(last=False)

    def drop(self, upload: UploadId) -> None:
        """Forgets the live hash and removes the record."""
        with self._lock:
            self._live.pop(upload, None)
        self._layout.state(upload).unlink(missing_ok=True)

    def resume(self, upload: UploadId, size: int) -> Running | None:
        """Returns the hash with which an append goes on, or None where only a commit can hash, by reading the file.

        Reading here instead would make a client whose chunks go to different workers pay for every chunk with a
        read of all before it.
        """
        running = self.take(upload, size)
        if running is not None or size:
            return running
        record = self._read(upload)
        return Running(DEFAULT_ALGORITHM if record is None else Digest(record.digest).algorithm)

    def record(self, upload: UploadId, running: Running) -> None:
        """Writes the record for other workers.

        A failure is no error: a record that is missing or torn is not trusted, and the commit reads the file.
        """
        content = msgspec.json.encode(Record(running.offset, str(running.digest()), self._boot))
        with suppress(OSError):
            fd = os.open(self._layout.state(upload), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
            try:
                os.write(fd, content)
            finally:
                os.close(fd)

    def recorded(self, upload: UploadId, size: int) -> Digest | None:
        """Returns the recorded digest of all ``size`` bytes that the file holds, or None where it is not to be trusted.

        The record is trusted only in the run of the kernel that wrote it: after a power cut, bytes of the upload that
        were still in the page cache may read as zeros, under a record that reached the disk. Where the kernel names
        no run, nothing is trusted.
        """
        record = self._read(upload)
        if record is None or record.offset != size or record.boot is None or record.boot != self._boot:
            return None
        return Digest(record.digest)

    def matches(self, upload: UploadId, fd: int, size: int, digest: Digest) -> tuple[bool, Running | None]:
        """Says whether the upload has this digest, and returns the live hash for a later call, if there is one.

        A record alone may say yes but never no: a bad one then costs a read, not the upload.
        """
        running = self.take(upload, size)
        if running is None or running.algorithm != digest.algorithm:
            if self.recorded(upload, size) == digest:
                return True, running
            running = hash_file(fd, digest.algorithm)
        return running.digest() == digest, running

    def _read(self, upload: UploadId) -> Record | None:
        try:
            record = msgspec.json.decode(self._layout.state(upload).read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return record if Digest(record.digest).algorithm in ALGORITHMS else None
