"""The rules of every `Collector`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import ClassVar, Literal

import pytest
from anyio import to_thread
from anyio.from_thread import BlockingPortal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from drift_core.api import Candidate, Collector, Contents, Digest, Removal, SupportsRoots, Unavailable
from drift_core.conformance.reference.collector import MemoryContents, Place
from drift_core.conformance.rules import Suite

GRACE = 3600.0
"""Seconds of grace with which the rules open a collector."""

LONG_AGO = 2 * GRACE
LIMIT = 30.0
"""Seconds after which a rule takes it that a collection hangs."""

REPOSITORY = "team/app"
OpenCollector = Callable[[float], AbstractAsyncContextManager[Collector]]


class BrokenRootsError(Exception):
    """What a feature raises that cannot say what it needs."""


class Roots:
    """A feature that needs ``digests``; ``error`` is raised behind them."""

    def __init__(self, *digests: Digest, error: Exception | None = None) -> None:
        self.digests = digests
        self.error = error

    async def roots(self) -> AsyncIterator[Digest]:
        """See `SupportsRoots`."""
        for digest in self.digests:
            yield digest
            await asyncio.sleep(0)
        if self.error:
            raise self.error


class Pushing(Roots):
    """A feature during whose answer something is pushed."""

    def __init__(self, push: Callable[[], None]) -> None:
        super().__init__()
        self.push = push

    async def roots(self) -> AsyncIterator[Digest]:
        """See `SupportsRoots`."""
        self.push()
        async for digest in super().roots():
            yield digest


class Failing:
    """Contents of which one call fails, after ``good`` that do not."""

    def __init__(self, contents: Contents, call: str, good: int) -> None:
        self.contents = contents
        self.call = call
        self.good = good

    def fail(self, call: str) -> None:
        """Raises, once."""
        if call == self.call:
            self.good -= 1
            if self.good == -1:
                raise Unavailable("the database is gone")

    async def total(self, at_most: int) -> int:
        """See `Contents`."""
        return await self.contents.total(at_most)

    async def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """See `Contents`."""
        async for candidate in self.contents.unreached(before):
            self.fail("unreached")
            yield candidate

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """See `Contents`."""
        self.fail("remove")
        return await self.contents.remove(candidates)


class Meanwhile:
    """Contents to which something happens when a run is about to remove for the first time, in batches or not."""

    def __init__(self, contents: Contents, happens: Callable[[], None]) -> None:
        self.contents = contents
        self.happens: Callable[[], None] | None = happens

    async def total(self, at_most: int) -> int:
        """See `Contents`."""
        return await self.contents.total(at_most)

    def unreached(self, before: float) -> AsyncIterator[Candidate]:
        """See `Contents`."""
        return self.contents.unreached(before)

    async def remove(self, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """See `Contents`."""
        if self.happens is not None:
            self.happens()
            self.happens = None
        return await self.contents.remove(candidates)


def name(text: str) -> Digest:
    """Returns a digest by which a rule can speak of something."""
    return Digest.of(text.encode())


def garbage(contents: MemoryContents, count: int, ago: float = LONG_AGO) -> dict[Digest, int]:
    """Adds blobs that were reached by nothing for ``ago`` seconds, and returns their sizes."""
    sizes = {name(f"garbage {number}"): 100 + number for number in range(count)}
    contents.ago = ago
    for digest, size in sizes.items():
        contents.push(REPOSITORY, digest, size)
    contents.ago = 0
    return sizes


def image(contents: MemoryContents, prefix: str = "") -> list[Digest]:
    """Adds an index, its manifest, layer, and an artifact about it, all long ago and reached by nothing."""
    index, manifest, layer, artifact = digests = [
        name(prefix + kind) for kind in ("index", "manifest", "layer", "artifact")
    ]
    contents.ago = LONG_AGO
    contents.push(REPOSITORY, layer, 1000)
    contents.push(REPOSITORY, manifest, 10, "manifest", [layer])
    contents.push(REPOSITORY, index, 5, "manifest", [manifest])
    contents.push(REPOSITORY, artifact, 3, "manifest", subject=manifest)
    contents.ago = 0
    return digests


def versions(contents: MemoryContents) -> list[Digest]:
    """Adds manifests, all long ago, of which the first has the tag ``latest``."""
    digests = [name(f"version {number}") for number in range(5)]
    contents.ago = LONG_AGO
    for digest in digests:
        contents.push(REPOSITORY, digest, 7, "manifest")
    contents.tag(REPOSITORY, "latest", digests[0])
    contents.ago = 0
    return digests


def present(contents: MemoryContents) -> set[Digest]:
    """Returns everything that is still there."""
    return {place.digest for place in contents.items}


async def collected(
    collector: Collector, contents: Contents, *roots: SupportsRoots, dry_run: bool = False
) -> list[Removal]:
    """Returns the report of a whole collection."""
    async with asyncio.timeout(LIMIT):
        return [removal async for removal in collector.collect(contents, roots, dry_run=dry_run)]


async def note(removed: set[Digest], removals: AsyncIterator[Removal]) -> None:
    """Adds what a collection removes, also where it then raises."""
    async for removal in removals:
        removed.add(removal.digest)


class Node(Struct, frozen=True):
    """One thing in a random registry; ``parts`` and ``subject`` are the numbers of earlier ones."""

    number: int
    marks: frozenset[str]
    manifest: bool = False
    parts: frozenset[int] = frozenset()
    subject: int | None = None


LAYERED = [
    Node(0, frozenset()),
    Node(1, frozenset({"tagged"}), manifest=True, parts=frozenset({0})),
    Node(2, frozenset(), manifest=True, subject=1),
    Node(3, frozenset(), manifest=True, subject=2),
]
"""An image, and artifacts about artifacts: collected first, so that no luck is needed to miss them."""

MARKS = st.frozensets(st.sampled_from(["tagged", "leased", "rooted", "young"]), max_size=2)
NO_MARKS: st.SearchStrategy[frozenset[str]] = st.just(frozenset())


@st.composite
def registries(draw: st.DrawFn) -> list[Node]:
    """Draws a registry of up to twelve things."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(0, 12))):
        # Most have none, or hardly anything would be garbage.
        marks = draw(st.one_of(NO_MARKS, NO_MARKS, MARKS))
        if number and draw(st.booleans()):
            parts = draw(st.frozensets(st.integers(0, number - 1), max_size=3))
            subject = draw(st.sampled_from([None, *(node.number for node in nodes if node.manifest)]))
            nodes.append(Node(number, marks, True, parts, subject))
        else:
            nodes.append(Node(number, marks))
    return nodes


