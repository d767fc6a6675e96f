"""Every workload, in the order in which they are measured."""

from benchmarks.footprint import footprint
from benchmarks.listing import listing
from benchmarks.pushing import pushing
from benchmarks.reading import reading
from benchmarks.workload import Scale, Workload


def workloads(scale: Scale) -> list[Workload]:
    """Returns all workloads at a scale."""
    return [*reading(scale), *pushing(scale), *listing(scale), *footprint(scale)]
