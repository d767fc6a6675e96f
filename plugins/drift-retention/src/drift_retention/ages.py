"""Durations as people write them in rules, and ages as people read them in reasons."""

import re

HOUR = 3600
DAY = 24 * HOUR
WEEK = 7 * DAY

SECONDS = {"h": HOUR, "d": DAY, "w": WEEK}

LONGEST = 104 * WEEK
"""Seconds of the longest duration; pulls are remembered for as long."""

_DURATION = re.compile(r"([1-9][0-9]{0,4})([hdw])")


def seconds_of(duration: str) -> int:
    """Returns the seconds of a duration such as ``12h``, ``30d`` or ``6w``. Raises ValueError for another text."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        message = f"{duration!r} is no duration such as 12h, 30d or 6w"
        raise ValueError(message)
    seconds = int(found[1]) * SECONDS[found[2]]
    if seconds > LONGEST:
        message = f"{duration!r} is longer than {LONGEST // WEEK}w"
        raise ValueError(message)
    return seconds


def age_of(moment: float, now: float) -> str:
    """Returns how long ago a moment was, such as ``3d ago``; both in seconds since the epoch."""
    seconds = max(0.0, now - moment)
    return f"{int(seconds // DAY)}d ago" if seconds >= 2 * DAY else f"{int(seconds // HOUR)}h ago"
