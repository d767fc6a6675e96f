"""Lays out values over time as lines of an SVG, in numbers that a template writes down."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from drift_core.api import pages
from drift_ui.wording import bytes_text, count_text

WIDTH, HEIGHT = 640.0, 180.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 8.0, 10.0, 24.0
STEPS = 4
"""Lines across, at most."""

MOST_POINTS = 400
"""Points of one line; of more, each is the largest of several."""


class Line(Struct, frozen=True):
    """One series: its name, where its line goes, and the last value in words."""

    name: str
    points: str
    last: str


class Mark(Struct, frozen=True):
    """A label, and where it stands along its axis."""

    at: float
    text: str


class Drawing(Struct, frozen=True):
    """A plot in the units of the picture, and the same as rows of a table."""

    lines: Sequence[Line]
    across: Sequence[Mark]
    along: Sequence[Mark]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def drawing_of(plot: pages.Plot) -> Drawing | None:
    """Returns how a plot is drawn; None where there is nothing to draw."""
    series = [(one.name, _thinned(sorted(one.points))) for one in plot.series if one.points]
    values = [value for _, points in series for _, value in points if math.isfinite(value)]
    if not values:
        return None
    moments = [at for _, points in series for at, _ in points]
    begin, end = min(moments), max(moments)
    top = _round_up(max(*values, 0.0))
    words = bytes_text if plot.unit == "bytes" else count_text

    def x(at: float) -> float:
        span = end - begin
        return LEFT if not span else LEFT + (at - begin) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - max(value, 0.0) / top * (HEIGHT - TOP - BOTTOM)

    lines: list[Line] = []
    for name, points in series:
        drawn = [(x(at), y(value)) for at, value in points if math.isfinite(value)]
        if len(drawn) == 1:
            # One point alone is no line.
            drawn = [(LEFT, drawn[0][1]), (WIDTH - RIGHT, drawn[0][1])]
        lines.append(Line(name, " ".join(f"{one:.1f},{other:.1f}" for one, other in drawn), words(points[-1][1])))
    across = [Mark(round(y(top * step / STEPS), 1), words(top * step / STEPS)) for step in range(STEPS + 1)]
    along = [Mark(round(x(at), 1), _day(at)) for at in dict.fromkeys((begin, end))]
    return Drawing(lines, across, along, *_table(series, words))


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    size = math.ceil(len(points) / MOST_POINTS) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], max(value for _, value in part)) for part in parts]


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 5, 10) if step * unit >= value)


def _table(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], words: Callable[[float], str]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    at: dict[float, dict[str, str]] = {}
    for name, points in series:
        for moment, value in points:
            at.setdefault(moment, {})[name] = words(value)
    names = [name for name, _ in series]
    rows = [[_day(moment), *(found.get(name, "") for name in names)] for moment, found in sorted(at.items())]
    return ["Day", *names], rows


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
