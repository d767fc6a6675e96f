"""Manifests and the tags that name them: pushed in one transaction, pulled from a cache, deleted."""

import asyncio
from collections.abc import Sequence

import msgspec
from msgspec import Struct
from sqlalchemy import Connection

from drift_core.errors import (
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
    Unavailable,
)
from drift_core.metadata import queries, reach, trash
from drift_core.metadata.cache import QueryCache
from drift_core.metadata.database import Database
from drift_core.metadata.locks import lock_for_push, lock_for_removal
from drift_core.metadata.queries import StoredManifest
from drift_core.metrics import Metrics
from drift_core.model import PLUGIN, Change, Digest, Identity
from drift_core.registry.changes import Changes
from drift_core.registry.document import Manifest, read_manifest
from drift_core.registry.leases import Leases
from drift_core.registry.rules import Rules

CACHE_BYTES = 64 << 20
"""Bytes of manifests that each worker keeps."""

ENTRY_BYTES = 500
"""What a cached manifest weighs beside its content."""

LARGE_MANIFEST = 64 << 10
"""From this size on, a manifest is parsed and hashed in a thread: it takes more than about a millisecond."""


class Condition(Struct, frozen=True):
    """If-Match and If-None-Match of a change (RFC 9110 section 13.1); None is "not sent", "*" any digest.

    For a tag the current state is the digest that it names, for a digest whether the repository holds it.
    """

    if_match: frozenset[str] | None = None
    if_none_match: frozenset[str] | None = None

    def check(self, reference: str, current: str | None) -> None:
        """Raises `PreconditionFailed` where the current digest, None for none, is not what was expected."""
        unmet = self.if_match is not None and not _matches(self.if_match, current)
        if unmet or (self.if_none_match is not None and _matches(self.if_none_match, current)):
            raise PreconditionFailed(reference=reference, current=current)


def _matches(expected: frozenset[str], current: str | None) -> bool:
    return current is not None and ("*" in expected or current in expected)


UNCONDITIONAL = Condition()


class Pushed(Struct, frozen=True):
    """What a push recorded: the manifest's digest, the tags that now name it, its subject or None."""

    digest: Digest
    tags: tuple[str, ...]
    subject: str | None


