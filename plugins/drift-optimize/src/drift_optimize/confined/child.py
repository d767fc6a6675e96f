"""The work of one process: reads a layer from its standard input, and writes one form of it.

It is started anew for each layer, so that what a hostile layer does to it ends with it. Files are given by the parent
as descriptors and have no names: whatever ends this process leaves nothing behind.
"""

import errno
import json
import os
import resource
import sys
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

from drift_optimize.confined.bounds import confine
from drift_optimize.forms.counting import Counting
from drift_optimize.forms.media import Packing, packing_of
from drift_optimize.forms.output import Output
from drift_optimize.forms.plain import Packer, Stored, Stream, gzip_packer, zstd_packer
from drift_optimize.forms.reading import Genuine, Guard, Pipe, unpacked
from drift_optimize.forms.refusal import Refused
from drift_optimize.forms.sampling import Sampler

Job = dict[str, Any]
Result = dict[str, Any]


def main() -> None:
    """Runs the job of the second argument, and prints its result as one JSON object."""
    job: Job = json.loads(sys.argv[2])
    result = attempt(job)
    os.write(1, json.dumps(result).encode())


def attempt(job: Job) -> Result:
    """Returns the result, or ``kind`` and ``reason`` of a refusal."""
    try:
        confine(job["parent"], job["memory_bytes"], job["output_bytes"])
        return squashed(job) if "squash" in job else run(job)
    except Refused as refused:
        return {"kind": refused.kind, "reason": refused.reason}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent says it of this layer and goes on
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            return {"kind": "large", "reason": f"the form would be larger than {job['output_bytes']} bytes"}
        # Libraries have errors of their own for it.
        if isinstance(error, MemoryError) or "memory" in str(error):
            return {"kind": "large", "reason": f"more than {job['memory_bytes']} bytes of memory would be needed"}
        return {"kind": "failed", "reason": f"{type(error).__name__}: {error}"}


def run(job: Job) -> Result:
    """Reads the layer to its end. Raises `Refused`, OSError, MemoryError."""
    packing = packing_of(job["media_type"])
    if packing is None:
        raise Refused("unsupported", f"{job['media_type']!r} is no layer that can be packed anew")
    source = Genuine(Pipe(0), job["digest"], job["size"])
    guard = Guard(source, job["ratio"], job["tar_bytes"])
    work = inspected if job["form"] is None else packed
    result = work(job, source, packing, guard)
    return result | {"cpu_seconds": _cpu_seconds(), "peak_bytes": _peak_bytes()}


def squashed(job: Job) -> Result:
    """Makes one layer of several. Raises `Refused`, OSError, MemoryError."""
    from drift_optimize.squash import DamagedLayer, Unsquashable, squash  # noqa: PLC0415 - other jobs do without

    with ExitStack() as stack:
        tars = [stack.enter_context(os.fdopen(number, "rb")) for number in job["squash"]]
        out = stack.enter_context(os.fdopen(job["out"], "wb"))
        try:
            made = squash(tars, out)
        except Unsquashable as error:
            raise Refused("damaged" if isinstance(error, DamagedLayer) else "unsupported", str(error)) from error
    return {"diff_id": made.diff_id, "size": made.size, "empty": made.empty}


class _Tally:
    """What is said of a tar in every result."""

    def __init__(self, job: Job, packing: Packing) -> None:
        # The digest of a layer that is not packed is that of its tar, and was checked.
        self._known = job["digest"] if packing == "tar" and job["digest"].startswith("sha256:") else None
        self._hash = sha256()
        self._size = 0
        self._sampler = Sampler()

    def add(self, block: bytes) -> None:
        if self._known is None:
            self._hash.update(block)
        self._size += len(block)
        self._sampler.add(block)

    def result(self) -> Result:
        diff_id = self._known or f"sha256:{self._hash.hexdigest()}"
        return {"diff_id": diff_id, "tar_bytes": self._size, "entropy": self._sampler.entropy}


def inspected(job: Job, source: Genuine, packing: Packing, guard: Guard) -> Result:
    """Reads only."""
    tally, counting = _Tally(job, packing), Counting()
    for block in unpacked(source, packing, guard):
        tally.add(block)
        counting.add(block)
    return tally.result() | {"entries": counting.entries}


def packed(job: Job, source: Genuine, packing: Packing, guard: Guard) -> Result:
    """Writes the form."""
    output = Output(job["files"][0])
    form, counting = _form(job, output)
    tally = _Tally(job, packing)
    for block in unpacked(source, packing, guard):
        tally.add(block)
        if form is not counting:
            counting.add(block)
        form.add(block)
    annotations = form.finish()
    output.flush()
    made = {"annotations": annotations, "digest": output.digest, "size": output.size}
    if (table := getattr(form, "table", None)) is not None:
        made["table"] = {"digest": table.digest, "size": table.size}
    return tally.result() | {"entries": counting.entries} | made


def _form(job: Job, output: Output) -> tuple[Any, Any]:
    """Returns what writes the form, and what counts entries, which may be the same."""
    name, level, threads = job["form"]["name"], job["form"]["level"], job["form"]["threads"]
    _, table, spare = job["files"]
    if name == "zstd-chunked":
        from drift_optimize.forms.chunked import Chunked  # noqa: PLC0415

        chunked = Chunked(output, level, table, spare)
        return chunked, chunked
    if name == "estargz":
        from drift_optimize.forms.estargz import EStargz  # noqa: PLC0415

        estargz = EStargz(output, level, table, spare)
        return estargz, estargz
    packer: Packer = Stored()
    if name == "gzip":
        packer = gzip_packer(level)
    elif name == "zstd":
        packer = zstd_packer(level, threads)
    return Stream(output, packer), Counting()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> int:
    # ru_maxrss would be that of the parent, which the process was for a moment.
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - pathlib costs a third of the start
        return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")), 0)
