"""Collectors, and contents that are lent to them, that each break one rule of `CollectorSuite`."""

import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Literal

from msgspec import structs

from drift_core.api import Candidate, Contents, Digest, Removal, SupportsRoots, Unavailable
from drift_core.conformance.reference.collector import MemoryCollector, MemoryContents, Place


class StopsAtAHundred(MemoryCollector):
    """Removes the first page only."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        count = 0
        async for removal in super().collect(contents, roots, dry_run=dry_run):
            yield removal
            count += 1
            if count == 100:
                return


class ForgetsIndexes(MemoryContents):
    """Keeps no record of the manifests that an index holds."""

    def push(
        self,
        repository: str,
        digest: Digest,
        size: int,
        kind: Literal["blob", "manifest"] = "blob",
        parts: Iterable[Digest] = (),
        subject: Digest | None = None,
    ) -> None:
        blobs = [part for part in parts if self.items[Place(repository, part)].kind == "blob"]
        super().push(repository, digest, size, kind, blobs, subject)


class ForgetsArtifacts(MemoryContents):
    """Follows no manifest to the artifacts about it."""

    def reached_from(self, place: Place) -> Iterable[Place]:
        return [Place(place.repository, part) for part in self.items[place].parts]


class ForgetsLeases(MemoryContents):
    """Follows tags only."""

    def roots(self) -> set[Place]:
        return super().roots() - self.leases


class RemovesEverywhere(MemoryContents):
    """Removes what one repository does not reach from all of them."""

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        removed = await super().remove(candidates)
        digests = {candidate.digest for candidate in removed}
        for place in list(self.items):
            if place.digest in digests:
                del self.items[place]
        return removed


class RefusesTheBatch(MemoryContents):
    """Removes nothing of a batch in which something has to stay."""

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        for candidate in candidates:
            if self.since.get(Place(candidate.repository, candidate.digest)) != candidate.unreached_since:
                return []
        return await super().remove(candidates)


class KeepsTheLastRoots(MemoryCollector):
    """Forgets what one feature said when it asks the next."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        for source in roots[:-1]:
            async for _ in source.roots():
                pass
        async for removal in super().collect(contents, roots[-1:], dry_run=dry_run):
            yield removal


class OverlooksBrokenRoots(MemoryCollector):
    """Goes on with what a feature said before it failed."""

    async def kept(self, roots: Sequence[SupportsRoots]) -> set[Digest]:
        kept: set[Digest] = set()
        for source in roots:
            try:
                async for digest in source.roots():
                    kept.add(digest)
            except Exception:  # noqa: BLE001, S112 - this is what it does wrong
                continue
        return kept


class RemembersRoots(MemoryCollector):
    """Asks the features in its first run only."""

    known: set[Digest] | None = None

    async def kept(self, roots: Sequence[SupportsRoots]) -> set[Digest]:
        self.known = await super().kept(roots) if self.known is None else self.known
        return self.known


class IsInAHurry(MemoryCollector):
    """Waits for a quarter of the grace."""

    def before(self) -> float:
        return time.time() - self.grace / 4


class RemovesInADryRun(MemoryCollector):
    """Does not look at ``dry_run``."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        async for removal in super().collect(contents, roots, dry_run=dry_run and False):
            yield removal


class ReportsNoSizes(MemoryCollector):
    """Does not say how much space was gained."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        async for removal in super().collect(contents, roots, dry_run=dry_run):
            yield structs.replace(removal, size=0)


class ReportsAgain(MemoryCollector):
    """Begins its report with that of the run before."""

    earlier: Collection[Removal] = ()

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        for removal in self.earlier:
            yield removal
        report = []
        async for removal in super().collect(contents, roots, dry_run=dry_run):
            report.append(removal)
            yield removal
        self.earlier = () if dry_run else report


