"""Sizes as people write and read them, such as ``10GB`` or ``1.5GiB``."""

import re
from decimal import Decimal
from typing import Final

SIZE: Final = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,3})?) ?(B|[KMGT]i?B)?")

MOST: Final = 2**63 - 1
"""What the database can count, in bytes."""

UNITS: Final = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, letter in enumerate("KMGT", 1)
}


def size_of(text: int | str) -> int:
    """Returns the bytes of a size: a number of bytes, or one with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB.

    Raises ValueError.
    """
    match = SIZE.fullmatch(str(text))
    size = Decimal(-1) if match is None else Decimal(match[1]) * UNITS[match[2] or "B"]
    if not 0 <= size <= MOST or size != int(size):
        message = f"{text!r} is no size; write bytes, or such as 500MB or 10GiB"
        raise ValueError(message)
    return int(size)


def readable(size: int) -> str:
    """Returns a size in bytes with the decimal unit that leaves at most three digits before the point."""
    for unit in ("TB", "GB", "MB", "KB"):
        if abs(size) >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"
