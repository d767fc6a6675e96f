"""What clients notice of the optimizer: `python -m benchmarks.optimizing`.

Pulls of a manifest and of a blob of 1 MiB, in turns beside nothing, beside two workers that pack large layers anew all
the time, and beside as many processes that only give way as theirs do (SCHED_IDLE), whose cost is not the server's.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
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
_BUSY = "import os\nos.nice(19)\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"

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


@contextmanager
def idle() -> Iterator[None]:
    """Does nothing beside the block."""
    yield


@contextmanager
def giving_way() -> Iterator[None]:
    """Runs a process for each worker that takes all CPU that nobody else wants."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(WORKERS)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def pulled(program: Path, server: Running, plans: dict[str, Request], seconds: float, connections: int) -> Times:
    """Sends each kind of request for so long."""
    taken: Times = {}
    for name, request in plans.items():
        done = send(program, server, Plan(connections, seconds=seconds, requests=[request]))
        taken[name] = done.p50, done.p99
    return taken


def rows(found: dict[str, list[Times]]) -> Iterator[list[str]]:
    """Yields the table: the ratios to the idle load of the same round, median, smallest and largest."""
    yield ["Beside", "of", "p50", "p99"]
    for name, rounds in found.items():
        for kind in rounds[0]:
            cells = []
            for place in (0, 1):
                pairs = zip(rounds, found["nothing"], strict=True)
                ratios = sorted(mine[kind][place] / other[kind][place] for mine, other in pairs)
                cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
            if name != "nothing":
                yield [name, kind, *cells]


def measured(program: Path, folder: Path, chosen: argparse.Namespace) -> dict[str, list[Times]]:
    """Returns what each round took, by what was beside it."""
    tar = folder / "layer.tar"
    make(tar)
    found: dict[str, list[Times]] = {}
    with running("drift", folder / "drift", lambda place, port: drift(place, port, *SETTINGS)) as server:
        image = push_image(server, "bench/pulled", layer(1))
        plans = {"manifest": image.by_tag, "blob of 1 MiB": image.layer}
        work = Work(server, tar.read_bytes())
        for number in range(-1, chosen.rounds):
            beside: dict[str, AbstractContextManager[None]] = {
                "nothing": idle(),
                "nothing, again": idle(),
                "two that give way": giving_way(),
                "the optimizer": work.going(chosen.images),
            }
            names = list(beside)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                with beside[name]:
                    taken = pulled(program, server, plans, chosen.seconds, chosen.connections)
                # The first round warms up.
                if number >= 0:
                    found.setdefault(name, []).append(taken)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    parser.add_argument("--images", type=int, default=8, help="that are pushed for each load")
    parser.add_argument("--connections", type=int, default=4)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as name:
        folder = Path(name)
        show(rows(measured(build(folder), folder, chosen)))


if __name__ == "__main__":
    main()
