"""What a collector gets of the registry: what nothing reaches, and how to remove it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from msgspec import structs
from sqlalchemy import Connection

from drift_core.metadata import queries, reach, trash
from drift_core.metadata.database import Database
from drift_core.metadata.locks import lock_for_removal
from drift_core.metadata.survey import Limits, Survey, take_out
from drift_core.model import Change
from drift_core.protocols.collection import Candidate
from drift_core.registry.changes import Changes
from drift_core.registry.rules import Rules

T = TypeVar("T")

REASONS = {"blob": "no manifest needed it", "manifest": "no tag, index or subject reached it"}


class Write(Protocol):
    """Makes a change: `Database.write`, or that of a lease."""

    def __call__(self, change: Callable[[Connection], T], *, durable: bool = True) -> Awaitable[T]:
        """Returns what the change returns, after it is committed; see `Database.write`."""
        ...


class RegistryContents:
    """See `Contents`. Everything is a short transaction; nothing is locked between two of them."""

    def __init__(self, database: Database, write: Write, rules: Rules, changes: Changes) -> None:
        self._database = database
        self._write = write
        self._rules = rules
        self._changes = changes
        self.found = {"blob": 0, "manifest": 0}
        """What the last pass has yielded."""
        self.bytes_freed = 0
        """Bytes of the removed blobs that no other repository holds."""

    async def total(self, at_most: int) -> int:
        """See `Contents`."""
        return await self._database.read(lambda db: reach.total(db, at_most))

    async def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """See `Contents`. What a client was just told of, or is younger than ``min_age_days``, is not among it."""
        self.found = {"blob": 0, "manifest": 0}
        now = await self._database.read(reach.moment)
        limits = Limits(
            min(before, now - self._rules.lease), now - self._rules.min_age, self._rules.referrers == "protect"
        )
        survey = Survey(limits)
        entered = False
        while not survey.done or entered:
            if survey.done:
                survey.again()
                entered = False
            page, stale = await self._database.read(survey.page)
            if stale:
                entered |= await self._write(partial(take_out, stale=stale, before=limits.before))
            for candidate in page:
                self.found[candidate.kind] += 1
                yield candidate

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """See `Contents`. What is removed lies in the trash for a while."""
        # Whoever loses it with the power finds it unreached again, and what is purged later is durable with all before.
        removed, freed = await self._write(partial(self._remove, candidates=candidates), durable=False)
        self.bytes_freed += freed
        return removed

    def _remove(self, db: Connection, candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
        rows: dict[str, int] = {}
        for name in sorted({candidate.repository for candidate in candidates}):
            lock_for_removal(db, name)
            row = queries.repository_id(db, name)
            if row is not None:
                rows[name] = row
        removed: list[Candidate] = []
        freed = 0
        for candidate in candidates:
            row = rows.get(candidate.repository)
            if row is not None and self._may_go(db, row, candidate):
                freed += self._throw(db, row, candidate)
                removed.append(candidate)
        return removed, freed

    def _may_go(self, db: Connection, repository: int, candidate: Candidate) -> bool:
        kind, digest = candidate.kind, candidate.digest
        since = reach.waits_since(db, repository, kind, digest)
        if since is None or since > candidate.unreached_since or reach.is_named(db, repository, kind, digest):
            return False
        if kind == "blob":
            return True
        if self._rules.referrers == "protect" and reach.is_bound(db, repository, digest):
            return False
        latest = reach.unreached_since(db, repository, digest)
        return latest is not None and latest <= candidate.unreached_since

    def _throw(self, db: Connection, repository: int, candidate: Candidate) -> int:
        """Removes it, and returns the bytes that no repository holds any more."""
        kind, name, digest = candidate.kind, candidate.repository, candidate.digest
        if kind == "manifest":
            keeps = self._rules.not_to_delete
            gone = trash.throw_manifest(db, repository, digest, REASONS[kind], candidate.unreached_since, keeps)
            change = Change(action="manifest.delete", repository=name, digest=digest)
            if gone is not None:
                change = structs.replace(change, tags=gone.tags, subject=gone.subject)
            self._changes.tell(db, change)
            return 0
        size = trash.throw_blob(db, repository, digest, REASONS[kind])
        if size is None:
            # The row was of a blob that the repository does not hold any more.
            reach.reached(db, repository, kind, [digest])
            return 0
        self._changes.account(db, name, -size)
        self._changes.tell(db, Change(action="blob.delete", repository=name, digest=digest, size=size))
        return 0 if reach.is_held(db, digest) else size
