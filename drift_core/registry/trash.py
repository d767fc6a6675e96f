"""Brings back what was removed, and purges what cannot come back any more."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import structlog
from msgspec import Struct, structs
from sqlalchemy import Connection

from drift_core.errors import RegistryError
from drift_core.metadata import queries, reach, trash
from drift_core.metadata.database import Database
from drift_core.metadata.locks import exclusive
from drift_core.metadata.queries import StoredManifest
from drift_core.metadata.reach import Kind
from drift_core.metadata.trash import Thrown
from drift_core.metrics import Metrics
from drift_core.model import Change, Digest, Identity
from drift_core.protocols.storage import BlobStore
from drift_core.registry.changes import Changes
from drift_core.registry.contents import Write
from drift_core.registry.document import read_manifest
from drift_core.registry.rules import Rules

CLAIM_SECONDS, OWN_SECONDS = 120.0, 30.0
"""Seconds after which another may remove claimed bytes, and for which who claimed them may; no more than a lease."""

BATCH = 20
"""Things that are purged in one transaction, for which others that write have to wait."""

LONGEST_REST = 10.0
"""Seconds between two batches of a purge, at most."""

PAGE = 500
"""Things that are listed by one query."""


class Restored(Struct, frozen=True):
    """What became of one thing that was to be restored; ``problem`` None is that it is there again."""

    repository: str
    kind: str
    digest: Digest
    tag: str | None = None
    problem: str | None = None


class _Missing(Exception):
    """Something cannot come back, since a part of it is gone."""


class Trash:
    """What is removed stays there for ``restore_hours``, or the time of a lease where that is longer."""

    def __init__(self, database: Database, store: BlobStore, rules: Rules, changes: Changes, metrics: Metrics) -> None:
        self._metrics = metrics
        self._database = database
        self._store = store
        self._rules = rules
        self._changes = changes
        self._log = structlog.get_logger("drift.trash")

    async def listed(
        self, repository: str | None = None, digest: Digest | None = None, since: float = 0.0
    ) -> AsyncIterator[Thrown]:
        """Yields what is in the trash, the newest first; ``since`` in seconds since the epoch."""
        find = partial(trash.thrown, repository=repository, digest=digest, since=since, limit=PAGE)
        behind = None
        while page := await self._database.read(partial(find, behind=behind)):
            for thrown in page:
                yield thrown
            behind = page[-1].id

    async def restore(self, thrown: Thrown, identity: Identity) -> list[Restored]:
        """Brings something back, with its parts, its referrers and its tags, in one transaction.

        What cannot come back is among what it returns, with the reason; a tag stays away that names something else
        by now. What is there already is no problem.
        """
        if thrown.repository is None:
            return []
        repository: str = thrown.repository
        try:
            return await self._database.write(lambda db: self._restore(db, repository, thrown, identity))
        except _Missing as error:
            return [Restored(repository, thrown.kind, thrown.digest, thrown.tag, str(error))]

    async def purge(self, write: Write, *, at_once: bool = False, share: float = 1.0) -> int:
        """Removes for ever what cannot be restored any more, and returns how many things.

        ``at_once`` it is all that no client relies on: what was removed longer ago than a lease lasts. Bytes that
        somebody should have removed who was killed meanwhile are removed, too. It works for a ``share`` of the time,
        above 0 and up to 1, and rests for the remainder. Raises `Unavailable`.
        """
        kept = self._rules.lease if at_once else self._rules.in_trash
        count = 0
        failure = None
        while True:
            began = time.monotonic()
            removed, claimed, claimed_at = await write(partial(self._empty, kept=kept))
            await self._remove_bytes(write, claimed, claimed_at, began)
            self._metrics.purged.inc(removed)
            count += removed
            try:
                again = time.monotonic()
                await self._remove_bytes(write, *await write(self._claim_again), again)
            except RegistryError as error:
                # What cannot be removed now must not keep the rest.
                failure = error
            if removed < BATCH:
                break
            await asyncio.sleep(min((time.monotonic() - began) * (1 / share - 1), LONGEST_REST))
        if failure is not None:
            raise failure
        return count

    def _empty(self, db: Connection, kept: float) -> tuple[int, list[Digest], float]:
        now = reach.moment(db)
        return trash.empty(db, now - kept, now - self._rules.lease, BATCH)

    def _claim_again(self, db: Connection) -> tuple[list[Digest], float]:
        return trash.claim_again(db, reach.moment(db) - min(CLAIM_SECONDS, self._rules.lease / 2), BATCH)

    async def _remove_bytes(self, write: Write, claimed: Sequence[Digest], claimed_at: float, began: float) -> None:
        """Removes what was claimed after ``began``. Raises the last `RegistryError`, after trying the others.

        What takes long is claimed further: nobody can push a blob as long as it is claimed and its bytes are there.
        """
        own = min(OWN_SECONDS, self._rules.lease / 4)
        left = list(claimed)
        while left:
            done: list[Digest] = []
            failure = None
            try:
                # Whoever was stopped for so long does not know whether the blob is there again: it was claimed anew.
                while left and time.monotonic() - began <= own:
                    digest = left.pop(0)
                    try:
                        await self._metrics.storage.of("delete", self._store.delete(digest))
                    except RegistryError as error:
                        failure = error
                    else:
                        done.append(digest)
            finally:
                if done:
                    await write(partial(trash.purged, digests=done, claimed_at=claimed_at))
            if failure is not None:
                raise failure
            if left:
                self._log.warning("the removal of bytes takes long", left=len(left))
                began = time.monotonic()
                further = partial(trash.claim_further, digests=tuple(left), claimed_at=claimed_at)
                left, claimed_at = await write(further)

    def _restore(self, db: Connection, repository: str, thrown: Thrown, identity: Identity) -> list[Restored]:
        exclusive(db, f"repository:{repository}")
        row = queries.ensure_repository(db, repository)
        restoring = _Restoring(db, repository, row, self._changes, identity, sparse=self._rules.sparse_manifests)
        if thrown.kind == "blob":
            restoring.blob(thrown.digest)
        else:
            restoring.manifest(thrown.digest)
        return restoring.done


class _Restoring:
    """One transaction that brings things back to a repository."""

    def __init__(
        self, db: Connection, repository: str, row: int, changes: Changes, identity: Identity, *, sparse: bool
    ) -> None:
        self.done: list[Restored] = []
        self._db = db
        self._repository = repository
        self._row = row
        self._changes = changes
        self._identity = identity
        self._sparse = sparse

    def blob(self, digest: Digest) -> None:
        """Brings back a blob. Raises `_Missing`."""
        if reach.is_there(self._db, self._row, "blob", digest):
            return
        size = trash.take_back_blob(self._db, self._row, digest)
        if size is None:
            message = f"the blob {digest} is gone"
            raise _Missing(message)
        self._changes.account(self._db, self._repository, size)
        self._tell("blob", digest, Change(action="blob.push", repository=self._repository, digest=digest, size=size))

    def manifest(self, digest: Digest) -> None:
        """Brings back a manifest, its parts before it, its tags and referrers after it. Raises `_Missing`."""
        stored = trash.thrown_manifest(self._db, self._row, digest)
        there = reach.is_there(self._db, self._row, "manifest", digest)
        if stored is None and not there:
            message = f"the manifest {digest} is gone"
            raise _Missing(message)
        if stored is not None and not there:
            self._put(stored)
        for tag in trash.thrown_tags(self._db, self._row, digest):
            self._tag(tag, digest)
        by_tag = [artifact for _, artifact in trash.thrown_scheme_tags(self._db, self._row, digest)]
        for artifact in (*trash.thrown_referrers(self._db, self._row, digest), *by_tag):
            self._optionally(self.manifest, Digest(artifact), "manifest")

    def _put(self, stored: StoredManifest) -> None:
        record = read_manifest(stored.content, stored.media_type, stored.digest).record
        for child in sorted(record.children):
            if not reach.is_there(self._db, self._row, "manifest", child):
                # A client may have deleted it while the index was there.
                self._optionally(self.manifest, Digest(child), "manifest")
        for blob in sorted(record.blobs):
            if self._sparse:
                self._optionally(self.blob, Digest(blob), "blob")
            else:
                self.blob(Digest(blob))
        queries.put_manifest(self._db, self._row, record)
        reach.hold(self._db, self._row, "manifest", stored.digest)
        trash.forget(self._db, self._row, "manifest", stored.digest)
        change = Change(
            action="manifest.push",
            repository=self._repository,
            digest=stored.digest,
            size=stored.size,
            media_type=stored.media_type,
            artifact_type=record.artifact_type,
            subject=record.subject,
        )
        self._tell("manifest", stored.digest, change)

    def _optionally(self, restore: Callable[[Digest], None], digest: Digest, kind: Kind) -> None:
        """Goes on without what cannot come back, and says so."""
        done = len(self.done)
        try:
            with self._db.begin_nested():
                restore(digest)
        except _Missing as error:
            self.done[done:] = [Restored(self._repository, kind, digest, None, str(error))]

    def _tag(self, tag: str, digest: Digest) -> None:
        current = queries.tagged_digest(self._db, self._row, tag)
        if current not in (None, digest):
            problem = f"it names {current} now"
            self.done.append(Restored(self._repository, "tag", digest, tag, problem))
            return
        if current is None:
            manifest = queries.manifest_id(self._db, self._row, digest)
            if manifest is None:
                raise AssertionError
            queries.set_tag(self._db, self._row, tag, manifest, digest)
            change = Change(action="manifest.push", repository=self._repository, digest=digest, tags=(tag,))
            self._tell("tag", digest, change, tag)
        trash.forget(self._db, self._row, "tag", digest, tag)

    def _tell(self, kind: str, digest: Digest, change: Change, tag: str | None = None) -> None:
        self._changes.record(self._db, structs.replace(change, identity=self._identity))
        self.done.append(Restored(self._repository, kind, digest, tag))
