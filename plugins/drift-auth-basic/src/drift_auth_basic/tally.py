"""Counts failures in memory that the workers of a server share, so that more workers do not mean more guesses."""

import math
import mmap
import struct
from hashlib import blake2b
from secrets import token_bytes
from typing import Final

ENTRY: Final = struct.Struct("=QdQ")
ENTRIES: Final = 1 << 16
"""How many users from an address, and addresses, are counted at a time: 1.5 MiB, taken as they are used."""

PROBED: Final = 8
"""How many entries a count may lie in; where all are in use the one that ends first is given up."""


class Tally:
    """Counts by key, each from its first failure until it ends; memory that was made before workers are forked.

    Two workers that count at the same moment may count one failure for two; nobody waits for a lock. Times are by the
    monotonic clock, which is the same for all processes of a machine (``clock_gettime(2)``).
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, ENTRIES * ENTRY.size)
        # Nobody outside may choose who shares an entry with whom.
        self._key = token_bytes(16)

    def count(self, key: str, now: float) -> tuple[int, float]:
        """Returns how many failures are counted now, and when that ends; 0 where there are none."""
        _, ends, count = self._find(self._tag(key), now)
        return count, ends

    def add(self, key: str, now: float, seconds: float) -> int:
        """Counts one failure, for ``seconds`` where it is the first, and returns how many there are now."""
        tag = self._tag(key)
        place, ends, count = self._find(tag, now)
        ENTRY.pack_into(self._memory, place, tag, ends if count else now + seconds, count + 1)
        return count + 1

    def forget(self, key: str, now: float) -> None:
        """Ends a count."""
        place, _, count = self._find(self._tag(key), now)
        if count:
            ENTRY.pack_into(self._memory, place, 0, 0.0, 0)

    def _tag(self, key: str) -> int:
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") or 1

    def _find(self, tag: int, now: float) -> tuple[int, float, int]:
        """Returns where a count lies, or is to lie, when it ends, and the count, 0 where there is none."""
        earliest, found = math.inf, 0
        for step in range(PROBED):
            place = (tag + step) % ENTRIES * ENTRY.size
            known, ends, count = ENTRY.unpack_from(self._memory, place)
            if known == tag and ends > now:
                return place, ends, count
            if ends < earliest:
                earliest, found = ends, place
        return found, 0.0, 0
