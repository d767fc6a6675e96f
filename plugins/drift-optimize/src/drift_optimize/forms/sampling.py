"""Guesses from samples how much there is to gain from compressing a tar."""

import math
from collections import Counter

EVERY = 64 * 1024
SAMPLE = 256
"""Bytes that are looked at of `EVERY` bytes, at places that differ so that it is not always the same part of a file."""

CLOSELY = 4 << 20
"""Bytes of which all blocks are sampled; behind them only every `RARELY`-th: a large tar is known by fewer samples."""

RARELY = 8


class Sampler:
    """Counts bytes of a tar; ``entropy`` is per byte, from 0 (all the same) to 1 (noise)."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._blocks = 0
        self._size = 0
        self._passed = 0

    def add(self, block: bytes) -> None:
        """Takes the next block of `reading.PIECE` bytes."""
        self._size += len(block)
        if self._size > CLOSELY:
            self._passed += 1
            if self._passed % RARELY:
                return
        parts: list[bytes] = []
        for start in range(0, len(block), EVERY):
            place = start + self._blocks * 40_503 % (EVERY - SAMPLE)
            parts.append(block[place : place + SAMPLE] or block[start : start + SAMPLE])
            self._blocks += 1
        self._counts.update(b"".join(parts))

    @property
    def entropy(self) -> float:
        """Shannon's, of single bytes; 1 where there are none: nothing is gained from nothing."""
        total = self._counts.total()
        if not total:
            return 1.0
        return -sum(count / total * math.log2(count / total) for count in self._counts.values()) / 8
