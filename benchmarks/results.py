"""Keeps what was measured in a file, a line for each case of a server, so that a run that is stopped loses nothing."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct, json

OWN = "drift"


class Row(Struct):
    """The figures of a case by round; ``began`` tells runs apart, ``note`` says why a server has no figures."""

    began: float
    workload: str
    case: str
    server: str
    figures: dict[str, list[float]] = {}
    note: str = ""


class Results:
    """The latest run of each workload."""

    def __init__(self, rows: Iterable[Row]) -> None:
        every = list(rows)
        latest = {row.workload: row.began for row in sorted(every, key=lambda row: row.began)}
        self.rows = [row for row in every if row.began == latest[row.workload]]
        self._figures = {(row.case, row.server): row.figures for row in self.rows}

    def figures(self, case: str, server: str, measure: str) -> list[float]:
        """Returns a measure by round; empty where there is none."""
        return self._figures.get((case, server), {}).get(measure, [])

    def ratio(self, measure: str, case: str, server: str, beside: str = "") -> float | None:
        """Returns Drift's measure to a server's in the same case, or in the case ``beside``; None without both."""
        mine, theirs = self.figures(case, OWN, measure), self.figures(beside or case, server, measure)
        return ratio(mine, theirs) if mine and theirs and all(theirs) else None

    def peers(self) -> list[str]:
        """Returns the servers beside Drift that have figures."""
        return list(dict.fromkeys(row.server for row in self.rows if row.figures and row.server != OWN))

    def cases(self) -> dict[str, str]:
        """Returns the cases in their order, each with its workload."""
        return {row.case: row.workload for row in self.rows if row.server == OWN}


def ratio(drift: Sequence[float], other: Sequence[float]) -> float:
    """Returns the median of the ratios of rounds that were neighbours."""
    return statistics.median(mine / theirs for mine, theirs in zip(drift, other, strict=True))


def add_rows(file: Path, rows: Iterable[Row]) -> None:
    """Adds rows to a file."""
    with file.open("ab") as lines:
        lines.writelines(json.encode(row) + b"\n" for row in rows)


def read_results(file: Path) -> Results:
    """Reads what `add_rows` wrote."""
    return Results(json.decode(line, type=Row) for line in file.read_bytes().splitlines())
