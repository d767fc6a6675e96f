"""The hashes of uploads, which go on from one append to the next in the process that has them."""

from collections import OrderedDict

from drift_core.api import ALGORITHMS, Digest, UploadId

DEFAULT_ALGORITHM = "sha256"

LIVE_HASHES = 1024
"""Most hashes that a process keeps, about 0.5 KiB each; an upload whose hash fell out is read again at its commit."""


class Running:
    """A hash of the first ``offset`` bytes of an upload, which can go on."""

    __slots__ = ("_hash", "algorithm", "offset")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.offset = 0
        self._hash = ALGORITHMS[algorithm].new()

    def update(self, piece: bytes | memoryview) -> None:
        """Goes on; releases the GIL for all but tiny pieces."""
        self._hash.update(piece)
        self.offset += len(piece)

    def digest(self) -> Digest:
        """Returns the digest so far."""
        return Digest(f"{self.algorithm}:{self._hash.hexdigest()}")


class Hashes:
    """The hashes that are not in use; for tasks of one loop."""

    def __init__(self) -> None:
        self._live: OrderedDict[UploadId, Running] = OrderedDict()

    def take(self, upload: UploadId, size: int) -> Running | None:
        """Removes and returns the hash, if there is one and it covers all ``size`` bytes that are kept.

        Another size means that another process has appended; what this one knows is then of no more use.
        """
        running = self._live.pop(upload, None)
        return running if running is not None and running.offset == size else None

    def put(self, upload: UploadId, running: Running) -> None:
        """Keeps a hash, and forgets the one that was not used for longest when there are too many."""
        self._live[upload] = running
        while len(self._live) > LIVE_HASHES:
            self._live.popitem(last=False)

    def drop(self, upload: UploadId) -> None:
        """Forgets the hash of an upload that has ended."""
        self._live.pop(upload, None)
