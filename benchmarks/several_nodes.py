"""What it costs to share a database: `python -m benchmarks.several_nodes`.

Pulls on PostgreSQL beside the same on SQLite, and pushes through three nodes beside the same through one.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.progress import track

from benchmarks.images import layer, push_image
from benchmarks.load import Plan, Push, build, send
from benchmarks.process_tree import cpu_seconds
from benchmarks.report import MISSING, shown
from benchmarks.results import ratio
from benchmarks.run import available
from benchmarks.servers import Command, Running, distribution, drift, running
from benchmarks.workload import MIB
from tests.services.minio import Minio
from tests.services.postgresql import Postgresql

ROUNDS = 7
PULLS = 6000
AT_A_TIME = 1, 16
NODES = 3
CONNECTIONS = 4
"""Of each of the clients, of which there are as many as nodes."""

FIRST, SHARED = "SQLite", "PostgreSQL"
PUSHES: dict[str, tuple[Callable[[int, int], Push], int]] = {
    "images of 1 MiB": (lambda client, number: Push(f"bench/push{number}-{client}-%d", "v1", MIB), 40),
    "tags of one repository": (
        lambda client, number: Push("bench/tags", f"r{number}-{client}-%d", 1024, same=True),
        120,
    ),
}
"""What is pushed by each client in each round, and how often."""


class Spent(Struct):
    """One round; ``cpu`` and ``database`` in seconds for each iteration, of all servers and of PostgreSQL."""

    throughput: float
    cpu: float
    database: float


Case = Callable[[int], Spent]
"""Measures one round, whose number it gets."""


def node(folder: Path, port: int, *settings: str) -> list[str]:
    """Returns the command of Drift with one worker."""
    return drift(folder, port, "server.workers=1", f"cluster.node_id={folder.name}", *settings)


def at_once(program: Path, plans: Sequence[tuple[Running, Plan]], database: int) -> Spent:
    """Sends every plan to its server at the same time; ``database`` is the process of PostgreSQL."""
    servers = {server.process for server, _ in plans}

    def cpu() -> tuple[float, float]:
        return sum(cpu_seconds(process) for process in servers), cpu_seconds(database)

    before = cpu()
    with ThreadPoolExecutor(len(plans)) as pool:
        done = list(pool.map(lambda one: send(program, *one), plans))
    after = cpu()
    count = sum(one.iterations for one in done)
    spent, asked = (now - then for now, then in zip(after, before, strict=True))
    return Spent(count / max(one.seconds for one in done), spent / count, asked / count)


def in_turn(what: str, cases: Mapping[str, Case], rounds: int) -> dict[str, list[Spent]]:
    """Returns the rounds of every case; they take turns, and round 0 warms up."""
    kept: dict[str, list[Spent]] = {name: [] for name in cases}
    for number in track(range(rounds + 1), what, console=Console(stderr=True), transient=True):
        for name, case in cases.items():
            spent = case(number)
            if number:
                kept[name].append(spent)
    return kept


def compared(mine: Sequence[Spent], others: Sequence[Spent], measure: str) -> str:
    """Returns the median of the ratios of neighbouring rounds, with the smallest and the largest."""
    here, there = ([getattr(one, measure) for one in which] for which in (mine, others))
    ratios = sorted(one / other for one, other in zip(here, there, strict=True))
    return f"{ratio(here, there):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def pulls(program: Path, folder: Path, postgresql: Postgresql, rounds: int, requests: int) -> Iterator[list[str]]:
    """Yields the lines of a table: a warm GET of a manifest on either database, and beside them by distribution."""
    assert postgresql.process is not None
    database = postgresql.process.pid
    url = postgresql.url(postgresql.new_database())
    commands: dict[str, Command] = {FIRST: node, SHARED: lambda place, port: node(place, port, f"metadata.url={url}")}
    if "distribution" in available(["distribution"]):
        commands["distribution"] = distribution
    yield ["Manifest GET", "Requests at a time", "CPU of a request", "CPU of PostgreSQL for it"]
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(running(name, folder / name, command)) for name, command in commands.items()
        }
        images = {name: push_image(server, "bench/app", layer(1)) for name, server in servers.items()}

        def case(name: str, connections: int) -> Case:
            plan = Plan(connections, iterations=requests, requests=[images[name].by_tag, images[name].manifest])
            return lambda _: at_once(program, [(servers[name], plan)], database)

        for connections in AT_A_TIME:
            spent = in_turn("manifest GET", {name: case(name, connections) for name in servers}, rounds)
            for name, mine in spent.items():
                asked = shown(ratio([one.database for one in mine], [one.cpu for one in spent[FIRST]]))
                beside = asked if name == SHARED else MISSING
                yield [name, str(connections), compared(mine, spent[FIRST], "cpu"), beside]


def pushes(
    program: Path, folder: Path, postgresql: Postgresql, minio: Minio, rounds: int, share: float
) -> Iterator[list[str]]:
    """Yields the lines of a table: pushes through several nodes beside the same pushes through one."""
    assert postgresql.process is not None
    database = postgresql.process.pid
    yield [f"{NODES} clients push", "Throughput", "CPU of the nodes", "CPU of PostgreSQL"]
    with ExitStack() as stack:

        def nodes(*names: str) -> list[Running]:
            url = postgresql.url(postgresql.new_database())
            settings = [f"metadata.url={url}", *minio.settings(minio.new_bucket())]

            def command(place: Path, port: int) -> list[str]:
                return node(place, port, *settings)

            return [stack.enter_context(running(name, folder / name, command)) for name in names]

        def case(servers: Sequence[Running], push: Callable[[int, int], Push], count: int) -> Case:
            def round_of(number: int) -> Spent:
                plans = [Plan(CONNECTIONS, iterations=count, push=push(client, number)) for client in range(NODES)]
                return at_once(program, list(zip(servers, plans, strict=True)), database)

            return round_of

        alone, together = nodes("alone") * NODES, nodes(*(f"node{number}" for number in range(NODES)))
        for name, (push, count) in PUSHES.items():
            some = max(int(count * share), CONNECTIONS)
            spent = in_turn(name, {"one": case(alone, push, some), "several": case(together, push, some)}, rounds)
            measures = "throughput", "cpu", "database"
            yield [name, *(compared(spent["several"], spent["one"], measure) for measure in measures)]


def show(lines: Iterable[Sequence[str]]) -> None:
    """Prints a table, each line when it is known."""
    for number, cells in enumerate(lines):
        print(f"| {' | '.join(cells)} |", flush=True)
        if not number:
            print("|---" * len(cells) + "|")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.several_nodes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--share", type=float, default=1.0, help="of the requests of a round; default all")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as temporary, Postgresql(fsync=True) as postgresql:
        folder = Path(temporary)
        program = build(folder)
        show(pulls(program, folder, postgresql, chosen.rounds, int(PULLS * chosen.share)))
        print()
        with Minio() as minio:
            show(pushes(program, folder, postgresql, minio, chosen.rounds, chosen.share))


if __name__ == "__main__":
    main()
