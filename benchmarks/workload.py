"""What a workload is: how it sets a server up, what it measures there, and the bars that Drift has to reach."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from benchmarks.load import Measured, Plan, Request, send
from benchmarks.servers import SERVERS, Command, Running, running

MIB = 1 << 20

Figures = dict[str, float]
"""One round: ``throughput``, ``cpu`` of an iteration, ``p50``, ``p99``, ``peak`` (bytes), ``of idle`` (peak / idle)."""


def figures(done: Measured) -> Figures:
    """Returns the figures of a plan that was sent."""
    return {
        "throughput": done.rate,
        "cpu": done.cpu_each,
        "p50": done.p50,
        "p99": done.p99,
        "peak": float(done.peak),
    }


Case = Callable[[int], Figures]
"""Measures one round, whose number it gets; 0 warms up."""

BEST = "best"
"""Every peer: the bar is reached only beside the one that does best."""

ITSELF = "itself"
"""No peer: the figure is a ratio already, or is compared with another case of Drift's."""


class Scale(Struct, frozen=True):
    """How much is done; ``fraction`` of the pushes, and ``seconds`` for what is measured by time."""

    rounds: int = 5
    seconds: float = 2.0
    fraction: float = 1.0
    tags: int = 100_000
    repositories: int = 20_000
    referrers: int = 10_000
    upload_mib: int = 2048

    def count(self, pushes: int) -> int:
        """Returns how many of so many pushes are done at this scale."""
        return max(int(pushes * self.fraction), 4)


FULL = Scale()
QUICK = Scale(1, 0.2, 0.02, 300, 200, 200, 64)


class Bar(Struct, frozen=True):
    """A limit for the ratio of a measure of Drift to that of a peer, or to that of Drift's own case ``beside``."""

    measure: str
    limit: float
    against: str = BEST
    at_least: bool = False
    beside: str = ""

    def met(self, found: float) -> bool:
        """Tells whether a ratio is within the limit."""
        return found >= self.limit if self.at_least else found <= self.limit


class Lacking(Exception):
    """A server does not offer what a workload measures."""


class Stage:
    """Where a workload meets one server, whose processes end with ``stack``."""

    def __init__(
        self, name: str, program: Path, folder: Path, stack: ExitStack, commands: Mapping[str, Command] = SERVERS
    ) -> None:
        self.name = name
        self.folder = folder
        self.command = commands[name]
        self._program = program
        self._stack = stack

    def start(self, part: str = "server") -> Running:
        """Starts the server until the workload ends; each ``part`` has a folder of its own."""
        return self._stack.enter_context(running(self.name, self.folder / part, self.command))

    def send(self, server: Running, plan: Plan) -> Measured:
        """Sends a plan; raises RuntimeError for a wrong answer."""
        return send(self._program, server, plan)

    def case(self, server: Running, plan: Callable[[int], Plan]) -> Case:
        """Returns the case that sends the plan of each round."""
        return lambda number: figures(self.send(server, plan(number)))

    def requests(self, server: Running, plan: Plan, requests: list[Request]) -> Case:
        """Returns the case that sends the same requests in each round."""
        plan.requests = requests
        return self.case(server, lambda _: plan)


class Workload(Struct, frozen=True):
    """``prepare`` returns cases by name, which take turns within a round; ``bars`` are by name of the case.

    ``headline`` is the measure of the plot of its ``family``; ``most`` limits the rounds of a long workload.
    """

    name: str
    family: str
    prepare: Callable[[Stage], dict[str, Case]]
    bars: Mapping[str, tuple[Bar, ...]] = {}
    headline: str = "throughput"
    most: int = 100
    warm: bool = True
