"""Measures Drift beside distribution on one MinIO, in turn: `python -m benchmarks.object_storage [WORKLOAD ...]`."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from benchmarks.footprint import SETTLING_SECONDS
from benchmarks.images import layer, push_image
from benchmarks.load import Plan, Push, build
from benchmarks.process_tree import cpu_seconds, memory
from benchmarks.report import bars_table, ratios_table, shown
from benchmarks.results import OWN, Results, add_rows, read_results
from benchmarks.run import available, measure, tell
from benchmarks.servers import Command, Running, distribution, drift
from benchmarks.workload import FULL, ITSELF, MIB, QUICK, Bar, Case, Figures, Scale, Stage, Workload, figures
from tests.services.minio import Minio

RESULTS = Path(tempfile.gettempdir()) / "drift-object-storage.jsonl"
PEER = "distribution"
FASTER = Bar("throughput", 1.3, at_least=True)
BOUNDED = Bar("of bound", 1.0, ITSELF)
SIZES = {1: (160, 320), 10: (32, 80), 100: (8, 16)}
"""How many images of so many MiB a round pushes, and how often it pulls one."""

CONNECTIONS = 8


def commands(minio: Minio, *settings: str, redirect: bool = False) -> dict[str, Command]:
    """Returns how to start each server on a new bucket of its own; ``settings`` are more of Drift's."""

    def start_drift(folder: Path, port: int) -> list[str]:
        own = minio.settings(minio.new_bucket())
        return drift(folder, port, *own, f"storage.s3.redirect={str(redirect).lower()}", *settings)

    def start_distribution(folder: Path, port: int) -> list[str]:
        where = f"regionendpoint: '{minio.endpoint}', region: us-east-1, bucket: {minio.new_bucket()}"
        keys = f"accesskey: {minio.access_key}, secretkey: {minio.secret_key}"
        bucket = f"s3: {{{where}, {keys}, forcepathstyle: true, secure: false}}"
        return distribution(folder, port, f"{bucket}\n  redirect: {{disable: {str(not redirect).lower()}}}")

    return {OWN: start_drift, PEER: start_distribution}


def moving(minio: Minio, scale: Scale, how: str = "") -> list[Workload]:
    """Returns the workloads that push or pull images; the store's part in it is measured as ``store cpu``.

    With ``how``, a word for the names, there are only pulls.
    """

    def case(stage: Stage, server: Running, plan: Callable[[int], Plan]) -> Case:
        assert minio.process is not None
        store = minio.process.pid

        def round_of(number: int) -> Figures:
            before = cpu_seconds(store)
            done = stage.send(server, plan(number))
            return figures(done) | {"store cpu": (cpu_seconds(store) - before) / done.iterations}

        return round_of

    def pushes(mib: int, count: int) -> Workload:
        name = f"push of {mib} MiB images"

        def plan(number: int) -> Plan:
            push = Push(f"bench/push{number}-%d", "v1", mib * MIB)
            return Plan(CONNECTIONS, iterations=scale.count(count), push=push)

        def prepare(stage: Stage) -> dict[str, Case]:
            return {name: case(stage, stage.start(), plan)}

        return Workload(name, "pushes", prepare, {name: (FASTER,)})

    def pulls(mib: int, count: int) -> Workload:
        name = f"pull of a {mib} MiB image" + (f", {how}" if how else "")

        def prepare(stage: Stage) -> dict[str, Case]:
            server = stage.start()
            requests = push_image(server, "bench/app", layer(mib)).pull()
            plan = Plan(CONNECTIONS, iterations=scale.count(count), requests=requests, sequence=True)
            return {name: case(stage, server, lambda _: plan)}

        return Workload(name, "pulls", prepare, {name: (FASTER,)})

    pulled = [pulls(mib, count) for mib, (_, count) in SIZES.items()]
    return pulled if how else [*(pushes(mib, count) for mib, (count, _) in SIZES.items()), *pulled]


def uploads(count: int, mib: int, buffer_mb: int, workers: int) -> Workload:
    """Returns the workload of as many pushes at once as there are; Drift's peak is compared with what bounds it.

    That is what each worker's uploads may take for parts, and twice what all take when idle.
    """
    name = f"{count} uploads of {mib} MiB at once"

    def prepare(stage: Stage) -> dict[str, Case]:
        def round_of(number: int) -> Figures:
            server = stage.start(f"server{number}")
            time.sleep(SETTLING_SECONDS)
            idle = memory(server.process)
            push = Push(f"bench/push{number}-%d", "v1", mib * MIB)
            peak = float(stage.send(server, Plan(count, iterations=count, push=push)).peak)
            return {"peak": peak, "of bound": peak / (buffer_mb * MIB * workers + 2 * idle)}

        return {name: round_of}

    return Workload(name, "memory", prepare, {name: (BOUNDED,)}, headline="peak", most=2, warm=False)


def workloads(minio: Minio, scale: Scale) -> list[tuple[Workload, dict[str, Command]]]:
    """Returns every workload, each with how its servers are started."""
    direct, redirected = commands(minio), commands(minio, redirect=True)
    cached = commands(minio, 'storage.layers=["cached"]')
    settings = "server.workers=2", "storage.s3.buffer_mb=64"
    return [
        *((workload, direct) for workload in moving(minio, scale)),
        *((workload, redirected) for workload in moving(minio, scale, "redirected")),
        *((workload, cached) for workload in moving(minio, scale, "cached")),
        (uploads(32, scale.count(100), 64, 2), commands(minio, *settings)),
    ]


def store_table(results: Results) -> list[str]:
    """Returns the lines of the table of what each server makes MinIO do."""
    lines = ["| Workload | CPU of MinIO |", "|---|---|"]
    ratios = {case: results.ratio("store cpu", case, PEER) for case in results.cases()}
    return lines + [f"| {case} | {shown(ratio)} |" for case, ratio in ratios.items() if ratio is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the workloads that are named, or all, and prints the tables of all that was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.object_storage", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="a part of a name; default all")
    parser.add_argument("--rounds", type=int, help=f"of each workload; default {FULL.rounds}")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where rows are added; default %(default)s")
    options = parser.parse_args(arguments)
    scale = QUICK if options.quick else FULL
    scale = replace(scale, rounds=options.rounds or scale.rounds)
    names = available([PEER])
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as temporary, Minio() as minio:
        program = build(Path(temporary))
        every = workloads(minio, scale)
        for workload, started in every:
            if any(part in workload.name for part in options.workloads or [""]):
                folder = Path(temporary) / "work"
                rows = measure(program, folder, workload, names, scale, started)
                add_rows(options.results, rows)
                tell(rows)
                subprocess.run(["rm", "-rf", str(folder)], check=True)
        results = read_results(options.results)
        tables = [
            bars_table(results, [workload for workload, _ in every]),
            ratios_table(results, list(results.cases())),
            store_table(results),
        ]
    for table in tables:
        print("", *table, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