class LooksBeforeItAsks(MemoryCollector):
    """Chooses what to remove before the features have said what they need."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        chosen = {candidate.digest async for candidate in contents.unreached(self.before())}
        chosen -= await self.kept(roots)
        async for candidate in contents.unreached(inf):
            if candidate.digest in chosen and (dry_run or await contents.remove([candidate])):
                yield self.removal(candidate)


class SkipsWhatFails(MemoryCollector):
    """Goes on behind what it could not remove."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        kept = await self.kept(roots)
        with suppress(Unavailable):
            async for candidate in contents.unreached(self.before()):
                with suppress(Unavailable):
                    if candidate.digest not in kept and (dry_run or await contents.remove([candidate])):
                        yield self.removal(candidate)


class StopsAtAPush(MemoryCollector):
    """Ends the run at a blob that was pushed again."""

    stops_at = "blob"

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        kept = await self.kept(roots)
        async for candidate in contents.unreached(self.before()):
            if candidate.digest in kept:
                continue
            if dry_run or await contents.remove([candidate]):
                yield self.removal(candidate)
            elif candidate.kind == self.stops_at:
                return


class StopsAtATag(StopsAtAPush):
    """Ends the run at a manifest that got a tag."""

    stops_at = "manifest"


class ReportsWhatItAskedFor(MemoryCollector):
    """Takes it that a manifest is removed when that was asked for."""

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        kept = await self.kept(roots)
        async for candidate in contents.unreached(self.before()):
            if candidate.digest in kept:
                continue
            if dry_run or await contents.remove([candidate]) or candidate.kind == "manifest":
                yield self.removal(candidate)


class RunsAlone(MemoryCollector):
    """Raises where another run goes on."""

    running = 0

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        if self.running:
            raise RuntimeError("another run goes on")
        self.running += 1
        try:
            async for removal in super().collect(contents, roots, dry_run=dry_run):
                yield removal
        finally:
            self.running -= 1


class StaysCancelled(MemoryCollector):
    """Takes a run that was cancelled to be going on, and leaves the work to it."""

    running = False

    async def collect(
        self, contents: Contents, roots: Sequence[SupportsRoots], *, dry_run: bool
    ) -> AsyncIterator[Removal]:
        if self.running:
            return
        self.running = True
        try:
            async for removal in super().collect(contents, roots, dry_run=dry_run):
                yield removal
        except Exception:
            self.running = False
            raise
        self.running = False


class ForgetsArtifactsOfArtifacts(MemoryContents):
    """Follows no artifact to the artifacts about it, such as the signature of an SBOM."""

    def reached_from(self, place: Place) -> Iterable[Place]:
        if self.items[place].subject is None:
            return super().reached_from(place)
        return [Place(place.repository, part) for part in self.items[place].parts]


MUTANTS: dict[str, type[MemoryCollector | MemoryContents]] = {
    "collector.removes-what-nothing-reaches": StopsAtAHundred,
    "collector.keeps-what-a-tag-reaches": ForgetsIndexes,
    "collector.keeps-referrers": ForgetsArtifacts,
    "collector.keeps-uploads-in-flight": ForgetsLeases,
    "collector.keeps-what-another-repository-has": RemovesEverywhere,
    "collector.keeps-roots": KeepsTheLastRoots,
    "collector.a-broken-root-removes-nothing": OverlooksBrokenRoots,
    "collector.asks-for-roots-in-each-run": RemembersRoots,
    "collector.keeps-within-the-grace": IsInAHurry,
    "collector.dry-run": RemovesInADryRun,
    "collector.report-adds-up": ReportsNoSizes,
    "collector.second-run-is-empty": ReportsAgain,
    "collector.push-while-roots-are-read": LooksBeforeItAsks,
    "collector.push-during-the-run": StopsAtAPush,
    "collector.tag-moved-during-the-run": StopsAtATag,
    "collector.report-without-what-stays": ReportsWhatItAskedFor,
    "collector.a-batch-without-what-stays": RefusesTheBatch,
    "collector.failing-contents": SkipsWhatFails,
    "collector.concurrent-runs": RunsAlone,
    "collector.cancelled-run": StaysCancelled,
    "collector.random-registries": ForgetsArtifactsOfArtifacts,
}
