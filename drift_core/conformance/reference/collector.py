"""A `Collector`, and the `Contents` of a registry in memory, for it or another to collect."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from msgspec import Struct

from drift_core.api import Candidate, Contents, Digest, Removal, SupportsRoots


class Place(Struct, frozen=True):
    """Where something is."""

    repository: str
    digest: Digest


class Item(Struct, frozen=True):
    """A manifest or a blob; ``subject`` is what it is an artifact of."""

    kind: Literal["blob", "manifest"]
    size: int
    parts: tuple[Digest, ...]
    subject: Digest | None


class MemoryContents:
    """The records of a registry, to be filled by hand. Whatever happens, happens ``ago`` seconds before now."""

    def __init__(self, ago: float = 0.0) -> None:
        self.ago = ago
        self.items: dict[Place, Item] = {}
        self.tags: dict[tuple[str, str], Digest] = {}
        self.leases: set[Place] = set()
        self.since: dict[Place, float] = {}
        self.depths: dict[Place, int] = {}

    def push(
        self,
        repository: str,
        digest: Digest,
        size: int,
        kind: Literal["blob", "manifest"] = "blob",
        parts: Iterable[Digest] = (),
        subject: Digest | None = None,
    ) -> None:
        """Adds something, or pushes it again: it and its parts count as reached until now."""
        place, parts = Place(repository, digest), tuple(parts)
        depth = 1 + max((self.depths.get(Place(repository, part), 0) for part in parts), default=0)
        self.depths[place] = depth if kind == "manifest" else 0
        self.items[place] = Item(kind, size, parts, subject)
        for touched in self.closure({place}):
            self.since.pop(touched, None)
        self.settle()

    def tag(self, repository: str, tag: str, digest: Digest | None) -> None:
        """Sets or moves a tag; None removes it."""
        self.tags.pop((repository, tag), None)
        if digest is not None:
            self.tags[repository, tag] = digest
        self.settle()

    def lease(self, repository: str, digest: Digest) -> None:
        """Keeps something as an upload in flight does."""
        self.leases.add(Place(repository, digest))
        self.settle()

    def has(self, repository: str, digest: Digest) -> bool:
        """Tells whether it is still there."""
        return Place(repository, digest) in self.items

    async def total(self, at_most: int) -> int:
        """See `Contents`."""
        await asyncio.sleep(0)
        return min(len(self.items), at_most)

    async def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """See `Contents`."""
        page = [
            Candidate(self.items[place].kind, place.repository, place.digest, self.items[place].size, since)
            for place, since in self.since.items()
            if since <= before
        ]
        for candidate in sorted(page, key=lambda one: self.order(Place(one.repository, one.digest))):
            yield candidate
            await asyncio.sleep(0)

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """See `Contents`."""
        await asyncio.sleep(0)
        removed = []
        for candidate in candidates:
            place = Place(candidate.repository, candidate.digest)
            if self.since.get(place) == candidate.unreached_since and not self.is_part(place):
                del self.items[place]
                self.settle()
                removed.append(candidate)
        return removed

    def is_part(self, place: Place) -> bool:
        """Tells whether a manifest that is there has this part."""
        manifests = (item for other, item in self.items.items() if other.repository == place.repository)
        return any(place.digest in item.parts for item in manifests)

    def order(self, place: Place) -> tuple[int, str, str]:
        """Returns what sorts a manifest before its parts."""
        return -self.depths[place], place.repository, str(place.digest)

    def closure(self, places: Collection[Place]) -> set[Place]:
        """Returns what these reach, themselves included."""
        found, rest = set(), list(places)
        while rest:
            place = rest.pop()
            if place in self.items and place not in found:
                found.add(place)
                rest += self.reached_from(place)
        return found

    def reached_from(self, place: Place) -> Iterable[Place]:
        """Returns what one thing reaches: its parts, and the artifacts of which it is the subject."""
        parts = [Place(place.repository, part) for part in self.items[place].parts]
        return parts + [
            other
            for other, item in self.items.items()
            if other.repository == place.repository and item.subject == place.digest
        ]

    def roots(self) -> set[Place]:
        """Returns what is reached by itself."""
        return self.leases | {Place(repository, digest) for (repository, _), digest in self.tags.items()}

    def settle(self) -> None:
        """Notes since when each thing is unreached."""
        reached, now = self.closure(self.roots()), time.time() - self.ago
        unreached = self.items.keys() - reached
        self.since = {place: self.since.get(place, now) for place in unreached}


class MemoryCollector:
    """Removes what has been unreached for ``grace`` seconds."""

    def __init__(self, grace: float) -> None:
        self.grace = grace

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        """See `Collector`."""
        kept = await self.kept(roots)
        async for candidate in contents.unreached(self.before()):
            if candidate.digest not in kept and (dry_run or await contents.remove([candidate])):
                yield self.removal(candidate)

    async def kept(self, roots: Sequence[SupportsRoots]) -> set[Digest]:
        """Returns what the features need."""
        return {digest for source in roots async for digest in source.roots()}

    def before(self) -> float:
        """Returns when the grace began."""
        return time.time() - self.grace

    def removal(self, candidate: Candidate) -> Removal:
        """Returns a line of the report."""
        return Removal(candidate.digest, candidate.size, "nothing reaches it", candidate.kind, candidate.repository)


@asynccontextmanager
async def open_memory_collector(
    grace: float, kind: type[MemoryCollector] = MemoryCollector
) -> AsyncIterator[MemoryCollector]:
    """Opens a collector; ``kind`` may be a mutant."""
    yield kind(grace)
