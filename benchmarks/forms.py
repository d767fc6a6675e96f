"""What each form of a layer costs, and how large it is, beside the commands that users would run.

``python -m benchmarks.forms [TAR]`` prints one row for each form: its size to that of the command, and the CPU of all
processes to that of the command alone, and to that of the command and of ``openssl sha256`` over what a registry has to
know the digest of (the layer, its tar and the form), in turns, median of the rounds. Without a file, the tar is of what
a Debian with Python and Perl has below ``/usr``. Layers come as a tar or, as most do, in gzip.
"""

import argparse
import asyncio
import hashlib
import json
import resource
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain
from pathlib import Path
from statistics import median

from drift_optimize.confined import jobs
from drift_optimize.confined.jobs import Form, FormName, Limits, pack
from drift_optimize.forms.media import Packing
from msgspec import Struct

from benchmarks.several_nodes import show
from drift_core.api import Descriptor

OCI = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPES: dict[Packing, str] = {"tar": OCI, "gzip": f"{OCI}+gzip"}
LIMITS = Limits(seconds=3600)
HEAD = ["Form", "of", "Beside", "Size", "CPU", "CPU, with digests", "Peak, MiB"]

SLOW = 19
"""A level that is measured once: it takes minutes, in which noise matters less."""

Command = Sequence[str]


class Layer(Struct):
    """A layer that is packed anew, and the folder for what is made of it."""

    path: Path
    packing: Packing
    tar: Path
    folder: Path

    @property
    def made(self) -> Path:
        """Where commands write what they make."""
        return self.folder / "made"


class Row(Struct):
    """A form of a layer and what it is measured beside, which returns its size; ``digests`` says that it makes them."""

    form: Form
    layer: Layer
    name: str
    beside: Callable[[], int]
    digests: bool = False


def at_equal_rank() -> None:
    """Has our process not give way to all others: one that is interrupted more needs more CPU for the same work."""
    start = vars(jobs)["_START"]
    vars(jobs)["_START"] = f"import os; os.nice = os.sched_setscheduler = lambda *_: None; {start}"


def make(path: Path) -> None:
    """Writes the tar; a whole one, since a form with a table takes no other."""
    folders = ("usr/share/perl", "usr/lib/python3", "usr/lib/git-core")
    subprocess.run(["tar", "--sort=name", "-C", "/", "-cf", str(path), *folders], check=True)


