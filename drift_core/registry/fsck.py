"""Compares records and bytes: what is missing, damaged, unrecorded or incomplete, and mends what can be mended."""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection

from drift_core.errors import BlobUnknown, StartError, UploadUnknown
from drift_core.metadata import queries, reach
from drift_core.metadata.database import Database
from drift_core.metadata.locks import lock_for_removal
from drift_core.model import ALGORITHMS, Digest
from drift_core.protocols.storage import BlobStore, UploadId

BATCH = 500
"""Records of one query."""

MANIFEST_BATCH = 16
"""Manifests of one query: each comes with its bytes."""

UNRECORDED_GRACE = 3600.0
"""Seconds for which unrecorded bytes are left alone: a push writes the bytes first and the record after them."""

Kind = Literal["missing", "damaged", "unrecorded", "manifest damaged", "manifest incomplete", "upload lost"]


class Finding(Struct, frozen=True):
    """One disagreement; ``mended`` says whether it was repaired."""

    kind: Kind
    subject: str
    detail: str
    mended: bool = False


class Progress(Struct, frozen=True):
    """How far the check is: bytes or things seen in this step."""

    step: str
    done: int


class Check:
    """One run over everything, also beside a running server; a repair can undo a push of the same blob just then."""

    def __init__(
        self, database: Database, store: BlobStore, *, repair: bool, read_bytes: bool, sparse_manifests: bool
    ) -> None:
        self._database = database
        self._store = store
        self._repair = repair
        self._read_bytes = read_bytes
        self._sparse = sparse_manifests

    async def run(self) -> AsyncIterator[Finding | Progress]:
        """Yields findings, and progress between them.

        Raises:
            StartError: a repair would take an empty store, such as a volume that is not mounted, for lost blobs.
        """
        recorded = await self._database.read(partial(queries.blobs_after, after="", limit=1))
        if self._repair and recorded:
            async for _ in self._store.scan():
                break
            else:
                message = "blobs are recorded and the store is empty; is its volume mounted? Nothing was repaired"
                raise StartError(message)
        for step in (self._recorded_blobs, self._stored_blobs, self._manifests, self._uploads):
            async for item in step():
                yield item

    async def _recorded_blobs(self) -> AsyncIterator[Finding | Progress]:
        after, done = "", 0
        while page := await self._database.read(partial(queries.blobs_after, after=after, limit=BATCH)):
            for digest, size in page:
                problem = await self._examine(digest, size)
                if problem is not None:
                    kind, detail = problem
                    if self._repair:
                        await self._database.write(partial(queries.forget_blob, digest=digest))
                        await self._store.delete(digest)
                    yield Finding(kind, digest, detail, self._repair)
                done += size
                yield Progress("blobs", done)
            after = page[-1][0]

    async def _examine(self, digest: Digest, size: int) -> tuple[Kind, str] | None:
        try:
            stat = await self._store.stat(digest)
            if stat.size != size:
                return "damaged", f"{stat.size} bytes instead of {size}"
            if self._read_bytes:
                state = ALGORITHMS[digest.algorithm].new()
                async for chunk in self._store.read(digest):
                    state.update(chunk)
                if state.hexdigest() != digest.encoded:
                    return "damaged", f"the bytes have the digest {digest.algorithm}:{state.hexdigest()}"
        except BlobUnknown:
            return "missing", "recorded, but not in the store"
        return None

    async def _stored_blobs(self) -> AsyncIterator[Finding | Progress]:
        batch: list[Digest] = []
        before = time.time() - UNRECORDED_GRACE
        async for stat in self._store.scan():
            if stat.modified < before:
                batch.append(stat.digest)
            if len(batch) == BATCH:
                for finding in await self._unrecorded(batch):
                    yield finding
                batch.clear()
        for finding in await self._unrecorded(batch):
            yield finding

    async def _unrecorded(self, digests: list[Digest]) -> list[Finding]:
        known = await self._database.read(lambda db: queries.known_blobs(db, digests))
        findings = []
        for digest in digests:
            if digest not in known:
                if self._repair:
                    await self._store.delete(digest)
                findings.append(Finding("unrecorded", digest, "in the store, but not recorded", self._repair))
        return findings

    async def _manifests(self) -> AsyncIterator[Finding | Progress]:
        after, done = 0, 0
        while page := await self._database.read(partial(queries.manifests_after, after=after, limit=MANIFEST_BATCH)):
            for _, repository, stored in page:
                subject = f"{repository}@{stored.digest}"
                computed = Digest.of(stored.content, stored.digest.algorithm)
                if computed != stored.digest:
                    if self._repair:
                        await self._database.write(partial(_forget, repository=repository, digest=stored.digest))
                    yield Finding("manifest damaged", subject, f"the bytes have the digest {computed}", self._repair)
                    continue
                missing = (
                    []
                    if self._sparse
                    else await self._database.read(
                        partial(queries.missing_of, repository=repository, digest=stored.digest)
                    )
                )
                for digest in missing:
                    yield Finding("manifest incomplete", subject, f"needs {digest}; push it again")
                done += 1
                yield Progress("manifests", done)
            after = page[-1][0]

    async def _uploads(self) -> AsyncIterator[Finding | Progress]:
        # An upload is begun in the store and recorded after that, so a recorded one is never ahead of its bytes.
        # Between the two steps of a commit, and after a crash there, an upload has a record alone; its commit can be
        # repeated.
        find = partial(queries.uploads_after, started_before=time.time() - UNRECORDED_GRACE, limit=BATCH)
        after = ""
        while page := await self._database.read(partial(find, after=after)):
            for upload in page:
                try:
                    await self._store.received(UploadId(upload))
                except UploadUnknown:
                    if self._repair:
                        await self._database.write(partial(queries.remove_upload, upload=upload))
                    yield Finding("upload lost", upload, "recorded, but not in the store", self._repair)
            after = page[-1]


def _forget(db: Connection, repository: str, digest: Digest) -> None:
    lock_for_removal(db, repository)
    row = queries.repository_id(db, repository)
    manifest = None if row is None else queries.manifest_id(db, row, digest)
    if row is not None and manifest is not None:
        reach.release(db, row, manifest, digest, reach.moment(db))
        queries.delete_manifest(db, row, digest)
