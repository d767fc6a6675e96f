"""What clients notice of a collection: pushes and pulls at a fixed rate, in turn without it and beside it."""

import os
import statistics
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

from msgspec import Struct, json

from benchmarks.servers import PROGRAMS, Running, drift, peer, running
from benchmarks.steady import Load, Took, send
from benchmarks.stock import Stock, digest_of, into_sqlite

SETTINGS = (
    "server.workers=2",
    "garbage_collector.enabled=true",
    "garbage_collector.grace_period_hours=0",
    "garbage_collector.interval_hours=10000",
    "garbage_collector.max_share=1.0",
    "registry.min_age_days=0",
    "registry.restore_hours=0",
    # What is removed is purged a few seconds later, while more is removed.
    "registry.lease_seconds=4",
)

BLOB = b"x" * 1000
PATIENCE = 600.0


class Round(Struct, frozen=True):
    """A load without a collection and one beside it, and how many blobs the latter has removed."""

    off: Took
    on: Took
    removed: int


def stock(folder: Path, kept: int, wasted: int) -> None:
    """Gives a server that is stopped images with tags and blobs that nothing reaches, these with their bytes."""
    written = Stock()
    with into_sqlite(folder / "data/drift.db") as insert:
        written.keep(insert, kept, 4)
        digests = written.waste_blobs(insert, wasted)
    for digest in digests:
        value = digest.removeprefix("sha256:")
        file = folder / "data/blobs/sha256" / value[:2] / value
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(BLOB)


@contextmanager
def collecting(server: Running) -> Iterator[list[int]]:
    """Runs one collection after the other beside the block; yields how many blobs each has removed."""
    over = threading.Event()
    removed: list[int] = []

    def collect() -> None:
        while not over.is_set():
            request = urllib.request.Request(f"http://{server.address}/admin/gc", b"{}", method="POST")
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                removed.append(json.decode(answer.read())["metrics"]["blobs_deleted"])
            if not removed[-1]:
                raise RuntimeError("there is no garbage left: a shorter load, or more blobs")

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield removed
    finally:
        over.set()
        thread.join()


@contextmanager
def idle(_: Running) -> Iterator[list[int]]:
    """Collects nothing beside the block: what two equal loads differ by is what the machine does."""
    yield [0]


@contextmanager
def collecting_by_command(server: Running, wasted: int) -> Iterator[list[int]]:
    """Runs distribution's own command beside the block, which its documentation says must not be written to meanwhile.

    Yields how many of so many blobs, which nothing reaches, it has removed.
    """
    folder = server.folder / "data/docker/registry/v2/blobs/sha256"
    files = []
    for number in range(wasted):
        value = digest_of(f"{os.urandom(8).hex()} {number}").removeprefix("sha256:")
        files.append(folder / value[:2] / value / "data")
        files[-1].parent.mkdir(parents=True)
        files[-1].write_bytes(BLOB)
    command = [peer(PROGRAMS["distribution"]), "garbage-collect", "--quiet", str(server.folder / "config.yml")]
    removed: list[int] = []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield removed
    finally:
        process.terminate()
        process.wait()
        removed.append(sum(not file.exists() for file in files))


def rounds(
    server: Running,
    load: Load,
    count: int,
    collecting: Callable[[Running], AbstractContextManager[list[int]]],
    first: int = 0,
) -> Iterator[Round]:
    """Yields as many rounds, after a short load that warms up; every other one begins with the collection.

    ``first`` is one that the server has not seen: what is pushed twice costs less.
    """
    send(Load(server.port, 2.0, round=10_000 + first))
    for number in range(count):
        both: dict[bool, Took] = {}
        removed: list[int] = []
        for beside in (False, True) if number % 2 else (True, False):
            plan = Load(server.port, load.seconds, load.pushes, load.pulls, first + 2 * number + beside)
            if beside:
                with collecting(server) as removed:
                    both[beside] = send(plan)
            else:
                both[beside] = send(plan)
        yield Round(both[False], both[True], sum(removed))


def quantile(seconds: Sequence[float], share: float) -> float:
    """Returns how long the given share of requests took at most."""
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)]


def row(measured: Sequence[Round]) -> list[str]:
    """Returns the cells of a table: the ratio of all requests of all rounds, with the smallest and largest of a round.

    A round has too few requests for a slowest hundredth of its own.
    """
    cells = []
    for read in (lambda took: took.pushes, lambda took: took.pulls):
        for share in (0.5, 0.99):
            on, off = ([read(getattr(one, name)) for one in measured] for name in ("on", "off"))
            ratios = sorted(quantile(mine, share) / quantile(other, share) for mine, other in zip(on, off, strict=True))
            both = quantile(list(chain(*on)), share) / quantile(list(chain(*off)), share)
            cells.append(f"{both:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    failed = sum(one.on.failed + one.off.failed for one in measured)
    return [*cells, f"{statistics.median(one.removed for one in measured):,.0f}", str(failed)]


HEAD = ["Server", "push p50", "push p99", "pull p50", "pull p99", "Blobs removed in a load", "Failed"]


def load_table(
    folder: Path, plan: Load, count: int, wasted: int, rates: Mapping[str, float], peers: Sequence[str]
) -> Iterator[list[str]]:
    """Yields the table, the head first; ``rates`` are removals in a second, 0 being no limit."""
    yield HEAD
    for name in peers:
        with running(name, folder / name) as server:
            yield [name, *row(list(rounds(server, plan, count, partial(collecting_by_command, wasted=wasted))))]
    for name, rate in rates.items():
        place = folder / name.replace(" ", "-")

        def command(where: Path, port: int, rate: float = rate) -> list[str]:
            # The load waits for the end of the last run.
            most = int(rate * plan.seconds) or 1000
            pace = f"garbage_collector.removals_per_second={rate}", f"garbage_collector.max_blobs_per_run={most}"
            return drift(where, port, *SETTINGS, *pace)

        with running(name, place, command):
            pass
        stock(place, 20_000, wasted)
        with running(name, place, command) as server:
            yield [f"{name}, nothing collected", *row(list(rounds(server, plan, count, idle, 1000)))]
            yield [name, *row(list(rounds(server, plan, count, collecting)))]