def cpu(work: Callable[[], int]) -> tuple[int, float]:
    """Returns what the work returns, and what its processes take, in seconds of CPU."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(form: Form, layer: Layer, peak: list[int]) -> int:
    """Packs, and returns the size."""

    async def content() -> AsyncIterator[bytes]:
        with layer.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                yield chunk

    async def run() -> int:
        async with pack(described, content(), form, LIMITS, layer.folder) as packed:
            peak.append(packed.about.peak_bytes)
            return packed.layer.size

    digest = hashlib.sha256(layer.path.read_bytes()).hexdigest()
    described = Descriptor(MEDIA_TYPES[layer.packing], f"sha256:{digest}", layer.path.stat().st_size)
    return asyncio.run(run())


def piped(commands: Sequence[Command], made: Path) -> int:
    """Runs commands, each on what the one before gives, and returns the size of what the last one makes."""
    processes: list[subprocess.Popen[bytes]] = []
    with made.open("wb") as out:
        for command in commands:
            before = processes[-1].stdout if processes else subprocess.DEVNULL
            after = out if command is commands[-1] else subprocess.PIPE
            processes.append(subprocess.Popen(command, stdin=before, stdout=after))
            if processes[:-1] and (pipe := processes[-2].stdout) is not None:
                pipe.close()
    if sum(process.wait() for process in processes):
        raise RuntimeError(f"{commands} failed")
    return made.stat().st_size


def digested(layer: Layer) -> int:
    """Computes the digests of what a command has made, and of what it was made of."""
    paths = {layer.path, layer.tar, layer.made}
    return piped([["openssl", "sha256", *map(str, paths)]], layer.folder / "digests")


def by_command(layer: Layer, *command: str) -> Callable[[], int]:
    """Returns how a command packs the layer, after another one has unpacked it."""
    if layer.packing == "tar":
        return lambda: piped([[*command, str(layer.path)]], layer.made)
    return lambda: piped([["gzip", "-dc", str(layer.path)], command], layer.made)


def image_of(layer: Layer) -> Path:
    """Writes an image of one layer as an OCI layout, and returns its folder."""
    source = layer.folder / f"image-{layer.packing}"
    blobs = source / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(media_type: str, content: bytes) -> dict[str, str | int]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    described = put(MEDIA_TYPES[layer.packing], layer.path.read_bytes())
    diff_ids = [f"sha256:{hashlib.sha256(layer.tar.read_bytes()).hexdigest()}"]
    about = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config = put("application/vnd.oci.image.config.v1+json", json.dumps(about).encode())
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [described]}
    index = {"schemaVersion": 2, "manifests": [put(kind, json.dumps(manifest).encode())]}
    (source / "index.json").write_text(json.dumps(index))
    (source / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return source


def by_skopeo(layer: Layer, packing: str) -> Callable[[], int]:
    """Returns how skopeo packs the layer of an image, which it does with all digests, and by more than one thread."""
    source = image_of(layer)
    options = ("-q", "--insecure-policy", "--dest-compress", "--dest-compress-format", packing)

    def copy() -> int:
        with tempfile.TemporaryDirectory(dir=layer.folder) as to:
            command = ["skopeo", "copy", *options, f"oci:{source}", f"oci:{to}:tag"]
            subprocess.run(command, check=True)
            return max(path.stat().st_size for path in (Path(to) / "blobs" / "sha256").iterdir())

    return copy


def plan(layers: Sequence[Layer]) -> list[Row]:
    """Returns each form of each layer, with what it is measured beside."""
    rows: list[Row] = []
    levels: dict[FormName, tuple[int, ...]] = {"gzip": (1, 6, 9), "zstd": (1, 3, 9, 19)}
    for layer in layers:
        for name, every in levels.items():
            for level in every:
                command = (name, f"-{level}", "-c") if name == "gzip" else (name, f"-{level}", "-q", "-T1", "-c")
                rows.append(Row(Form(name, level), layer, f"{name} -{level}", by_command(layer, *command)))
        gzip, chunked = by_command(layer, "gzip", "-6", "-c"), by_skopeo(layer, "zstd:chunked")
        rows += [
            Row(Form("estargz", 6), layer, "gzip -6", gzip),
            Row(Form("zstd", 3), layer, "skopeo, zstd", by_skopeo(layer, "zstd"), digests=True),
            *(
                Row(Form("zstd-chunked", level), layer, "skopeo, zstd:chunked", chunked, digests=True)
                for level in (3, 5, 9)
            ),
        ]
    return rows


def measured(row: Row, rounds: int) -> list[str]:
    """Returns the cells of a table."""
    sizes, bare, whole, peak = (list[float](), list[float](), list[float](), list[int]())
    for _ in range(1 if row.form.level == SLOW else rounds):
        size, seconds = cpu(lambda: ours(row.form, row.layer, peak))
        size_beside, seconds_beside = cpu(row.beside)
        _, digests = (0, 0.0) if row.digests else cpu(lambda: digested(row.layer))
        sizes.append(size / size_beside)
        bare.append(seconds / seconds_beside)
        whole.append(seconds / (seconds_beside + digests))
    ratios = [f"{median(sizes):.3f}", "" if row.digests else f"{median(bare):.2f}", f"{median(whole):.2f}"]
    form = row.form.name if row.form.name == "tar" else f"{row.form.name} {row.form.level}"
    return [form, row.layer.packing, row.name, *ratios, f"{max(peak) / (1 << 20):.0f}"]


def main() -> None:
    """Measures, and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__)
    parser.add_argument("tar", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="forms that begin so")
    chosen = parser.parse_args()
    at_equal_rank()
    with tempfile.TemporaryDirectory(prefix="drift-benchmarks-") as name:
        folder = Path(name)
        tar = chosen.tar or folder / "layer.tar"
        if chosen.tar is None:
            make(tar)
        piped([["gzip", "-6", "-c", str(tar)]], folder / "layer.tar.gz")
        layers = [Layer(tar, "tar", tar, folder), Layer(folder / "layer.tar.gz", "gzip", tar, folder)]
        print(f"a tar of {tar.stat().st_size:,} bytes\n")
        wanted = [row for row in plan(layers) if f"{row.form.name} {row.form.level}".startswith(chosen.only)]
        show(chain([HEAD], (measured(row, chosen.rounds) for row in wanted)))


if __name__ == "__main__":
    main()
