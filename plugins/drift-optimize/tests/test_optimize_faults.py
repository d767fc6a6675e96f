"""Layers that harm, and processes that die: the original stays as it was, and the job says why there is no form."""

import gzip
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
import zstandard

from tests.faults.inspection import PATIENCE, blob_files, eventually, fsck, resident, tracebacks_in_log
from tests.server import DRIFT
from tests.tools import ROOT

from .beside import drift_optimize, ran
from .corpus import Tar
from .pushing import OCI, OCI_GZIP, OCI_ZSTD, Blob, digest_of, put_image, put_manifest, text
from .registry import Optimized

MIB = 1 << 20
ZEROS = 10 << 30
"""Bytes that the bomb unpacks to."""

MARGIN = 16 * MIB
"""Bytes by which a process may be larger than `optimization.max_memory_mb`, as /proc counts them."""

SLOW = ("optimization.zstd_level=19",)


def gzip_bomb() -> Blob:
    """One member of zeros as often as it takes: a layer of some MiB."""
    member = gzip.compress(bytes(16 * MIB), 9, mtime=0)
    return Blob(OCI_GZIP, member * (ZEROS // (16 * MIB)), digest_of(b"nobody computes it"))


def content() -> bytes:
    return Tar().file("opt/file", text(7, 300_000)).end()


def cut_gzip() -> Blob:
    return Blob(OCI_GZIP, gzip.compress(content(), mtime=0)[:-5000], digest_of(content()))


def flipped_gzip() -> Blob:
    packed = bytearray(gzip.compress(content(), mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    return Blob(OCI_GZIP, bytes(packed), digest_of(content()))


def flipped_zstd() -> Blob:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(content()))
    packed[-1] ^= 0xFF
    return Blob(OCI_ZSTD, bytes(packed), digest_of(content()))


def wide_zstd() -> Blob:
    """A frame that asks for a window of 2 GiB before its first byte."""
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    return Blob(OCI_ZSTD, frame, digest_of(b""))


def noise() -> Blob:
    random = os.urandom(300_000)
    return Blob(OCI, random, digest_of(random))


def no_tar() -> Blob:
    packed = gzip.compress(text(8, 300_000), mtime=0)
    return Blob(OCI_GZIP, packed, digest_of(text(8, 300_000)))


def encrypted() -> Blob:
    return Blob(f"{OCI_GZIP}+encrypted", os.urandom(300_000), digest_of(content()))


def elsewhere() -> Blob:
    """A layer that is not to be distributed: of Windows, in former times."""
    return Blob("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", gzip.compress(b"x"), digest_of(b"x"))


FAULTS: dict[str, tuple[Callable[[], Blob], str, str]] = {
    "gzip bomb": (gzip_bomb, "failed", "the layer unpacks to more than 200 times its size"),
    "truncated gzip": (cut_gzip, "failed", "the layer's gzip ends too early"),
    "corrupt gzip": (flipped_gzip, "failed", "gzip"),
    "corrupt zstd": (flipped_zstd, "failed", "zstd"),
    "a window of 2 GiB": (wide_zstd, "skipped", "needs a window of 2147483648 bytes"),
    "noise": (noise, "skipped", "gains nothing by it, or does not know its kind"),
    "encrypted": (encrypted, "skipped", "is no layer that can be packed anew"),
    "not distributable": (elsewhere, "skipped", "is no layer that can be packed anew"),
}


class Watch:
    """The most memory that each process which makes forms ever held, by its id."""

    def __init__(self, registry: Optimized) -> None:
        self._registry = registry
        self.peaks: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for pid in children(self._registry):
                with suppress(OSError, StopIteration):
                    self.peaks[pid] = max(self.peaks.get(pid, 0), resident(pid, peak=True))


def children(registry: Optimized) -> list[int]:
    """Returns the processes that make forms for a server."""
    found = []
    for worker in registry.server.workers():
        with suppress(OSError):
            tasks = list(Path(f"/proc/{worker}/task").iterdir())
            pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
            found += [pid for pid in pids if b"drift_optimize.confined" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def held_scratch(registry: Optimized) -> list[str]:
    """Returns what a server still has open in its scratch folder, where files have no names."""
    folder = str(registry.folder / "scratch")
    links = [link for worker in registry.server.workers() for link in Path(f"/proc/{worker}/fd").iterdir()]
    found = []
    for link in links:
        with suppress(OSError):
            target = str(link.readlink())
            found += [target] if target.startswith(folder) else []
    return found


@contextmanager
def opened(folder: Path, *settings: str) -> Iterator[Optimized]:
    """A server with a scratch folder, in which nothing is left at the end."""
    (folder / "scratch").mkdir(parents=True)
    scratch = f"optimization.scratch_path={folder / 'scratch'}"
    with Optimized(folder, scratch, 'optimization.publish=["referrer", "tag"]', *settings) as registry:
        yield registry
        eventually(lambda: not registry.jobs(state="optimizing"), "no job that is worked on")
        eventually(lambda: not children(registry), "no process that makes forms")
        assert held_scratch(registry) == []
    assert list((folder / "scratch").iterdir()) == []


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    """A server that works on what is pushed to ``auto/*`` at once."""
    settings = (
        "server.workers=1",
        'optimization.forms=["zstd", "zstd-chunked"]',
        'optimization.repositories=["auto/*"]',
    )
    with opened(tmp_path_factory.mktemp("faults"), *settings) as registry:
        yield registry


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Optimized]:
    """A server that takes so long for a form that something can happen to it meanwhile."""
    settings = ('optimization.forms=["zstd"]', *SLOW, "garbage_collector.enabled=true")
    gone = ("garbage_collector.grace_period_hours=0", "garbage_collector.max_share=1.0", "registry.min_age_days=0")
    with opened(tmp_path_factory.mktemp("slow"), *settings, *gone, "registry.lease_seconds=1") as registry:
        yield registry


def large(seed: int, size: int = 4 * MIB) -> Blob:
    """A layer at which a compressor of level 19 works for long."""
    tar = Tar().file(f"opt/{seed}", text(seed, size)).end()
    return Blob(OCI, tar, digest_of(tar))


@pytest.mark.parametrize("name", FAULTS)
def test_a_harmful_layer(registry: Optimized, name: str) -> None:
    """The image is served as it was pushed, the job says why, and no process has held more than it may."""
    make, state, reason = FAULTS[name]
    harmful, repository = make(), f"auto/{name.replace(' ', '-').lower()}"
    workers = {worker: resident(worker, peak=True) for worker in registry.server.workers()}
    with Watch(registry) as watch:
        digest = put_image(registry, repository, "v1", [harmful])
        job = registry.ended(repository, digest)
    assert job["state"] == state, job
    assert reason in job["message"]
    assert (registry.tags(repository), registry.referrers(repository, digest)) == (["v1"], [])
    assert registry.digest(repository, "v1") == digest
    assert digest_of(registry.blob(repository, digest_of(harmful.content))) == digest_of(harmful.content)
    assert max(watch.peaks.values(), default=0) <= 256 * MIB + MARGIN
    for worker, before in workers.items():
        assert resident(worker, peak=True) - before < 64 * MIB
    assert tracebacks_in_log(registry.server) == []


def test_the_command_shows_the_reasons(registry: Optimized) -> None:
    put_image(registry, "auto/shown", "v1", [cut_gzip()])
    registry.ended("auto/shown", registry.digest("auto/shown", "v1"))
    said = drift_optimize(registry, "status").output
    assert "auto/shown:v1" in said
    assert "the layer's gzip ends too early" in said


def test_a_layer_of_another_size(registry: Optimized) -> None:
    """Its descriptor is what clients believe: they could not pull it, and no form is made that they could."""
    tar = content()
    wrong = Blob(OCI, tar, digest_of(tar), len(tar) + 512)
    put_image(registry, "hand/size", "right", [Blob(OCI, tar, digest_of(tar))])
    fields = registry.manifest("hand/size", "right")
    fields["layers"] = [wrong.descriptor]
    answer = put_manifest(registry, "hand/size", "v1", fields, fields["mediaType"])
    if answer.status_code != 201:
        assert answer.json()["errors"][0]["code"] in ("MANIFEST_INVALID", "SIZE_INVALID", "MANIFEST_BLOB_UNKNOWN")
        return
    job = ran(registry, "hand/size:v1", code=1)
    assert (job["state"], "its descriptor says" in job["message"]) == ("failed", True)


def test_no_tar_within_a_layer(registry: Optimized) -> None:
    """A form that lists the files of a tar is not made of what is none."""
    digest = put_image(registry, "auto/no-tar", "v1", [no_tar()])
    job = registry.ended("auto/no-tar", digest)
    assert "v1-zstd-chunked" not in registry.tags("auto/no-tar")
    assert job["message"] or job["state"] == "skipped", job


def test_one_bad_layer_spoils_no_other(registry: Optimized) -> None:
    sound = Blob(OCI, content(), digest_of(content()))
    digest = put_image(registry, "auto/mixed", "v1", [cut_gzip(), sound])
    job = registry.ended("auto/mixed", digest)
    assert (job["state"], "ends too early" in job["message"]) == ("optimized", True)
    original, made = registry.manifest("auto/mixed", digest), registry.manifest("auto/mixed", "v1-zstd")
    assert made["layers"][0] == original["layers"][0]
    assert made["layers"][1]["mediaType"] == OCI_ZSTD


def test_the_limit_of_time(registry: Optimized) -> None:
    """A form that takes longer is not made, and whatever made it is gone."""
    digest = put_image(registry, "hand/slow", "v1", [large(1, 24 * MIB)])
    settings = ('optimization.forms=["zstd"]', *SLOW, "optimization.max_optimization_time_seconds=1")
    job = ran(registry, "hand/slow:v1", *settings, code=1)
    assert (job["state"], job["message"]) == ("failed", "it took longer than 1 s")
    assert registry.referrers("hand/slow", digest) == []
    assert own_children() == []


def own_children() -> list[str]:
    pids = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
    return [line for line in lines if "drift_optimize.confined" in line]


def test_no_room_for_the_form(registry: Optimized) -> None:
    digest = put_image(registry, "hand/room", "v1", [large(2, 6 * MIB)])
    settings = ('optimization.forms=["zstd"]', "optimization.max_scratch_mb=1", "optimization.zstd_level=1")
    job = ran(registry, "hand/room:v1", *settings, code=1)
    assert (job["state"], f"{MIB} bytes" in job["message"]) == ("failed", True), job
    assert registry.referrers("hand/room", digest) == []


def test_no_memory_for_the_form(registry: Optimized) -> None:
    digest = put_image(registry, "hand/memory", "v1", [large(3, 12 * MIB)])
    settings = ('optimization.forms=["zstd"]', *SLOW, "optimization.max_memory_mb=64")
    job = ran(registry, "hand/memory:v1", *settings, code=1)
    assert job["state"] == "failed"
    assert f"more than {64 * MIB} bytes of memory would be needed" in job["message"]
    assert registry.referrers("hand/memory", digest) == []


def worked_on(registry: Optimized, repository: str, digest: str) -> int:
    """Returns the process that makes a form of the image once there is one."""
    found: list[int] = []

    def begun() -> bool:
        states = {(job["repository"], job["digest"]): job["state"] for job in registry.jobs(state="optimizing")}
        found[:] = children(registry)
        return (repository, digest) in states and bool(found)

    eventually(begun, f"{repository} worked on by a process")
    return found[0]


def job_of(registry: Optimized, repository: str, digest: str) -> dict[str, Any]:
    (job,) = [job for job in registry.jobs() if (job["repository"], job["digest"]) == (repository, digest)]
    return job


def test_a_process_that_is_killed(slow: Optimized) -> None:
    """The job is put off, and done when it is its turn again, or somebody asks."""
    digest = put_image(slow, "killed/child", "v1", [large(4)])
    os.kill(worked_on(slow, "killed/child", digest), signal.SIGKILL)
    eventually(lambda: job_of(slow, "killed/child", digest)["state"] == "pending", "a job that is put off")
    job = job_of(slow, "killed/child", digest)
    assert (job["attempts"], "said nothing" in job["message"]) == (1, True)
    assert job["due_at"] > time.time() + 20
    asked = slow.client.post("/admin/optimize", json={"repository": "killed/child", "reference": "v1"})
    assert (asked.status_code, asked.json()) == (202, {"jobs": [job["id"]]})
    job = slow.ended("killed/child", digest)
    assert (job["state"], job["attempts"]) == ("optimized", 2)
    assert "v1-zstd" in slow.tags("killed/child")


def test_a_job_that_is_cancelled(slow: Optimized) -> None:
    digest = put_image(slow, "cancelled/app", "v1", [large(5)])
    worked_on(slow, "cancelled/app", digest)
    job = job_of(slow, "cancelled/app", digest)
    assert slow.client.delete(f"/admin/optimize/jobs/{job['id']}").status_code == 204
    eventually(lambda: not children(slow), "the end of the process")
    assert slow.client.get(f"/admin/optimize/jobs/{job['id']}").json()["state"] == "cancelled"
    assert slow.client.delete(f"/admin/optimize/jobs/{job['id']}").status_code == 404
    assert (slow.tags("cancelled/app"), slow.referrers("cancelled/app", digest)) == (["v1"], [])


def test_the_whole_server_is_killed(slow: Optimized) -> None:
    """The next one goes on; what was half done leaves no trace, and collection leaves exactly what is reachable."""
    layers = [large(6, MIB), large(7)]
    digest = put_image(slow, "killed/server", "v1", layers)
    process = worked_on(slow, "killed/server", digest)
    slow.server.kill()
    eventually(lambda: not Path(f"/proc/{process}").exists(), "the end of the process that makes a form")
    assert list((slow.folder / "scratch").iterdir()) == []
    slow.server.start(60)
    job = slow.ended("killed/server", digest)
    assert (job["state"], job["attempts"]) == ("optimized", 2)
    assert slow.tags("killed/server") == ["v1", "v1-zstd"]
    assert slow.digest("killed/server", "v1") == digest
    assert fsck(slow.server).clean
    slow.client.delete("/v2/killed/server/manifests/v1-zstd").raise_for_status()
    collect(slow)
    on_disk = {f"sha256:{path.name}" for path in blob_files(slow.folder / "server/data")}
    assert on_disk == reachable(slow)
    assert fsck(slow.server).clean


def collect(registry: Optimized) -> None:
    """Removes everything that nothing reaches, as if all times of grace were over."""
    time.sleep(1.1)
    for words in (("run", "--json"), ("run", "--json"), ("purge", "--all")):
        command = [str(DRIFT), "gc", *words, *registry.server.arguments()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with sqlite3.connect(registry.folder / "server/data/drift.db", timeout=PATIENCE) as database:
            database.execute("UPDATE unreached SET since = since - 1e6")
        database.close()


def reachable(registry: Optimized) -> set[str]:
    """Returns every blob that a tag or a referrer needs."""
    found: set[str] = set()
    for repository in registry.client.get("/v2/_catalog").json()["repositories"]:
        digests = [registry.digest(repository, tag) for tag in registry.tags(repository) or ()]
        digests += [one["digest"] for digest in digests for one in registry.referrers(repository, digest)]
        for digest in digests:
            manifest = registry.manifest(repository, digest)
            found |= {part["digest"] for part in (manifest["config"], *manifest["layers"])}
    return found
