"""Workloads that push: images of three sizes in one PUT or in chunks, pulls beside pushes, one image many times."""

from collections.abc import Callable

from benchmarks.images import layer, push_image
from benchmarks.load import Plan, Push
from benchmarks.workload import MIB, Bar, Case, Scale, Stage, Workload

FASTER = Bar("throughput", 1.3, at_least=True)
CHEAPER = Bar("cpu", 0.7, "distribution")
CHUNK = 4 * MIB


def pushing(scale: Scale) -> list[Workload]:
    """Returns the workloads that push."""

    def planned(name: str, plan: Callable[[int], Plan], bars: tuple[Bar, ...] = (), most: int = 100) -> Workload:
        return Workload(name, "pushes", lambda stage: {name: stage.case(stage.start(), plan)}, {name: bars}, most=most)

    def images(mib: int, count: int, connections: int, bars: tuple[Bar, ...]) -> list[Workload]:
        def plan(chunk: int) -> Callable[[int], Plan]:
            return lambda number: Plan(
                connections,
                iterations=scale.count(count),
                push=Push(f"bench/push{number}-%d", "v1", mib * MIB, chunk),
            )

        whole = planned(f"push of {mib} MiB images", plan(0), bars)
        return [whole, planned(f"push of {mib} MiB images in chunks", plan(CHUNK), bars)]

    def mixed(stage: Stage) -> dict[str, Case]:
        server = stage.start()
        pull = push_image(server, "bench/app", layer(1)).pull()
        count = scale.count(400)

        def plan(number: int) -> Plan:
            push = Push(f"bench/push{number}-%d", "v1", MIB)
            return Plan(8, iterations=count, requests=pull, sequence=True, push=push, share=4)

        return {"3 pulls to 1 push, 1 MiB images": stage.case(server, plan)}

    def same(count: int, connections: int, repository: str, tag: str) -> Callable[[int], Plan]:
        return lambda number: Plan(
            connections,
            iterations=scale.count(count),
            push=Push(repository.format(number), tag, MIB, same=True),
        )

    return [
        *images(1, 200, 8, (FASTER,)),
        *images(10, 20, 4, (FASTER, CHEAPER)),
        *images(100, 4, 2, (FASTER, CHEAPER)),
        Workload("3 pulls to 1 push", "pushes", mixed),
        planned("64 pushes of one image at once", same(64, 64, "bench/same{}", "v1")),
        planned("push of 2,000 tags to one repository", same(2000, 8, "bench/tags{}", "v%d"), most=2),
    ]
