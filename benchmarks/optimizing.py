"""What clients notice of the optimizer: `python -m benchmarks.optimizing`.

Pulls of a manifest and of a blob of 1 MiB while two workers pack large layers anew, in short turns: their processes at
work, stopped, and stopped once more, which says how much of a difference is the machine's. What the server does for
them besides goes on only while they work.
"""

import argparse
import hashlib
import io
import os
import signal
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import median

from msgspec import json
from zlib_ng import zlib_ng

from benchmarks.forms import make
from benchmarks.images import CONFIG_TYPE, LAYER_TYPE, MANIFEST, PATIENCE, call, layer, push_blob, push_image
from benchmarks.load import Plan, Request, build, send
from benchmarks.servers import Running, drift, running
from benchmarks.several_nodes import show

SETTINGS = (
    "optimization.enabled=true",
    'optimization.optimization_schedule="immediate"',
    "optimization.optimization_workers=2",
    'optimization.preferred_compression="zstd"',
    "optimization.min_layer_size_mb=0",
    'optimization.repositories=["bench/busy"]',
)
WORKERS = 2
PROGRAM = b"drift_optimize.confined.child"
STOPPED, AGAIN, WORKING = TURNS = "stopped", "stopped, again", "at work"

Times = dict[str, tuple[float, float]]
"""p50 and p99 of each kind of request, in seconds."""


class Work:
    """Images of one large layer each that no server has seen."""

    def __init__(self, server: Running, tar: bytes) -> None:
        self._server = server
        self._tar = tar
        self._count = 0

    def push(self, images: int) -> None:
        """Pushes so many, which makes them jobs; each is as much work as the tar is."""
        for _ in range(images):
            self._count += 1
            tar = _entry(f"{os.urandom(16).hex()}") + self._tar
            # Wide, so that there is something to gain.
            packer = zlib_ng.compressobj(1, zlib_ng.DEFLATED, 31)
            content = packer.compress(tar) + packer.flush()
            diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}"]
            rootfs = {"type": "layers", "diff_ids": diff_ids}
            config = json.encode({"architecture": "amd64", "os": "linux", "rootfs": rootfs})
            parts = []
            for kind, blob in ((CONFIG_TYPE, config), (f"{LAYER_TYPE}+gzip", content)):
                pushed = push_blob(self._server, "bench/busy", blob)
                parts.append({"mediaType": kind, "digest": pushed.digest, "size": len(blob)})
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
            path = f"/v2/bench/busy/manifests/{self._count}"
            call(self._server, "PUT", path, json.encode(manifest), MANIFEST)

    def jobs(self, *states: str) -> dict[int, str]:
        """Returns the jobs that are in one of these states, with what is said of them."""
        url = f"http://{self._server.address}/admin/optimize/status?limit=500"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            found = json.decode(answer.read())["jobs"]
        return {job["id"]: job["message"] for job in found if job["state"] in states}

    @contextmanager
    def going(self, images: int) -> Iterator[None]:
        """Has both workers at work in the block; what is left of it then is cancelled.

        Raises RuntimeError where they had nothing left to do at its end, or did not do it.
        """
        self.push(images)
        while len(self.jobs("optimizing")) < WORKERS:
            time.sleep(0.1)
        yield
        if len(self.jobs("optimizing")) < WORKERS:
            raise RuntimeError("the work ended before the load: more images, or a shorter load")
        if failed := self.jobs("failed", "skipped"):
            raise RuntimeError(f"some of the work failed: {failed}")
        while left := self.jobs("pending", "optimizing"):
            for job in left:
                with suppress(urllib.error.HTTPError):
                    call(self._server, "DELETE", f"/admin/optimize/jobs/{job}")
            time.sleep(2)


def _entry(name: str) -> bytes:
    """Returns an entry of a tar, without the end of one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return file.getvalue()[:512]


def packing() -> list[int]:
    """Returns the processes that pack layers."""
    found = []
    for place in Path("/proc").iterdir():
        with suppress(OSError):
            if place.name.isdigit() and PROGRAM in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


@contextmanager
def stopped() -> Iterator[None]:
    """Lets nobody pack a layer in the block."""
    every = packing()
    _signal(every, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(every, signal.SIGCONT)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def pulled(program: Path, server: Running, plans: dict[str, Request], seconds: float, connections: int) -> Times:
    """Sends each kind of request for so long."""
    taken: Times = {}
    for name, request in plans.items():
        done = send(program, server, Plan(connections, seconds=seconds, requests=[request]))
        taken[name] = done.p50, done.p99
    return taken


def rows(found: dict[str, list[Times]]) -> Iterator[list[str]]:
    """Yields the table: the medians of all turns, to those of turns in which nobody packed."""
    yield ["The processes", "of", "p50", "p99"]
    for name in (AGAIN, WORKING):
        for kind in found[name][0]:
            ratios = [_middle(found[name], kind, place) / _middle(found[STOPPED], kind, place) for place in (0, 1)]
            yield [name, kind, *(f"{ratio:.2f}" for ratio in ratios)]


def _middle(turns: Sequence[Times], kind: str, place: int) -> float:
    return median(turn[kind][place] for turn in turns)


def measured(program: Path, folder: Path, chosen: argparse.Namespace) -> dict[str, list[Times]]:
    """Returns what each turn took, by what the processes did meanwhile."""
    tar = folder / "layer.tar"
    make(tar)
    found: dict[str, list[Times]] = {name: [] for name in TURNS}
    with running("drift", folder / "drift", lambda place, port: drift(place, port, *SETTINGS)) as server:
        image = push_image(server, "bench/pulled", layer(1))
        plans = {"manifest": image.by_tag, "blob of 1 MiB": image.layer}
        work = Work(server, tar.read_bytes())
        for number in range(-1, chosen.rounds):
            with work.going(chosen.images):
                for turn in range(chosen.turns * len(TURNS)):
                    name = TURNS[(turn + number) % len(TURNS)]
                    with nullcontext() if name == WORKING else stopped():
                        taken = pulled(program, server, plans, chosen.seconds, chosen.connections)
                    # The first round warms up.
                    if number >= 0:
                        found[name].append(taken)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--turns", type=int, default=5, help="of each kind in a round")
    parser.add_argument("--seconds", type=float, default=1, help="of each load")
    parser.add_argument("--images", type=int, default=8, help="that are pushed for each round")
    parser.add_argument("--connections", type=int, default=4)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as name:
        folder = Path(name)
        show(rows(measured(build(folder), folder, chosen)))


if __name__ == "__main__":
    main()
