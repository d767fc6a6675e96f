"""`drift fsck --repair` beside clients: a push that is acknowledged while it repairs is not undone by it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from drift_core import config
from drift_core.metadata.database import Database, open_database
from drift_core.metadata.migrations import migrate
from drift_core.model import Digest
from drift_core.plugins import load_plugins
from drift_core.protocols import BlobStore
from drift_core.registry.fsck import Check, Finding
from drift_core.registry.registry import Registry
from drift_core.runtime import open_store, rules_of
from tests.faults.inspection import blob_file
from tests.oci.content import Blob, unique_blob

REPOSITORY = "fsck/race"
HEAD_START = 2.0
"""Seconds that the push gets to overtake the repair; one that is held back until after it is as good."""


async def push(registry: Registry, blob: Blob) -> None:
    """Pushes a blob; when this returns, a client has its 201."""

    async def body() -> AsyncIterator[bytes]:
        yield blob.content

    upload = await registry.uploads.begin(REPOSITORY, "sha256")
    await registry.uploads.append(REPOSITORY, upload, 0, body(), blob.size)
    await registry.uploads.commit(REPOSITORY, upload, Digest(blob.digest))


class PushedBeforeDelete:
    """A store in which somebody always pushes a blob just before the repair deletes it."""

    def __init__(self, store: BlobStore, registry: Registry, blob: Blob) -> None:
        self._store = store
        self._registry = registry
        self._blob = blob
        self.pushing: asyncio.Task[None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete(self, *arguments: Any, **named: Any) -> None:
        self.pushing = asyncio.create_task(push(self._registry, self._blob))
        await asyncio.wait([self.pushing], timeout=HEAD_START)
        await self._store.delete(*arguments, **named)


async def repair_while_pushing(folder: Path, kind: str) -> None:
    settings = config.load(None, {}, [f"storage.path={folder / 'data'}"])
    migrate(settings.database_url())
    blob = unique_blob(1000)
    async with (
        open_database(settings.database_url()) as database,
        open_store(settings, load_plugins(settings)) as store,
    ):
        registry = Registry(database, store, rules_of(settings))
        path = blob_file(folder / "data", blob.digest)
        if kind == "unrecorded":
            path.parent.mkdir()
            path.write_bytes(blob.content)
            os.utime(path, (time.time() - 7200, time.time() - 7200))
        else:
            await push(registry, blob)
            path.write_bytes(bytes(1000))
        racing = PushedBeforeDelete(store, registry, blob)
        findings = await run(database, racing)
        assert [finding.kind for finding in findings] == [kind]
        if racing.pushing is None:
            pytest.skip("the repair does not delete through the store, so this race cannot be staged")
        await racing.pushing
        assert await registry.blobs.size(REPOSITORY, Digest(blob.digest)) == blob.size
        assert path.exists(), "a client has a 201 for this blob, and fsck deleted it"
        assert path.read_bytes() == blob.content
        assert not await run(database, store)


async def run(database: Database, store: Any) -> list[Finding]:
    check = Check(database, store, repair=True, read_bytes=True, sparse_manifests=False)
    return [item async for item in check.run() if isinstance(item, Finding)]


@pytest.mark.parametrize("kind", ["damaged", "unrecorded"])
def test_a_push_during_the_repair_is_kept(tmp_path: Path, kind: str) -> None:
    asyncio.run(repair_while_pushing(tmp_path, kind))
