"""Several processes, of which some are killed."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drift_storage_fs.store import FilesystemStore

from drift_core.api import (
    BlobStore,
    Digest,
    UploadId,
)

MIB = 1 << 20
OpenStore = Callable[..., Any]


async def source(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(store: BlobStore, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in store.read(digest, start, stop)])


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs that begin with ``async with`` a store called ``store``; kills what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def start(data: Path, body: str, *arguments: str) -> subprocess.Popen[str]:
        script = tmp_path / f"child{len(started)}.py"
        script.write_text(
            textwrap.dedent("""\
                import asyncio, os, resource, sys
                from drift_core.api import Digest, UploadId
                from drift_core.conformance import lending
                from drift_storage_fs.config import FilesystemConfig
                from drift_storage_fs.store import open_store
                services = lending.services("storage-fs")
                async def source(*chunks):
                    for chunk in chunks:
                        yield chunk
                config = FilesystemConfig(sys.argv[1], os.environ.get("FSYNC") != "0")
                async def main():
                    async with open_store(config, services) as store:
                """)
            + textwrap.indent(textwrap.dedent(body), " " * 8)
            + "\nasyncio.run(main())\n"
        )
        process = subprocess.Popen([sys.executable, script, data, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_two_processes_append(data: Path, store: FilesystemStore, child: Callable[..., Any]) -> None:
    """Appends of two processes to one upload follow one another whole, and any worker can commit the outcome."""
    upload, rounds, size = await store.begin(), 25, 200_000
    body = """
        for n in range(int(sys.argv[4])):
            part = f"{sys.argv[3]}{n:07}".encode() * (int(sys.argv[5]) // 8)
            await store.append(UploadId(sys.argv[2]), None, source(part[:70_000], part[70_000:]))
        print("done")
    """
    processes = [child(data, body, upload, name, str(rounds), str(size)) for name in ("a", "b")]
    assert [await asyncio.to_thread(line_of, process) for process in processes] == ["done", "done"]
    content = (data / "uploads" / upload).read_bytes()
    assert len(content) == 2 * rounds * size
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    assert all(part == part[:8] * (size // 8) for part in parts)
    for name in ("a", "b"):
        order = [int(part[1:8]) for part in parts if part[:1] == name.encode()]
        assert order == list(range(rounds))
    assert await read(store, (await store.commit(upload, Digest.of(content))).digest) == content


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_kill_during_append(data: Path, open_at: OpenStore, child: Callable[..., Any]) -> None:
    """After kill -9 in the middle of an append the lock is free, and a prefix of what was sent is kept."""
    process = child(
        data,
        """
        upload = await store.begin()
        async def endless():
            n = 0
            while True:
                yield bytes([n % 256]) * 100_000
                n += 1
                await asyncio.sleep(0)
                if n == 100:
                    print(upload, flush=True)
        await store.append(upload, 0, endless())
    """,
    )
    upload = UploadId(await asyncio.to_thread(line_of, process))
    process.kill()
    process.wait()
    async with open_at(data) as store:
        held = await store.append(upload, None, source())
        assert held > 8 * MIB
        content = b"".join(bytes([n % 256]) * 100_000 for n in range(held // 100_000 + 1))[:held]
        await store.append(upload, held, source(b"end"))
        assert await read(store, (await store.commit(upload, Digest.of(content + b"end"))).digest) == content + b"end"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_memory_is_bounded(data: Path, child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """512 MiB in 64 KiB chunks pass through, up and down, in a few MiB."""
    monkeypatch.setenv("FSYNC", "0")
    process = child(
        data,
        """
        import hashlib
        hashed = hashlib.sha256()
        async def chunks():
            for n in range(8192):
                chunk = n.to_bytes(4, "big") * 16384
                hashed.update(chunk)
                yield chunk
        upload = await store.begin()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = await store.append(upload, 0, chunks())
        made = await store.commit(upload, Digest("sha256:" + hashed.hexdigest()))
        read = 0
        async for chunk in store.read(made.digest):
            read += len(chunk)
        await store.delete(made.digest)
        print(size, read, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """,
    )
    size, back, kibibytes = map(int, (await asyncio.to_thread(line_of, process)).split())
    assert size == back == 512 * MIB
    assert kibibytes < 32 * 1024
