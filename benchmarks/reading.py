"""Workloads that pull: manifests, blobs of three sizes, and whole images."""

from collections.abc import Callable

from benchmarks.images import Image, heads, layer, push_image
from benchmarks.load import Plan, Request
from benchmarks.workload import Bar, Case, Scale, Stage, Workload

MANIFEST_BARS = (Bar("cpu", 0.55, "zot"), Bar("cpu", 0.2, "distribution"), Bar("throughput", 1.5, "zot", at_least=True))
BLOB_BARS = (Bar("throughput", 1.1, at_least=True), Bar("cpu", 1.0))
PULL_BARS = (Bar("throughput", 1.2, at_least=True),)


def reading(scale: Scale) -> list[Workload]:
    """Returns the workloads that pull."""
    both = "manifest GET", "manifest HEAD"

    def pulls(
        name: str, mib: int, connections: int, bars: tuple[Bar, ...], choose: Callable[[Image], list[Request]]
    ) -> Workload:
        def prepare(stage: Stage) -> dict[str, Case]:
            server = stage.start()
            requests = choose(push_image(server, "bench/app", layer(mib)))
            plan = Plan(connections, seconds=scale.seconds, sequence=len(requests) > 1)
            return {name: stage.requests(server, plan, requests)}

        return Workload(name, "pulls", prepare, {name: bars})

    def manifests(stage: Stage) -> dict[str, Case]:
        server = stage.start()
        image = push_image(server, "bench/app", layer(1))
        gets = [image.by_tag, image.manifest]
        return {
            both[0]: stage.requests(server, Plan(32, seconds=scale.seconds), gets),
            both[1]: stage.requests(server, Plan(32, seconds=scale.seconds), heads(gets)),
            f"{both[0]}, 8 connections": stage.requests(server, Plan(8, seconds=scale.seconds), gets),
        }

    return [
        Workload("manifests", "pulls", manifests, dict.fromkeys(both, MANIFEST_BARS)),
        pulls("blob GET 1 MiB", 1, 8, (), lambda image: [image.layer]),
        pulls("blob GET 20 MiB", 20, 4, BLOB_BARS, lambda image: [image.layer]),
        pulls("blob GET 200 MiB", 200, 2, BLOB_BARS, lambda image: [image.layer]),
        pulls("pull of a 1 MiB image", 1, 8, PULL_BARS, Image.pull),
        pulls("pull of a 10 MiB image", 10, 4, PULL_BARS, Image.pull),
        pulls("pull of a 100 MiB image", 100, 2, (), Image.pull),
    ]