class Manifests:
    """A push is one transaction: every check, the manifest, its edges and its tags, or nothing."""

    def __init__(self, database: Database, rules: Rules, changes: Changes, metrics: Metrics) -> None:
        self._database = database
        self._rules = rules
        self._changes = changes
        self.leases = Leases(database, "manifest", rules.lease, metrics)
        self._cache = QueryCache[StoredManifest](
            database.version,
            CACHE_BYTES,
            lambda stored: ENTRY_BYTES + len(stored.content),
            metrics.lookups("manifests"),
        )

    async def get(self, repository: str, reference: str | Digest, identity: Identity | None) -> StoredManifest:
        """Returns the manifest of a tag, or of a `Digest`. Raises `ManifestUnknown`; and what `Changes.admit` does."""
        find = queries.manifest_by_digest if isinstance(reference, Digest) else queries.manifest_by_tag

        async def load() -> StoredManifest:
            found = await self._database.read(lambda db: find(db, repository, reference))
            if found is None:
                raise ManifestUnknown(name=repository, reference=reference)
            return found

        stored = await self._cache.get((repository, reference), load)
        tag = None if isinstance(reference, Digest) else reference
        if self._changes.watches_pull(repository, stored.digest, tag):
            change = Change(
                action="manifest.pull",
                repository=repository,
                digest=stored.digest,
                tags=() if tag is None else (tag,),
                size=stored.size,
                media_type=stored.media_type,
                content=stored.content,
                identity=identity,
            )
            await self._changes.admit(change)
            # What a plugin reads to do its work, nobody has pulled.
            if identity is None or identity.source != PLUGIN:
                await self._changes.note(change)
        return stored

    def given(self, repository: str, reference: str | Digest) -> None:
        """Says that a client was given the manifest of a tag, or of a `Digest`."""
        self._changes.pulled(repository, None if isinstance(reference, Digest) else reference)

    async def put(
        self,
        repository: str,
        content: bytes,
        content_type: str | None,
        digest: Digest | None,
        tags: Sequence[str],
        identity: Identity | None,
        condition: Condition = UNCONDITIONAL,
    ) -> Pushed:
        """Stores a manifest and points ``tags`` at it, if ``condition`` holds for each of them.

        Without tags it has to hold for the digest.

        Raises:
            DigestInvalid: ``digest`` is given and not that of ``content``.
            ManifestInvalid: see `read_manifest`; or a descriptor states another size than the content has.
            ManifestBlobUnknown: a blob or child manifest is not in the repository; all of them are named.
            Denied: a tag is immutable and names another manifest; or see `Changes.admit`.
            PreconditionFailed: ``condition`` does not hold.
        """
        if len(content) < LARGE_MANIFEST:
            manifest = _checked(content, content_type, digest)
        else:
            manifest = await asyncio.to_thread(_checked, content, content_type, digest)
        change = Change(
            action="manifest.push",
            repository=repository,
            digest=manifest.record.digest,
            tags=tuple(tags),
            size=len(content),
            media_type=manifest.record.media_type,
            artifact_type=manifest.record.artifact_type,
            subject=manifest.record.subject,
            content=content,
            identity=identity,
        )
        await self._changes.admit(change)

        def record(db: Connection) -> None:
            self._record(db, repository, manifest, tags, condition)
            self._changes.record(db, change)

        await self._database.write(record)
        return Pushed(manifest.record.digest, tuple(tags), manifest.record.subject)

    async def delete(
        self, repository: str, digest: Digest, identity: Identity | None, condition: Condition = UNCONDITIONAL
    ) -> None:
        """Removes a manifest, every tag that names it, and every tag that stands for a referrer of it.

        What nothing reaches any more is left to the collector. It can be restored for ``restore_hours``.

        Raises:
            ManifestUnknown: there is no such manifest.
            Denied: a tag may not be deleted; it has referrers, which protect it; or see `Changes.admit`.
            PreconditionFailed: ``condition`` does not hold.
            Unavailable: a tag was set that the gates were not asked about.
        """
        change = Change(action="manifest.delete", repository=repository, digest=digest, identity=identity)
        gated = self._changes.gated(change.action)
        if gated:
            # A gate decides by the tags that go with it.
            change = msgspec.structs.replace(
                change, tags=await self._database.read(lambda db: self._tags_of(db, repository, digest))
            )
            await self._changes.admit(change)

        def remove(db: Connection) -> None:
            lock_for_removal(db, repository)
            row = self._existing(db, repository)
            condition.check(digest, _held(db, row, digest))
            tags = _going(db, row, digest)
            if gated and not set(change.tags).issuperset(tags):
                raise Unavailable("a tag has come to name the manifest meanwhile; try again", tags=tags)
            for tag in tags:
                self._check_deletable(tag)
            if self._rules.referrers == "protect" and reach.has_referrers(db, row, digest):
                raise Denied("the manifest has referrers", digest=digest, rule="registry.referrers: protect")
            keeps = self._rules.not_to_delete
            gone = trash.throw_manifest(db, row, digest, "deleted", reach.moment(db), keeps)
            if gone is None:
                raise ManifestUnknown(name=repository, reference=digest)
            # Who has judged the subject by it has to do so again.
            self._changes.record(db, msgspec.structs.replace(change, tags=tuple(tags), subject=gone.subject))

        await self._database.write(remove)

    async def delete_tag(
        self, repository: str, tag: str, identity: Identity | None, condition: Condition = UNCONDITIONAL
    ) -> None:
        """Removes a tag and keeps its manifest.

        Raises:
            ManifestUnknown: there is no such tag.
            Denied: the tag is immutable; or see `Changes.admit`.
            PreconditionFailed: ``condition`` does not hold.
        """
        change = Change(action="tag.delete", repository=repository, tags=(tag,), identity=identity)
        await self._changes.admit(change)

        def remove(db: Connection) -> None:
            lock_for_removal(db, repository)
            row = self._existing(db, repository)
            current = queries.tagged_digest(db, row, tag)
            condition.check(tag, current)
            if current is None:
                raise ManifestUnknown(name=repository, reference=tag)
            self._check_deletable(tag)
            trash.throw_tag(db, row, tag, current, "deleted")
            reach.hold(db, row, "manifest", current)
            self._changes.record(db, msgspec.structs.replace(change, digest=current))

        await self._database.write(remove)

    def _record(
        self, db: Connection, repository: str, manifest: Manifest, tags: Sequence[str], condition: Condition
    ) -> None:
        lock_for_push(db, repository, tags)
        row = queries.ensure_repository(db, repository)
        moved = []
        if not tags:
            condition.check(manifest.record.digest, _held(db, row, manifest.record.digest))
        for tag in tags:
            current = queries.tagged_digest(db, row, tag)
            condition.check(tag, current)
            if current != manifest.record.digest:
                if current is not None:
                    self._check_movable(tag)
                moved.append((tag, current))
        self._check_references(db, row, manifest)
        stored = queries.put_manifest(db, row, manifest.record)
        if not tags:
            reach.hold(db, row, "manifest", manifest.record.digest)
        # Whoever signs something wants it, and what goes with it must not go at once.
        about = (manifest.record.subject, *(reach.subject_of_tag(tag) for tag in tags))
        for subject in sorted({digest for digest in about if digest is not None}):
            reach.hold(db, row, "manifest", subject)
        for tag, current in sorted(moved, key=lambda one: one[1] or ""):
            queries.set_tag(db, row, tag, stored, manifest.record.digest)
            if current is not None:
                reach.hold(db, row, "manifest", current)

    def _check_references(self, db: Connection, repository: int, manifest: Manifest) -> None:
        held = queries.held_blobs(db, repository, manifest.record.blobs)
        children = queries.held_manifests(db, repository, manifest.record.children)
        if not self._rules.sparse_manifests:
            blobs = manifest.record.blobs - held.keys()
            manifests = manifest.record.children - children.keys()
            if blobs or manifests:
                raise ManifestBlobUnknown(blobs=sorted(blobs), manifests=sorted(manifests))
        for digest, size in (held | children).items():
            if manifest.sizes[digest] != size:
                raise ManifestInvalid(
                    "a descriptor states another size than the content has",
                    digest=digest,
                    stated=manifest.sizes[digest],
                    size=size,
                )

    def _check_movable(self, tag: str) -> None:
        rule = self._rules.not_to_move(tag)
        if rule is not None:
            raise Denied("the tag is immutable", tag=tag, rule=rule)

    def _check_deletable(self, tag: str) -> None:
        rule = self._rules.not_to_delete(tag)
        if rule is not None:
            raise Denied("the tag is immutable", tag=tag, rule=rule)

    def _tags_of(self, db: Connection, repository: str, digest: Digest) -> tuple[str, ...]:
        row = queries.repository_id(db, repository)
        return () if row is None else tuple(_going(db, row, digest))

    def _existing(self, db: Connection, repository: str) -> int:
        row = queries.repository_id(db, repository)
        if row is None:
            raise NameUnknown(name=repository)
        return row


def is_about(tag: str) -> bool:
    """Says whether a tag stands for a referrer, with whose subject it goes."""
    return reach.subject_of_tag(tag) is not None


def _going(db: Connection, repository: int, digest: str) -> list[str]:
    """Returns the tags that go with a manifest: those that name it, and those that stand for its referrers."""
    return [*queries.tags_of(db, repository, digest), *(tag for tag, _ in reach.scheme_tags(db, repository, digest))]


def _held(db: Connection, repository: int, digest: Digest) -> Digest | None:
    return digest if queries.held_manifests(db, repository, [digest]) else None


def _checked(content: bytes, content_type: str | None, digest: Digest | None) -> Manifest:
    computed = Digest.of(content, "sha256" if digest is None else digest.algorithm)
    if digest is not None and computed != digest:
        raise DigestInvalid(digest=digest, computed=computed)
    return read_manifest(content, content_type, computed)
