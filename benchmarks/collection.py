"""Measures the collection of garbage: `python -m benchmarks.collection cost|load`."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog

from benchmarks.collection_cost import Scale, cost
from benchmarks.collection_load import load_table
from benchmarks.several_nodes import show
from benchmarks.steady import Load


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table of what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collection", description=__doc__)
    parser.add_argument("what", choices=["cost", "load"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=Scale().sizes, help="of cost: blobs that are stored")
    parser.add_argument("--removed", type=int, default=Scale().removed, help="of cost: blobs that a round removes")
    parser.add_argument("--databases", nargs="+", default=["SQLite", "PostgreSQL"], help="of cost")
    parser.add_argument("--seconds", type=float, default=15, help="of load: how long each lasts")
    parser.add_argument("--blobs", type=int, default=100_000, help="of load: blobs that may be collected")
    parser.add_argument("--rates", type=float, nargs="+", default=[200, 0], help="of load: removals in a second")
    parser.add_argument("--peers", nargs="*", default=[], help="of load: distribution")
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as folder:
        if chosen.what == "cost":
            scale = Scale(chosen.sizes, chosen.removed, chosen.rounds)
            show(cost(Path(folder), scale, chosen.databases))
        else:
            plan = Load(0, chosen.seconds)
            rates = {f"Drift, {rate:g} a second" if rate else "Drift, no limit": rate for rate in chosen.rates}
            show(load_table(Path(folder), plan, chosen.rounds, chosen.blobs, rates, chosen.peers))


if __name__ == "__main__":
    main()
