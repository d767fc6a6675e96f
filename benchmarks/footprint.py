"""Workloads about what a server takes: its start, its memory, and what idle connections cost the busy ones."""

import shutil
import time

from benchmarks.images import layer, push_image
from benchmarks.load import Plan, Push
from benchmarks.process_tree import memory
from benchmarks.servers import running
from benchmarks.workload import ITSELF, MIB, Bar, Case, Figures, Scale, Stage, Workload

SETTLING_SECONDS = 2.0
BUSY = "200 busy connections"
CROWDED = "the same beside 1,000 idle ones"
START = "start to ready (p50), then idle (peak memory)"


def footprint(scale: Scale) -> list[Workload]:
    """Returns the workloads about memory, start and connections."""

    def start(stage: Stage) -> dict[str, Case]:
        def measure(_: int) -> Figures:
            with running(stage.name, stage.folder / "server") as server:
                time.sleep(SETTLING_SECONDS)
                return {"p50": server.seconds, "peak": float(memory(server.process))}

        return {START: measure}

    def uploads(name: str, count: int, mib: int) -> Workload:
        def prepare(stage: Stage) -> dict[str, Case]:
            def measure(number: int) -> Figures:
                with running(stage.name, stage.folder / "server") as server:
                    time.sleep(SETTLING_SECONDS)
                    idle = memory(server.process)
                    push = Push(f"bench/push{number}-%d", "v1", mib * MIB)
                    peak = stage.send(server, Plan(count, iterations=count, push=push)).peak
                shutil.rmtree(stage.folder / "server")
                return {"peak": float(peak), "of idle": peak / idle}

            return {name: measure}

        return Workload(
            name, "memory", prepare, {name: (Bar("of idle", 2.0, ITSELF),)}, headline="peak", most=2, warm=False
        )

    def connections(stage: Stage) -> dict[str, Case]:
        server = stage.start()
        requests = [push_image(server, "bench/app", layer(1)).by_tag]
        return {
            BUSY: stage.requests(server, Plan(200, seconds=scale.seconds), requests),
            CROWDED: stage.requests(server, Plan(200, 1000, seconds=scale.seconds), requests),
        }

    small = scale.count(100)
    return [
        Workload("start", "memory", start, {START: (Bar("peak", 1.0, "zot"),)}, headline="peak"),
        uploads(f"32 uploads of {small} MiB at once", 32, small),
        uploads(f"one upload of {scale.upload_mib:,} MiB", 1, scale.upload_mib),
        Workload("idle connections", "pulls", connections, {CROWDED: (Bar("p99", 2.0, ITSELF, beside=BUSY),)}),
    ]
