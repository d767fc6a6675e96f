"""Sweeps a registry again and again, each time killed at the next step, and swept once more; a program of its own.

Each sweep is a process that is forked before anything is opened, so that it dies as a server does that is killed.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from drift_core.config import Config, load
from drift_core.metadata.tables import blobs, manifests, purges, trash, unreached
from drift_core.model import Digest, Identity
from drift_core.plugins import load_plugins
from drift_core.registry.fsck import Check, Finding
from drift_core.registry.local import Local
from drift_core.runtime import Runtime, open_runtime, prepare

HOURS = 1000 * 3600.0
OPERATOR = Identity("operator", "test")
IMAGES = 6

LAYER = "application/octet-stream"
IMAGE, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"


def configuration(folder: Path) -> Config:
    settings = (
        f"storage.path={folder}",
        "storage.filesystem.fsync=false",
        "garbage_collector.enabled=true",
        "garbage_collector.max_share=1.0",
        "garbage_collector.removals_per_second=0",
        "registry.restore_hours=0",
    )
    return load(None, {}, settings)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Runtime]:
    config = configuration(folder)
    async with open_runtime(config, load_plugins(config), serving=False) as runtime:
        yield runtime


async def fill(folder: Path) -> None:
    """Pushes images that share a layer, and an index of them with a signature; then only the first keeps its tag."""
    config = configuration(folder)
    prepare(config, load_plugins(config))
    async with opened(folder) as runtime:
        local = Local(runtime.registry, runtime.database, OPERATOR)
        pushed = []
        for number in range(IMAGES):
            parts = []
            for content in (b"shared", b"layer %d" % number):
                digest = Digest.of(content)
                await local.push_blob("team/app", digest, once(content))
                parts.append({"mediaType": LAYER, "digest": digest, "size": len(content)})
            document = {"schemaVersion": 2, "mediaType": IMAGE, "config": parts[1], "layers": parts[:1]}
            pushed.append(await put(local, document, [f"v{number}"]))
        subject = await put(local, {"schemaVersion": 2, "mediaType": INDEX, "manifests": pushed[1:]}, ["all"])
        await put(local, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": subject}, [])
        for tag in ("all", *(f"v{number}" for number in range(1, IMAGES))):
            await runtime.registry.manifests.delete_tag("team/app", tag, OPERATOR)
        await runtime.database.write(older)


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def put(local: Local, document: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    content = json.dumps(document).encode()
    digest = Digest.of(content)
    await local.push_manifest("team/app", content, None, digest, tags)
    return {"mediaType": document["mediaType"], "digest": digest, "size": len(content)}


def older(db: Any) -> None:
    """Lets all times of grace, and all claims, be over."""
    columns = (unreached.c.since, trash.c.removed_at, purges.c.claimed_at, manifests.c.pushed_at, blobs.c.created_at)
    for column in columns:
        db.execute(column.table.update().values({column: column - HOURS}))


async def sweep(folder: Path, die_at: int | None) -> None:
    """Collects, and purges what was collected; dies before a change, or before the removal of a blob's bytes.

    Between the end of one and the beginning of the next nothing happens that would outlive it.
    """
    async with opened(folder) as runtime:
        await runtime.database.write(older)
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        def dying(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def called(*arguments: Any, **options: Any) -> Any:
                step()
                return await call(*arguments, **options)

            return called

        registry = runtime.registry
        store = registry.trash._store
        store.delete = dying(store.delete)  # type: ignore[method-assign]
        write = dying(runtime.database.write)
        async for _ in registry.collecting.run("command", OPERATOR, dry_run=False, write=write):
            pass
        await runtime.database.write(older)
        await registry.trash.purge(write)


async def check(folder: Path) -> None:
    """Bytes and records agree: of one image there is everything, and of the others nothing."""
    async with opened(folder) as runtime:
        examined = Check(
            runtime.database, runtime.registry.trash._store, repair=False, read_bytes=True, sparse_manifests=False
        )
        found = [item async for item in examined.run() if isinstance(item, Finding)]
        assert not found, found
        for table, count in ((blobs, 2), (manifests, 1), (trash, 0), (purges, 0)):
            rows = await runtime.database.read(lambda db, table=table: db.execute(table.select()).all())
            assert len(rows) == count, (table.name, rows)
    files = [path for path in (folder / "blobs").glob("*/*/*") if path.is_file()]
    assert len(files) == 2, files


async def complete(folder: Path) -> None:
    await sweep(folder, None)
    await check(folder)


def forked(work: Callable[[], Any]) -> int:
    """Runs a coroutine in a process of its own, and returns how that ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(work())
            code = 0
        except Exception:  # noqa: BLE001 - whatever it is, the parent only sees the code
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def main(folder: Path) -> None:
    """Prints how many steps a sweep has; ends with 1 where something is not as it should be."""
    assert forked(lambda: fill(folder / "filled")) == 0, "it cannot be filled"
    step, killed = 0, True
    while killed:
        step += 1
        place = folder / f"step{step}"
        shutil.copytree(folder / "filled", place)
        ended = forked(lambda place=place, step=step: sweep(place, step))
        killed = os.WIFSIGNALED(ended)
        assert killed or ended == 0, f"the sweep failed that should have been killed at step {step}"
        assert forked(lambda place=place: complete(place)) == 0, f"not whole after a kill at step {step}"
        shutil.rmtree(place)
    click.echo(step - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
