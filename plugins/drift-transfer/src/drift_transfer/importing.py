"""Copies repositories from a source into the registry: children before parents, and blobs before manifests."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from typing import TypeVar, cast

from msgspec import field

from drift_core.api import (
    Digest,
    DigestInvalid,
    DriftError,
    LocalRegistry,
    References,
    RegistryError,
    Struct,
    Unavailable,
)
from drift_transfer.documents import is_schema_1, media_type_of
from drift_transfer.source import Failure, Kind, Source, SourceError, SupportsReferrers, SupportsUntagged
from drift_transfer.tally import Tally

T = TypeVar("T")

PAGE = 200
"""Tags or manifests of which the registry is asked at a time."""

MAX_DEPTH = 32
"""Most indexes within each other; far more than anybody has a use for."""

REMEMBERED = 100_000
"""Damaged blobs, and blobs of a dry run, that are remembered: about 15 MB."""


MAX_REASON = 1000
"""Longest reason that is told, in characters: an index may lack thousands of manifests."""


class _Repository(Struct, eq=False):
    """What is known of one repository while it is copied.

    ``settled`` has the manifests that were looked at, and whether they are in the registry now; ``running`` those that
    a task is at.
    """

    name: str
    settled: dict[Digest, bool] = field(default_factory=dict[Digest, bool])
    running: dict[Digest, asyncio.Event] = field(default_factory=dict[Digest, asyncio.Event])


class _Work(Struct, frozen=True):
    """A manifest to copy, with the tags that are to name it."""

    repository: _Repository
    digest: Digest
    tags: tuple[str, ...] = ()


class Import:
    """One run. At most ``jobs`` manifests and ``jobs`` blobs are on their way at a time."""

    def __init__(self, source: Source, registry: LocalRegistry, tally: Tally, jobs: int, *, dry_run: bool) -> None:
        self._source = source
        self._untagged = source if isinstance(source, SupportsUntagged) else None
        self._referrers = source if isinstance(source, SupportsReferrers) else None
        self._registry = registry
        self._tally = tally
        self._dry_run = dry_run
        self._jobs = jobs
        self._slots = asyncio.Semaphore(jobs)
        self._queue: asyncio.Queue[_Work] = asyncio.Queue(jobs)
        self._copying: dict[Digest, asyncio.Event] = {}
        self._known: dict[Digest, str] = {}
        """Why a blob cannot be copied; "" for one that a dry run has counted."""

    async def run(self, repositories: Collection[str] = ()) -> None:
        """Copies ``repositories``, or all of the source. What cannot be copied is in the tally, and the rest goes on.

        Raises:
            SourceError: the repositories of the source cannot be listed.
            Unavailable: the registry itself fails; another run goes on from here.
        """
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._work()) for _ in range(self._jobs)]
                async for name in _each(repositories) if repositories else self._source.repositories():
                    self._tally.repositories += 1
                    await self._put_repository(_Repository(name))
                await self._queue.join()
                for worker in workers:
                    worker.cancel()
        except ExceptionGroup as group:
            raise _first(group) from group

    async def _put_repository(self, repository: _Repository) -> None:
        try:
            async for tags in self._pages(self._source.tags(repository.name)):
                await self._put_tags(repository, tags)
            if self._untagged is not None:
                async for manifests in self._pages(self._untagged.manifests(repository.name)):
                    await self._put_manifests(repository, manifests)
        except SourceError as error:
            self._tally.fail(Failure("repository", repository.name, repository.name, "", str(error)))

    async def _pages(self, items: AsyncIterator[T | Failure]) -> AsyncIterator[list[T]]:
        page: list[T] = []
        async for item in items:
            if isinstance(item, Failure):
                self._tally.fail(item)
            else:
                page.append(item)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def _put_tags(self, repository: _Repository, tags: Sequence[tuple[str, Digest]]) -> None:
        there = await self._registry.tagged(repository.name, [tag for tag, _ in tags])
        missing: defaultdict[Digest, list[str]] = defaultdict(list)
        for tag, digest in tags:
            if there.get(tag) != digest:
                missing[digest].append(tag)
            else:
                self._tally.tags.there += 1
                if self._referrers is not None:
                    # What has come to refer to it since it was copied is known to nobody else.
                    missing[digest] += []
        for digest, names in missing.items():
            await self._queue.put(_Work(repository, digest, tuple(names)))

    async def _put_manifests(self, repository: _Repository, manifests: Sequence[Digest]) -> None:
        left = [digest for digest in manifests if digest not in repository.settled]
        there = await self._registry.held_manifests(repository.name, left)
        for digest in left:
            if digest not in there:
                await self._queue.put(_Work(repository, digest))
            # Whoever has a tag for it settles it, too.
            elif digest not in repository.settled and digest not in repository.running:
                repository.settled[digest] = True
                self._tally.manifests.there += 1

    async def _work(self) -> None:
        while True:
            work = await self._queue.get()
            reached: list[Digest] = []
            await self._copy_tagged(work, reached)
            # After the manifests, not with them: an artifact may itself contain what it refers to.
            for digest in reached:
                await self._copy_referrers(work.repository, digest, reached)
            self._queue.task_done()

    async def _copy_referrers(self, repository: _Repository, subject: Digest, reached: list[Digest]) -> None:
        """Copies what refers to a manifest, and appends it to ``reached``, so that it has its turn as a subject."""
        if self._referrers is None:
            return
        try:
            async for referrer in self._referrers.referrers(repository.name, subject):
                await self._copy_manifest(repository, referrer, (), reached)
        except SourceError as error:
            self._fail(repository, "manifest", subject, subject, f"what refers to it is not known: {error}")

    async def _copy_tagged(self, work: _Work, reached: list[Digest]) -> None:
        repository, digest, tags = work.repository, work.digest, work.tags
        if await self._copy_manifest(repository, digest, tags, reached):
            self._tally.tags.copied += len(tags)
        elif not repository.settled.get(digest):
            for tag in tags:
                self._fail(repository, "tag", tag, digest, "its manifest could not be copied")
        elif self._dry_run:
            self._tally.tags.copied += len(tags)
        elif tags:
            _, content = await self._registry.manifest(repository.name, digest)
            for tag in tags:
                refusal = await self._refusal(repository, digest, content, [tag])
                if refusal is None:
                    self._tally.tags.copied += 1
                else:
                    self._fail(repository, "tag", tag, digest, refusal)

    async def _copy_manifest(
        self, repository: _Repository, digest: Digest, tags: Sequence[str], reached: list[Digest], depth: int = 0
    ) -> bool:
        """Copies a manifest and all that it needs, unless that was done; returns whether this has set ``tags``, too.

        The first to come appends it to ``reached``; others wait for it.
        """
        if digest in repository.settled:
            return False
        if (running := repository.running.get(digest)) is not None:
            await running.wait()
            return False
        event = repository.running[digest] = asyncio.Event()
        reached.append(digest)
        try:
            there, tagged = await self._copy_new(repository, digest, tags, reached, depth)
            repository.settled[digest] = there
        finally:
            del repository.running[digest]
            event.set()
        return tagged

    async def _copy_new(
        self, repository: _Repository, digest: Digest, tags: Sequence[str], reached: list[Digest], depth: int
    ) -> tuple[bool, bool]:
        """Returns whether the manifest is in the registry now, or would be, and whether ``tags`` name it."""
        held = bool(await self._registry.held_manifests(repository.name, [digest]))
        if held and self._referrers is None:
            self._tally.manifests.there += 1
            return True, False
        if depth > MAX_DEPTH:
            self._fail(repository, "manifest", digest, digest, f"lies below {MAX_DEPTH} indexes")
            return held, False
        try:
            content = await self._read(repository, digest)
            references = await self._registry.examine(content, media_type_of(content), digest)
        except Unavailable:
            raise
        except (SourceError, RegistryError) as error:
            self._fail(repository, "manifest", digest, digest, _explained(error))
            return held, False
        for child in references.children:
            await self._copy_manifest(repository, child, (), reached, depth + 1)
        if held:
            self._tally.manifests.there += 1
            return True, False
        await self._copy_blobs(repository, references)
        if self._dry_run:
            self._tally.manifests.copied += 1
            self._tally.bytes += len(content)
            return True, False
        return await self._push(repository, digest, content, tags)

    async def _read(self, repository: _Repository, digest: Digest) -> bytes:
        limit = self._registry.max_manifest_size
        content = await self._source.manifest(repository.name, digest, limit + 1)
        if len(content) > limit:
            raise SourceError(f"has more than {limit} bytes, which registry.max_manifest_size allows")
        computed = await asyncio.to_thread(Digest.of, content, digest.algorithm)
        if computed != digest:
            if is_schema_1(content):
                raise SourceError("is of Docker's schema 1, which Drift does not take")
            raise SourceError(f"is damaged: the bytes have the digest {computed}")
        return content

    async def _push(
        self, repository: _Repository, digest: Digest, content: bytes, tags: Sequence[str]
    ) -> tuple[bool, bool]:
        """Pushes a manifest with its tags, or alone where they are refused; the caller finds out which of them are."""
        refusal = await self._refusal(repository, digest, content, tags)
        tagged = refusal is None
        if refusal is not None and tags:
            refusal = await self._refusal(repository, digest, content, ())
        if refusal is not None:
            self._fail(repository, "manifest", digest, digest, refusal)
            return False, False
        self._tally.manifests.copied += 1
        self._tally.bytes += len(content)
        return True, tagged

    async def _refusal(
        self, repository: _Repository, digest: Digest, content: bytes, tags: Sequence[str]
    ) -> str | None:
        """Pushes a manifest with tags; returns why that was refused, or None."""
        try:
            await self._registry.push_manifest(repository.name, content, media_type_of(content), digest, tags)
        except Unavailable:
            raise
        except RegistryError as error:
            return _explained(error)
        return None

    async def _copy_blobs(self, repository: _Repository, references: References) -> None:
        there = await self._registry.held_blobs(repository.name, list(references.blobs))
        self._tally.blobs.there += len(there)
        async with asyncio.TaskGroup() as group:
            for digest, size in references.blobs.items():
                if digest not in there:
                    group.create_task(self._copy_blob(repository, digest, size))

    async def _copy_blob(self, repository: _Repository, digest: Digest, size: int) -> None:
        while (running := self._copying.get(digest)) is not None:
            await running.wait()
        event = self._copying[digest] = asyncio.Event()
        try:
            async with self._slots:
                await self._copy_missing_blob(repository, digest, size)
        finally:
            del self._copying[digest]
            event.set()

    async def _copy_missing_blob(self, repository: _Repository, digest: Digest, size: int) -> None:
        known = self._known.get(digest)
        if known:
            self._fail(repository, "blob", digest, digest, known)
        elif self._dry_run:
            if known is None and not await self._registry.is_known(digest):
                self._tally.blobs.copied += 1
                self._tally.bytes += size
                self._remember(digest, "")
            else:
                self._tally.blobs.there += 1
        # Another manifest of the repository may have brought it meanwhile.
        elif await self._registry.held_blobs(repository.name, [digest]) or await self._mount(repository, digest):
            self._tally.blobs.there += 1
        else:
            await self._push_blob(repository, digest, size)

    async def _mount(self, repository: _Repository, digest: Digest) -> bool:
        try:
            return await self._registry.mount_blob(repository.name, digest)
        except Unavailable:
            raise
        except RegistryError:
            # A gate that refuses to mount it may still let it be pushed; if not, that has the reason.
            return False

    async def _push_blob(self, repository: _Repository, digest: Digest, size: int) -> None:
        self._tally.planned += size
        try:
            chunks = self._counted(self._source.blob(repository.name, digest))
            await self._registry.push_blob(repository.name, digest, chunks)
        except Unavailable:
            raise
        except (SourceError, RegistryError) as error:
            reason = (
                "is damaged: the bytes have another digest" if isinstance(error, DigestInvalid) else _explained(error)
            )
            self._remember(digest, reason)
            self._fail(repository, "blob", digest, digest, reason)
        else:
            self._tally.blobs.copied += 1
            self._tally.bytes += size

    async def _counted(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._tally.received += len(chunk)
            yield chunk

    def _remember(self, digest: Digest, reason: str) -> None:
        if len(self._known) < REMEMBERED:
            self._known[digest] = reason

    def _fail(self, repository: _Repository, kind: Kind, name: str, digest: Digest, reason: str) -> None:
        place = self._source.place(repository.name, kind, digest)
        self._tally.fail(Failure(kind, repository.name, str(name), place, reason))


async def _each(names: Collection[str]) -> AsyncIterator[str]:
    for name in names:
        yield name


def _explained(error: DriftError) -> str:
    if not isinstance(error, RegistryError) or not error.detail:
        return str(error)
    detail = "; ".join(f"{name}: {value}" for name, value in error.detail.items())
    return f"{error.message} ({detail})"[:MAX_REASON]


def _first(error: Exception) -> Exception:
    """Returns the first error of a group: whoever runs the command is helped by one, and the others follow from it."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error
