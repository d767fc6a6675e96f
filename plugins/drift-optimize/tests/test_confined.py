"""Each layer has a process of its own, which harms nobody and leaves nothing behind."""

# ruff: noqa: ASYNC221, ASYNC240 - the loop of a test has nobody else to serve

import asyncio
import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import textwrap
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from drift_optimize.confined import jobs
from drift_optimize.confined.jobs import MIB, Form, Limits, PackingFailed, inspect, pack

from drift_core.api import Descriptor, Unavailable
from tests.tools import tool

OCI = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{OCI}+gzip"
ALL = [Form("gzip"), Form("zstd", 3), Form("zstd", 3, threads=2), Form("zstd-chunked", 3), Form("estargz"), Form("tar")]


def tar(files: int = 20, size: int = 3000) -> bytes:
    file = io.BytesIO()
    chance = random.Random(1)
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(files):
            entry = tarfile.TarInfo(f"folder/{number}")
            entry.size = size
            archive.addfile(entry, io.BytesIO(chance.randbytes(size // 8 + 1).hex().encode()[: size // 4] * 4))
    return file.getvalue()


def described(content: bytes, media_type: str = OCI) -> Descriptor:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Descriptor(media_type, digest, len(content), annotations={"a": "b"})


async def chunks(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def children() -> set[int]:
    """The processes of jobs that this one has started, and not those of servers that other tests need."""
    every = [pid for task in Path("/proc/self/task").iterdir() for pid in read(task / "children").split()]
    return {int(pid) for pid in every if b"drift_optimize.confined" in read(Path("/proc") / pid.decode() / "cmdline")}


def read(path: Path) -> bytes:
    """Returns what the kernel says, nothing of a thread or process that has just ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def child() -> int:
    """Waits for the process of a job that was just started."""
    while not (found := children()):
        await asyncio.sleep(0.01)
    return found.pop()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def endless(started: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """Content that begins and never goes on."""
    yield gzip.compress(bytes(10))
    if started is not None:
        started.set()
    await asyncio.Event().wait()


async def failure(
    content: bytes, form: Form, scratch: Path, limits: Limits | None = None, media_type: str = OCI
) -> PackingFailed:
    with pytest.raises(PackingFailed) as failed:
        async with pack(described(content, media_type), chunks(content), form, limits or Limits(), scratch):
            pass
    assert not list(scratch.iterdir())
    assert not children()
    return failed.value


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name}-{form.threads}")
async def test_pack(form: Form, tmp_path: Path) -> None:
    content = tar()
    layer = described(content)
    async with pack(layer, chunks(content), form, Limits(), tmp_path) as packed:
        blob = packed.file.read()
        assert (packed.layer.digest, packed.layer.size) == (described(blob).digest, len(blob))
        assert packed.about.diff_id == layer.digest
        assert packed.about.tar_bytes == len(content)
        assert packed.about.entries == 20
        assert 0.4 < packed.about.gain < 0.6
        assert packed.layer.annotations == {"a": "b", **packed.annotations}
        assert bool(packed.annotations) == (form.name in {"zstd-chunked", "estargz"})
        if packed.table is not None:
            assert packed.table.layer.digest == described(packed.table.file.read()).digest
            assert packed.table.layer.annotations == {"containerd.io/snapshot/stargz/layer.digest": packed.layer.digest}
        assert (packed.table is not None) == (form.name == "estargz")
        again = await inspect(packed.layer, chunks(blob), Limits())
        assert again.diff_id == layer.digest
        assert not list(tmp_path.iterdir())


async def test_threads_do_not_change_the_bytes(tmp_path: Path) -> None:
    content = tar(10, 2 * MIB)
    digests = set()
    for threads in (1, 2):
        async with pack(described(content), chunks(content), Form("zstd", 1, threads), Limits(), tmp_path) as packed:
            digests.add(packed.layer.digest)
    assert len(digests) == 1


async def test_what_is_declined(tmp_path: Path) -> None:
    for media_type in (f"{OCI}+gzip+encrypted", "application/vnd.oci.image.layer.nondistributable.v1.tar", ""):
        assert (await failure(b"", Form("zstd"), tmp_path, media_type=media_type)).kind == "unsupported"
        with pytest.raises(PackingFailed):
            await inspect(described(b"", media_type), chunks(b""), Limits())
    assert (await failure(b"", Form("gzip", 10), tmp_path)).kind == "unsupported"


async def test_a_table_is_not_left_beside_other_bytes(tmp_path: Path) -> None:
    async with pack(described(tar()), chunks(tar()), Form("estargz"), Limits(), tmp_path) as packed:
        with pytest.raises(PackingFailed, match="where in its bytes"):
            async with pack(packed.layer, chunks(packed.file.read()), Form("zstd"), Limits(), tmp_path):
                pass


async def test_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(tar())
    for content in (b"", whole[:-1], whole + b"\0", b"no gzip"):
        assert (await failure(content, Form("zstd"), tmp_path, media_type=GZIP)).kind == "damaged"


async def test_a_bomb_ends_while_it_is_read(tmp_path: Path) -> None:
    read = 0

    async def bomb() -> AsyncIterator[bytes]:
        # 10 GiB of zeros, in members that are made once.
        nonlocal read
        member = gzip.compress(bytes(16 * MIB), 9)
        for _ in range(640):
            read += len(member)
            yield member

    layer = Descriptor(GZIP, f"sha256:{'0' * 64}", 640 * 20_000)
    with pytest.raises(PackingFailed) as failed:
        async with pack(layer, bomb(), Form("gzip"), Limits(), tmp_path):
            pass
    assert failed.value.kind == "bomb"
    assert read < 3 * MIB


async def test_limits(tmp_path: Path) -> None:
    noise = random.Random(2).randbytes(2 * MIB)
    assert (await failure(noise, Form("zstd"), tmp_path, Limits(output_bytes=MIB))).kind == "large"
    assert (await failure(noise, Form("zstd"), tmp_path, Limits(tar_bytes=MIB))).kind == "bomb"
    assert (await failure(noise, Form("zstd", 19), tmp_path, Limits(memory_bytes=64 * MIB))).kind == "large"
    with pytest.raises(PackingFailed) as failed:
        await inspect(Descriptor(GZIP, f"sha256:{'0' * 64}", 100), endless(), Limits(seconds=0.5))
    assert failed.value.kind == "slow"
    assert not children()


async def test_it_gives_way() -> None:
    started = asyncio.Event()
    work = asyncio.create_task(inspect(Descriptor(GZIP, f"sha256:{'0' * 64}", 100), endless(started), Limits()))
    await started.wait()
    pid = await child()
    await until(lambda: os.sched_getscheduler(pid) in {os.SCHED_IDLE, os.SCHED_BATCH})
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not is_alive(pid)
    assert not children()


async def test_cancelled_it_leaves_nothing(tmp_path: Path) -> None:
    async def packing() -> None:
        layer = Descriptor(GZIP, f"sha256:{'0' * 64}", 100)
        async with pack(layer, endless(), Form("zstd"), Limits(), tmp_path):
            pass

    before = descriptors()
    for moment in (0, 0.001, 0.01, 0.1, 0.3):
        work = asyncio.create_task(packing())
        await asyncio.sleep(moment)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not children()
    await until(lambda: descriptors() <= before + 2)
    assert not list(tmp_path.iterdir())


async def test_the_store_fails(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield tar()
        raise Unavailable("the store is gone")

    with pytest.raises(Unavailable):
        async with pack(described(tar()), broken(), Form("zstd"), Limits(), tmp_path):
            pass
    assert not children()


async def test_the_process_is_killed(tmp_path: Path) -> None:
    async def deadly() -> AsyncIterator[bytes]:
        yield b"x"
        os.kill(await child(), signal.SIGKILL)
        yield b"y" * MIB

    with pytest.raises(PackingFailed) as failed:
        async with pack(described(b"x"), deadly(), Form("zstd"), Limits(), tmp_path):
            pass
    assert failed.value.kind == "failed"


def test_the_server_is_killed(tmp_path: Path) -> None:
    """As by the kernel when memory is short: nothing of the server runs any more."""
    server = f"""
    import asyncio, os
    from pathlib import Path
    from drift_core.api import Descriptor
    from drift_optimize.confined.jobs import Form, Limits, pack

    async def content():
        yield b"x"
        children = Path(f"/proc/self/task/{{os.getpid()}}/children")
        while not (found := children.read_text().split()):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        print(found[0], flush=True)
        await asyncio.Event().wait()

    async def main():
        layer = Descriptor("{OCI}", "sha256:" + "0" * 64, 100)
        async with pack(layer, content(), Form("zstd"), Limits(), Path({str(tmp_path)!r})):
            pass

    asyncio.run(main())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(server)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid)
        process.kill()
        process.wait()
    asyncio.run(until(lambda: not is_alive(pid)))
    assert not list(tmp_path.iterdir())


def test_the_process_starts_small() -> None:
    script = f"{jobs._START.replace('main()', 'pass')}; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", script, jobs._path()]
    modules = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "drift_optimize.confined.child" in modules
    assert not {"drift_core", "msgspec", "asyncio", "tarfile", "zstandard", "pathlib"} & modules


def large(path: Path, files: int, size: int) -> None:
    """Writes a tar in gzip without having it in memory."""
    chance = random.Random(3)
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    with path.open("wb") as file:
        for number in range(files):
            entry = tarfile.TarInfo(f"folder/with/a/long/name/so/that/the/table/is/large/{number}")
            entry.size = size
            content = chance.randbytes(size // 2) + bytes(size - size // 2)
            file.write(packer.compress(entry.tobuf() + content + bytes(-size % 512)))
        file.write(packer.compress(bytes(1024)) + packer.flush())


async def peak(path: Path, media_type: str, form: Form, scratch: Path) -> int:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    async def content() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while chunk := file.read(MIB):
                yield chunk

    layer = Descriptor(media_type, f"sha256:{digest}", path.stat().st_size)
    async with pack(layer, content(), form, Limits(seconds=3000), scratch) as packed:
        return packed.about.peak_bytes


@pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name}-{form.threads}")
async def test_memory(form: Form, tmp_path: Path) -> None:
    large(tmp_path / "layer", 5000, 5000)
    assert 8 * MIB < await peak(tmp_path / "layer", GZIP, form, tmp_path) <= 256 * MIB


async def test_memory_with_the_largest_window(tmp_path: Path) -> None:
    large(tmp_path / "layer", 10, 4 * MIB)
    with gzip.open(tmp_path / "layer") as file:
        (tmp_path / "tar").write_bytes(file.read())
    subprocess.run([tool("zstd"), "-q", "-1", "--long=27", "tar"], cwd=tmp_path, check=True)
    assert await peak(tmp_path / "tar.zst", f"{OCI}+zstd", Form("zstd", 3), tmp_path) <= 256 * MIB


@pytest.mark.soak
@pytest.mark.parametrize("files", [(200, 1 << 20), (100_000, 1000), (100_000, 100)], ids=["large", "many", "most"])
@pytest.mark.parametrize(
    "form",
    [*ALL, Form("zstd", 19), Form("zstd-chunked", 19)],
    ids=lambda form: f"{form.name}-{form.level}-{form.threads}",
)
async def test_memory_of_the_largest(form: Form, files: tuple[int, int], tmp_path: Path) -> None:
    large(tmp_path / "layer", *files)
    assert await peak(tmp_path / "layer", GZIP, form, tmp_path) <= 256 * MIB
