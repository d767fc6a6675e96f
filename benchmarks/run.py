"""Measures Drift beside its peers, in turn, and prints the ratios: `python -m benchmarks.run [WORKLOAD ...]`."""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.load import Measured, build, send
from benchmarks.servers import SERVERS, running
from benchmarks.workloads import WORKLOADS, Workload

ROUNDS = 5
Results = dict[str, list[Measured]]


def measure(program: Path, folder: Path, workload: Workload, names: Sequence[str], rounds: int) -> Results:
    """Runs the rounds of a workload on every server in turn; the first round warms up and does not count."""
    found: Results = {name: [] for name in names}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name, folder / name)) for name in names}
        plans = {name: workload.prepare(server) for name, server in servers.items()}
        for number in track(range(rounds + 1), workload.name, console=Console(stderr=True), transient=True):
            for name, server in servers.items():
                measured = send(program, server, plans[name](number))
                if number:
                    found[name].append(measured)
    return found


def ratio(drift: Sequence[float], other: Sequence[float]) -> float:
    """Returns the median of the ratios of rounds that were neighbours."""
    return statistics.median(mine / theirs for mine, theirs in zip(drift, other, strict=True))


def main() -> None:
    """Measures the workloads whose names are given, or all."""
    wanted = sys.argv[1:]
    table = Table("Workload", "Peer", "Throughput, Drift/peer", "CPU each, Drift/peer", "p99, Drift/peer", "CPU each")
    console = Console()
    with tempfile.TemporaryDirectory() as temporary:
        program = build(Path(temporary))
        for workload in WORKLOADS:
            if wanted and not any(name in workload.name for name in wanted):
                continue
            folder = Path(temporary) / workload.name.replace(" ", "-")
            found = measure(program, folder, workload, list(SERVERS), ROUNDS)
            mine = found.pop("drift")
            own = statistics.median(one.cpu_each for one in mine) * 1e6
            for name, theirs in found.items():
                table.add_row(
                    workload.name,
                    name,
                    f"{ratio([one.rate for one in mine], [one.rate for one in theirs]):.2f}",
                    f"{ratio([one.cpu_each for one in mine], [one.cpu_each for one in theirs]):.2f}",
                    f"{ratio([one.p99 for one in mine], [one.p99 for one in theirs]):.2f}",
                    f"{own:.0f} / {statistics.median(one.cpu_each for one in theirs) * 1e6:.0f} us",
                )
    console.print(table)


if __name__ == "__main__":
    main()
