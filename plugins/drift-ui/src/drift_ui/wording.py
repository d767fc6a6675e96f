"""Numbers and moments in words."""

import time
from datetime import UTC, datetime

KIB = 1024
MINUTE, HOUR, DAY = 60, 3600, 86400
LAST_MOMENT = 253_402_300_799.0
"""The end of the year 9999, behind which there are no dates."""


def bytes_text(size: float) -> str:
    """Returns a number of bytes as people write it, such as ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < KIB or unit == "TiB":
            break
        size /= KIB
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"  # noqa: PLR2004 - digits


def count_text(value: float) -> str:
    """Returns a number with groups of three digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def exact_text(at: float) -> str:
    """Returns a moment to the second, in UTC."""
    return datetime.fromtimestamp(min(max(at, 0.0), LAST_MOMENT), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_text(at: float) -> str:
    """Returns a moment as HTML has it."""
    return datetime.fromtimestamp(min(max(at, 0.0), LAST_MOMENT), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago_text(at: float, now: float | None = None) -> str:
    """Returns how long ago, or in how long, a moment is."""
    seconds = (time.time() if now is None else now) - at
    away = abs(seconds)
    if away < MINUTE:
        return "just now"
    units = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"))
    size, unit = next((size, unit) for size, unit in units if away >= size)
    number = int(away // size)
    if unit == "day" and number > 60:  # noqa: PLR2004 - a date says more
        return exact_text(at)[:10]
    text = f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{text} ago" if seconds > 0 else f"in {text}"