class CollectorSuite(Suite):
    """Needs the fixture ``open_collector``: ``open_collector(grace_seconds)`` opens a collector with this grace.

    ``contents`` is what it collects, a registry in memory; who lends contents of their own tests them by overriding it.
    """

    family = "collector"
    subject = "collector"
    registries: ClassVar[int] = 100
    """How many random registries are collected."""

    @pytest.fixture
    def contents(self) -> MemoryContents:
        """An empty registry."""
        return MemoryContents()

    @pytest.fixture
    async def collector(self, open_collector: OpenCollector) -> AsyncIterator[Collector]:
        """A collector with an hour of grace."""
        async with open_collector(GRACE) as collector:
            yield collector

    async def test_removes_what_nothing_reaches(self, collector: Collector, contents: MemoryContents) -> None:
        """What nothing has reached for longer than the grace is removed: blobs, manifests, and artifacts about them."""
        image(contents)
        garbage(contents, 500)
        await collected(collector, contents)
        assert not contents.items

    @pytest.mark.parametrize("tagged", ["index", "manifest"])
    async def test_keeps_what_a_tag_reaches(self, collector: Collector, contents: MemoryContents, tagged: str) -> None:
        """A manifest with a tag stays, and all that it reaches: an index's manifests, their layers."""
        index, manifest, layer, _ = image(contents)
        contents.tag(REPOSITORY, "1.0", name(tagged))
        garbage(contents, 1)
        await collected(collector, contents)
        expected = {"index": {index, manifest, layer}, "manifest": {manifest, layer}}[tagged]
        assert expected <= present(contents)
        assert name("garbage 0") not in present(contents)

    async def test_keeps_referrers(self, collector: Collector, contents: MemoryContents) -> None:
        """An artifact stays as long as its subject is reached, such as the signature of an image with a tag."""
        _, manifest, _, artifact = image(contents)
        contents.tag(REPOSITORY, "1.0", manifest)
        garbage(contents, 1)
        await collected(collector, contents)
        assert contents.has(REPOSITORY, artifact)

    async def test_keeps_uploads_in_flight(self, collector: Collector, contents: MemoryContents) -> None:
        """What an upload in flight has leased stays, however long ago it was pushed."""
        kept, *_ = garbage(contents, 3)
        contents.lease(REPOSITORY, kept)
        await collected(collector, contents)
        assert present(contents) == {kept}

    async def test_keeps_what_another_repository_has(self, collector: Collector, contents: MemoryContents) -> None:
        """What one repository no longer reaches stays in another that does."""
        _, manifest, layer, _ = image(contents)
        contents.push("team/other", layer, 1000)
        contents.push("team/other", manifest, 10, "manifest", [layer])
        contents.tag("team/other", "1.0", manifest)
        await collected(collector, contents)
        assert set(contents.items) == {Place("team/other", manifest), Place("team/other", layer)}

    async def test_keeps_roots(self, collector: Collector, contents: MemoryContents) -> None:
        """What any of the features says that it needs stays."""
        first, second, third, last, *rest = garbage(contents, 10)
        await collected(collector, contents, Roots(first, second), Roots(), Roots(third, name("unknown"), last))
        assert present(contents) == {first, second, third, last}
        assert rest

    async def test_a_broken_root_removes_nothing(self, collector: Collector, contents: MemoryContents) -> None:
        """Where one feature cannot say what it needs, its exception is let out and nothing is removed."""
        sizes = garbage(contents, 10)
        first = next(iter(sizes))
        broken = Roots(first, error=BrokenRootsError())
        for roots in ([broken], [Roots(error=BrokenRootsError())], [Roots(), broken], [broken, Roots(first)]):
            with pytest.raises(BrokenRootsError):
                await collected(collector, contents, *roots)
        assert present(contents) == sizes.keys()

    async def test_asks_for_roots_in_each_run(self, collector: Collector, contents: MemoryContents) -> None:
        """What a feature needed in an earlier run, and needs no longer, is removed; what it needs now stays."""
        sizes = garbage(contents, 2)
        earlier, now = sizes
        await collected(collector, contents, Roots(*sizes))
        await collected(collector, contents, Roots(now))
        assert present(contents) == {now}
        assert earlier not in present(contents)

    async def test_keeps_within_the_grace(self, open_collector: OpenCollector, contents: MemoryContents) -> None:
        """What was reached, or pushed, less than the configured grace ago stays."""
        young = garbage(contents, 3, ago=GRACE / 2)
        for grace in (GRACE, 10 * GRACE):
            async with open_collector(grace) as collector:
                await collected(collector, contents)
            assert present(contents) == young.keys()
        async with open_collector(GRACE / 10) as collector:
            await collected(collector, contents)
        assert not contents.items

    async def test_dry_run(self, collector: Collector, contents: MemoryContents) -> None:
        """A dry run removes nothing, and reports what the next run then removes."""
        digests = image(contents)
        root = next(iter(garbage(contents, 10)))
        before = present(contents)
        would = await collected(collector, contents, Roots(root), dry_run=True)
        assert present(contents) == before
        assert {removal.digest for removal in would} >= set(digests)
        assert sorted(would, key=str) == sorted(await collected(collector, contents, Roots(root)), key=str)

    async def test_report_adds_up(self, collector: Collector, contents: MemoryContents) -> None:
        """The report names all that was removed, once, as soon as it has happened, with its size and a reason."""
        contents.push(REPOSITORY, name("kept"), 10, "manifest")
        contents.tag(REPOSITORY, "1.0", name("kept"))
        sizes = garbage(contents, 20)
        report = []
        async for removal in collector.collect(contents, [], dry_run=False):
            assert not contents.has(REPOSITORY, removal.digest)
            assert removal.reason
            report.append((removal.digest, removal.size))
        assert sorted(report) == sorted(sizes.items())

    async def test_second_run_is_empty(self, collector: Collector, contents: MemoryContents) -> None:
        """A second run, with nothing new to remove, reports nothing."""
        garbage(contents, 10)
        assert await collected(collector, contents)
        assert await collected(collector, contents) == []

    async def test_push_while_roots_are_read(self, collector: Collector, contents: MemoryContents) -> None:
        """What is pushed, or pushed again, while the features say what they need stays, and is not reported."""
        sizes = garbage(contents, 10)
        again, new = sorted(sizes)[::3], name("new")

        def push() -> None:
            for digest in (*again, new):
                contents.push(REPOSITORY, digest, sizes.get(digest, 1))

        report = await collected(collector, contents, Roots(), Pushing(push), Roots())
        assert present(contents) == {*again, new}
        assert {removal.digest for removal in report} == sizes.keys() - set(again)

    async def test_push_during_the_run(self, collector: Collector, contents: MemoryContents) -> None:
        """What is pushed again while the run goes on stays, is not reported, and does not end the run."""
        sizes = garbage(contents, 30)
        pushed = sorted(sizes)[::3]

        def push() -> None:
            for digest in pushed:
                contents.push(REPOSITORY, digest, sizes[digest])

        report = await collected(collector, Meanwhile(contents, push))
        assert present(contents) == set(pushed)
        assert {removal.digest for removal in report} == sizes.keys() - set(pushed)

    async def test_tag_moved_during_the_run(self, collector: Collector, contents: MemoryContents) -> None:
        """A tag that moves to an old manifest while the run goes on keeps it, and the grace of the other begins."""
        new, *old = versions(contents)
        garbage(contents, 5)
        moved = min(old)
        await collected(collector, Meanwhile(contents, lambda: contents.tag(REPOSITORY, "latest", moved)))
        assert present(contents) == {new, moved}

    async def test_report_without_what_stays(self, collector: Collector, contents: MemoryContents) -> None:
        """What the registry was asked to remove and did not, such as a manifest that got a tag, is not reported."""
        _, *old = versions(contents)
        before = present(contents)
        lent = Meanwhile(contents, lambda: contents.tag(REPOSITORY, "old", min(old)))
        report = await collected(collector, lent)
        assert {removal.digest for removal in report} == before - present(contents)

    async def test_a_batch_without_what_stays(self, contents: MemoryContents) -> None:
        """Of a batch the registry removes all but what was pushed again meanwhile, and parts behind their manifest."""
        image(contents)
        again, *_ = sizes = garbage(contents, 3)
        batch = [candidate async for candidate in contents.unreached(inf)]
        assert {candidate.digest for candidate in batch} == present(contents)
        contents.push(REPOSITORY, again, sizes[again])
        removed = await contents.remove(batch)
        assert list(removed) == [candidate for candidate in batch if candidate.digest != again]
        assert present(contents) == {again}

    @pytest.mark.parametrize(("call", "good"), [("unreached", 3), ("remove", 0)])
    async def test_failing_contents(self, collector: Collector, contents: MemoryContents, call: str, good: int) -> None:
        """Where the registry cannot say what it holds, or not remove it, the run ends there, and says why."""
        sizes = garbage(contents, 9)
        removed: set[Digest] = set()
        with pytest.raises(Unavailable):
            await note(removed, collector.collect(Failing(contents, call, good), [], dry_run=False))
        assert present(contents) == sizes.keys() - removed
        await collected(collector, contents)
        assert not contents.items

    async def test_concurrent_runs(self, collector: Collector, contents: MemoryContents) -> None:
        """Two runs at once, as of two operators, remove everything, and each thing is in one of the reports."""
        sizes = garbage(contents, 50)
        async with asyncio.timeout(LIMIT):
            reports = await asyncio.gather(*(collected(collector, contents) for _ in range(2)))
        assert not contents.items
        assert sorted(removal.digest for report in reports for removal in report) == sorted(sizes)

    async def test_cancelled_run(self, collector: Collector, contents: MemoryContents) -> None:
        """After a run that was cancelled at any point, the next removes the rest and nothing else."""
        for steps in range(0, 40, 3):
            contents.push(REPOSITORY, name("kept"), 10, "manifest")
            contents.tag(REPOSITORY, "1.0", name("kept"))
            garbage(contents, 10)
            run = asyncio.create_task(collected(collector, contents))
            for _ in range(steps):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait([run])
            await collected(collector, contents)
            assert present(contents) == {name("kept")}

    async def test_random_registries(self, open_collector: OpenCollector) -> None:
        """In any registry, exactly that goes which no tag, lease or feature reaches and which is past its grace."""

        @settings(
            max_examples=self.registries,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(registries())
        @example(LAYERED)
        def explore(nodes: list[Node]) -> None:
            portal.call(collect_random, nodes, open_collector)

        async with BlockingPortal() as portal:
            await to_thread.run_sync(explore)


async def collect_random(nodes: Sequence[Node], open_collector: OpenCollector) -> None:
    """Fills a registry, collects it, and compares it with what `reach` says."""
    contents = MemoryContents()
    digests = [name(f"node {number}") for number in range(len(nodes))]
    for ago, pushed in ((LONG_AGO, nodes), (GRACE / 2, [node for node in nodes if "young" in node.marks])):
        contents.ago = ago
        for node in pushed:
            kind: Literal["blob", "manifest"] = "manifest" if node.manifest else "blob"
            parts = [digests[part] for part in sorted(node.parts)]
            subject = None if node.subject is None else digests[node.subject]
            contents.push(REPOSITORY, digests[node.number], 1, kind, parts, subject)
    for node in nodes:
        if "tagged" in node.marks and node.manifest:
            contents.tag(REPOSITORY, f"tag-{node.number}", digests[node.number])
        if "leased" in node.marks:
            contents.lease(REPOSITORY, digests[node.number])
    rooted = reach(nodes, {node.number for node in nodes if "rooted" in node.marks}, artifacts=False)
    reached = {
        node.number
        for node in nodes
        if "leased" in node.marks or "young" in node.marks or ("tagged" in node.marks and node.manifest)
    }
    async with open_collector(GRACE) as collector:
        await collected(collector, contents, Roots(*(digests[number] for number in rooted)))
    assert present(contents) == {digests[number] for number in rooted | reach(nodes, reached, artifacts=True)}


def reach(nodes: Sequence[Node], numbers: set[int], *, artifacts: bool) -> set[int]:
    """Returns ``numbers`` and what they reach: parts, and ``artifacts`` about them."""
    found = set(numbers)
    while True:
        parts = {part for node in nodes if node.number in found for part in node.parts}
        about = {node.number for node in nodes if artifacts and node.subject in found}
        if parts | about <= found:
            return found
        found |= parts | about
