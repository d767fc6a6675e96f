"""Runs the program in `load/` against a server, and adds what the server itself has used meanwhile."""

import subprocess
from pathlib import Path

from msgspec import Struct, json

from benchmarks.process_tree import Peak, cpu_seconds
from benchmarks.servers import Running

SOURCE = Path(__file__).parent / "load"


class Request(Struct):
    """One request and its answer; ``length`` in bytes, -1 for any; ``digest`` is compared now and then.

    ``body`` is sent with the media type ``type``; in it and in the path ``%d`` is then the number of the iteration.
    """

    path: str
    method: str = "GET"
    status: int = 200
    length: int = -1
    digest: str = ""
    type: str = ""
    body: str = ""


class Push(Struct):
    """Images of one layer; ``size`` and ``chunk`` in bytes, chunk 0 is one PUT; ``%d`` is the image's number."""

    repository: str
    tag: str
    size: int
    chunk: int = 0
    same: bool = False


class Plan(Struct):
    """What is sent: ``requests`` one after the other or as a sequence, or a ``push``; until the end of either limit.

    With both, one iteration in ``share`` pushes. ``idle`` further connections stay open and are asked before and after.
    """

    connections: int
    idle: int = 0
    seconds: float = 0
    iterations: int = 0
    requests: list[Request] = []
    sequence: bool = False
    push: Push | None = None
    share: int = 0
    address: str = ""
    authorization: str = ""


class Measured(Struct):
    """What came of a plan; times in seconds, ``cpu`` and ``peak`` (bytes) of the whole process tree of the server."""

    iterations: int
    bytes: int
    seconds: float
    p50: float
    p99: float
    errors: list[str]
    cpu: float = 0.0
    peak: int = 0

    @property
    def cpu_each(self) -> float:
        """CPU seconds of the server for each iteration."""
        return self.cpu / self.iterations

    @property
    def rate(self) -> float:
        """Iterations in each second."""
        return self.iterations / self.seconds


def build(folder: Path) -> Path:
    """Compiles the program; needs go."""
    program = folder / "load"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=SOURCE, check=True)
    return program


def send(program: Path, server: Running, plan: Plan) -> Measured:
    """Sends a plan. Raises RuntimeError where an answer was not what it has to be: such a run measures nothing."""
    plan.address = server.address
    before = cpu_seconds(server.process)
    with Peak(server.process) as peak:
        done = subprocess.run([str(program)], input=json.encode(plan), capture_output=True, check=True)
    measured = json.decode(done.stdout, type=Measured)
    measured.cpu, measured.peak = cpu_seconds(server.process) - before, peak.bytes
    if measured.errors:
        raise RuntimeError(f"{server.name}: {len(measured.errors)} of {measured.iterations}: {measured.errors[0]}")
    return measured
