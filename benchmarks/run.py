"""Measures Drift beside its peers, in turn, and prints the ratios: `python -m benchmarks.run [WORKLOAD ...]`."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.progress import track

from benchmarks.load import build
from benchmarks.report import COLUMNS, shown, write_report
from benchmarks.results import OWN, Results, Row, add_rows, read_results
from benchmarks.servers import PROGRAMS, SERVERS, Command, peer
from benchmarks.workload import FULL, QUICK, Case, Lacking, Scale, Stage, Workload
from benchmarks.workloads import workloads

RESULTS = Path(tempfile.gettempdir()) / "drift-benchmarks.jsonl"
FAILURES = (Lacking, RuntimeError, OSError)


class Turns:
    """The servers that take turns in a workload; a peer that fails is noted and takes no further part, Drift raises."""

    def __init__(self, workload: Workload) -> None:
        self.cases: dict[str, dict[str, Case]] = {}
        self._rows: dict[tuple[str, str], Row] = {}
        self._notes: dict[str, str] = {}
        self._workload = workload
        self._began = time.time()

    def prepare(self, stage: Stage) -> None:
        """Brings a server to where the first round begins."""
        try:
            cases = self.cases[stage.name] = self._workload.prepare(stage)
        except FAILURES as error:
            self._drop(stage.name, error)
        else:
            assert cases.keys() >= self._workload.bars.keys(), "a bar that is never judged"

    def take(self, number: int) -> None:
        """Measures one round of every case, on each server in turn; round 0 is not kept."""
        for case in self.cases[OWN]:
            for name in list(self.cases):
                try:
                    figures = self.cases[name][case](number)
                except FAILURES as error:
                    self._drop(name, error)
                    continue
                row = self._rows.setdefault((case, name), self._row(case, name))
                for measure, value in figures.items() if number else ():
                    row.figures.setdefault(measure, []).append(value)

    def rows(self) -> list[Row]:
        """Returns what was measured, and why some was not."""
        kept = [row for row in self._rows.values() if row.server not in self._notes]
        return kept + [self._row("", name, note) for name, note in self._notes.items()]

    def _row(self, case: str, name: str, note: str = "") -> Row:
        return Row(self._began, self._workload.name, case, name, note=note)

    def _drop(self, name: str, error: Exception) -> None:
        if name == OWN:
            raise error
        self.cases.pop(name, None)
        self._notes[name] = str(error)


def measure(
    program: Path,
    folder: Path,
    workload: Workload,
    names: Sequence[str],
    scale: Scale,
    commands: Mapping[str, Command] = SERVERS,
) -> list[Row]:
    """Runs the rounds of a workload; the first round warms up and does not count."""
    turns = Turns(workload)
    rounds = range(0 if workload.warm else 1, min(scale.rounds, workload.most) + 1)
    with ExitStack() as stack:
        for name in names:
            turns.prepare(Stage(name, program, folder / name, stack, commands))
        for number in track(rounds, workload.name, console=Console(stderr=True), transient=True):
            turns.take(number)
    return turns.rows()


def tell(rows: Sequence[Row]) -> None:
    """Prints the ratios of the cases of one workload."""
    results = Results(rows)
    for row in rows:
        if row.note:
            print(f"{row.workload}: {row.server}: {row.note}")
    for case in results.cases():
        print(case)
        for name in results.peers():
            ratios = {measure: shown(results.ratio(measure, case, name)) for measure in COLUMNS}
            print(f"  Drift/{name}: {', '.join(f'{measure} {ratio}' for measure, ratio in ratios.items())}")
    sys.stdout.flush()


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Returns what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    names = ", ".join(workload.name for workload in workloads(FULL))
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"a part of a name; default all of: {names}")
    parser.add_argument("--rounds", type=int, help=f"of each workload; default {FULL.rounds}")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures nothing")
    parser.add_argument("--upload-mib", type=int, help=f"of the largest upload; default {FULL.upload_mib}")
    parser.add_argument("--peers", default=",".join(PROGRAMS), help="separated by commas; default %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where rows are added; default %(default)s")
    parser.add_argument("--report", type=Path, metavar="PAGE", help="measures nothing, writes RESULTS into a page")
    return parser.parse_args(given)


def available(wanted: Sequence[str]) -> list[str]:
    """Returns Drift and those of the wanted peers whose programs are found; names the others."""
    names = [OWN]
    for name in filter(None, wanted):
        try:
            peer(PROGRAMS[name])
        except FileNotFoundError as error:
            print(f"{name} is missing: {error}")
        else:
            names.append(name)
    return names


def main(given: Sequence[str]) -> None:
    """Measures the workloads that are named, or all; or writes the report of what was measured."""
    options = arguments(given)
    changes = {"rounds": options.rounds, "upload_mib": options.upload_mib}
    scale = replace(QUICK if options.quick else FULL, **{name: value for name, value in changes.items() if value})
    if options.report:
        write_report(options.report, read_results(options.results), workloads(scale))
        return
    chosen = [one for one in workloads(scale) if any(part in one.name for part in options.workloads or [""])]
    if not chosen:
        sys.exit("no workload has such a name; --help has all")
    names = available(options.peers.split(","))
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as temporary:
        program = build(Path(temporary))
        for workload in chosen:
            folder = Path(temporary) / "work"
            rows = measure(program, folder, workload, names, scale)
            add_rows(options.results, rows)
            tell(rows)
            # A million files: three times as fast as Python's own.
            subprocess.run(["rm", "-rf", str(folder)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
