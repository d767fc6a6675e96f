"""Random pushes, deletions, tags, mounts, referrers, restores and collections, beside a model of what is reached."""

import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, update

from drift_core.config import load
from drift_core.conformance.reference.collector import MemoryCollector
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore
from drift_core.metadata.database import Database, open_database
from drift_core.metadata.migrations import migrate
from drift_core.metadata.reach import total
from drift_core.metadata.tables import blobs, purges, unreached
from drift_core.metadata.tables import trash as thrown
from drift_core.metrics import Metrics
from drift_core.model import Digest, Identity
from drift_core.registry.changes import Changes
from drift_core.registry.collecting import Report
from drift_core.registry.fsck import Check, Finding
from drift_core.registry.local import Local
from drift_core.registry.registry import Registry
from drift_core.registry.trash import BATCH, LONGEST_REST, OWN_SECONDS
from drift_core.runtime import rules_of
from drift_core.trail import Trail

IMAGE, INDEX = "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"
REPOSITORIES = ("team/app", "team/base")
HOUR = 3600.0
MEMORY = Path("/dev/shm")
"""Whether a commit is durable is tested elsewhere."""
OPERATOR = Identity("operator", "test")

repositories = st.sampled_from(REPOSITORIES)
numbers = st.integers(0, 5)
tags = st.sampled_from(("v1", "v2"))


class Manifest(msgspec.Struct, frozen=True):
    """What the model knows of a manifest."""

    content: bytes
    media_type: str
    blobs: frozenset[Digest]
    children: frozenset[Digest]
    subject: Digest | None

    @property
    def digest(self) -> Digest:
        return Digest.of(self.content)


class Shelf:
    """What the model knows of a repository."""

    def __init__(self) -> None:
        self.blobs: set[Digest] = set()
        self.manifests: dict[Digest, Manifest] = {}
        self.tags: dict[str, Digest] = {}
        self.wanted: set[Digest] = set()

    def reached(self, *more: Digest) -> set[Digest]:
        """Returns what tags reach, and ``more``; a tag of cosign's counts as long as its subject does."""
        roots = {digest for tag, digest in self.tags.items() if self._subject(tag) is None}
        found: set[Digest] = set()
        rest = [*roots, *more]
        while rest:
            digest = rest.pop()
            if digest in found:
                continue
            found.add(digest)
            if digest in self.manifests:
                manifest = self.manifests[digest]
                rest += [*manifest.blobs, *manifest.children]
                rest += [other for other, one in self.manifests.items() if one.subject == digest]
                rest += [named for tag, named in self.tags.items() if self._subject(tag) == digest]
        return found & (self.blobs | self.manifests.keys())

    def keep(self, kept: set[Digest]) -> None:
        # A tag goes with what it is about, also where its own manifest stays.
        about = {tag: self._subject(tag) for tag in self.tags}
        self.tags = {tag: digest for tag, digest in self.tags.items() if about[tag] is None or about[tag] in kept}
        self.blobs &= kept
        self.manifests = {digest: one for digest, one in self.manifests.items() if digest in kept}
        self.tags = {tag: digest for tag, digest in self.tags.items() if digest in self.manifests}

    def _subject(self, tag: str) -> Digest | None:
        """Returns the manifest that a tag is about, while it is there."""
        return next((one for one in self.manifests if tag == f"{one.replace(':', '-')}.sig"), None)


def blob(number: int) -> bytes:
    return b"blob %d" % number


def descriptor(digest: str, size: int, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


@cache
def empty_database() -> bytes:
    """Returns a file of SQLite with all tables, which takes a second to make."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "drift.db"
        migrate(f"sqlite:///{file}")
        return file.read_bytes()


class Collections(RuleBasedStateMachine):
    """The registry without HTTP, on SQLite, with its bytes in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.shelves = {name: Shelf() for name in REPOSITORIES}
        self.gone: dict[tuple[str, Digest], Manifest] = {}
        self.folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.portal_manager = start_blocking_portal()
        self.portal: BlockingPortal = self.portal_manager.__enter__()
        self.opened = self.portal.wrap_async_context_manager(self._open())
        self.registry, self.local, self.database, self.store = self.opened.__enter__()

    def _open(self) -> AbstractAsyncContextManager[tuple[Registry, Local, Database, MemoryStore]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Registry, Local, Database, MemoryStore]]:
            file = Path(self.folder.name) / "drift.db"
            file.write_bytes(empty_database())
            async with open_database(f"sqlite:///{file}") as database:
                store = MemoryStore(MemoryPlace())
                rules = rules_of(load(None, {}, ("registry.min_age_days=0", "registry.immutable_tags=[]")))
                changes = Changes([], frozenset(), 5.0, Metrics(), Trail())
                registry = Registry(database, store, rules, changes, Metrics(), MemoryCollector(HOUR))
                yield registry, Local(registry, database, OPERATOR), database, store

        return opened()

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.portal_manager.__exit__(None, None, None)
        self.folder.cleanup()

    def do(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self.portal.call(call)

    @initialize()
    def begin(self) -> None:
        """Otherwise most walks would have nothing to take away for a long while."""
        for repository in REPOSITORIES:
            self.push_image(repository, {0, 1}, {"v1"}, 0)

    @rule(repository=repositories, number=numbers, kind=st.sampled_from(("push", "mount", "head")))
    def touch(self, repository: str, number: int, kind: str) -> None:
        {"push": self.push_blob, "mount": self.mount, "head": self.head}[kind](repository, number)

    def push_blob(self, repository: str, number: int) -> None:
        content = blob(number)

        async def chunks() -> AsyncIterator[bytes]:
            yield content

        digest = Digest.of(content)
        self.do(lambda: self.local.push_blob(repository, digest, chunks()))
        self.shelves[repository].blobs.add(digest)
        self.shelves[repository].wanted.add(digest)

    def mount(self, repository: str, number: int) -> None:
        digest = Digest.of(blob(number))
        mounted = self.do(lambda: self.local.mount_blob(repository, digest))
        assert mounted == any(digest in shelf.blobs for shelf in self.shelves.values())
        if mounted:
            self.shelves[repository].blobs.add(digest)
            self.shelves[repository].wanted.add(digest)

    def head(self, repository: str, number: int) -> None:
        digest = Digest.of(blob(number))
        held = self.do(lambda: self.registry.blobs.leases.take(repository, digest))
        assert held == (digest in self.shelves[repository].blobs)
        # What was leased a moment ago is remembered: as if the time had passed.
        self.registry.blobs.leases._held.clear()
        if held:
            self.shelves[repository].wanted.add(digest)

    @rule(
        repository=repositories,
        layers=st.sets(numbers, min_size=1, max_size=3),
        named=st.sets(tags, max_size=1),
        unique=st.integers(0, 1),
    )
    def push_image(self, repository: str, layers: set[int], named: set[str], unique: int) -> None:
        for number in sorted(layers):
            if Digest.of(blob(number)) not in self.shelves[repository].blobs:
                self.push_blob(repository, number)
        parts = [Digest.of(blob(number)) for number in sorted(layers)]
        self._push(repository, False, parts, None, sorted(named), unique)

    @precondition(lambda self: any(shelf.manifests for shelf in self.shelves.values()))
    @rule(data=st.data(), named=st.sets(tags, max_size=1), unique=st.integers(0, 1), whole=st.booleans())
    def push_index(self, data: st.DataObject, named: set[str], unique: int, whole: bool) -> None:
        repository = self._filled(data)
        manifests = sorted(self.shelves[repository].manifests)
        parts = sorted(data.draw(st.sets(st.sampled_from(manifests), min_size=1, max_size=3)))
        # One of them may be its subject, too: a circle.
        subject = None if whole else data.draw(st.sampled_from(manifests))
        self._push(repository, True, parts, subject, sorted(named), unique)

    @precondition(lambda self: any(shelf.manifests for shelf in self.shelves.values()))
    @rule(data=st.data(), number=numbers, by_tag=st.booleans())
    def push_referrer(self, data: st.DataObject, number: int, by_tag: bool) -> None:
        """By its subject, or as cosign does: beside the subject, by a tag."""
        repository = self._filled(data)
        subject = data.draw(st.sampled_from(sorted(self.shelves[repository].manifests)))
        self.push_blob(repository, number)
        named = [f"{subject.replace(':', '-')}.sig"] if by_tag else []
        self._push(repository, False, [Digest.of(blob(number))], None if by_tag else subject, named, 2)

    def _filled(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([name for name in REPOSITORIES if self.shelves[name].manifests]))

    def _push(
        self, repository: str, index: bool, parts: list[Digest], subject: Digest | None, named: list[str], unique: int
    ) -> None:
        shelf = self.shelves[repository]
        media_type = INDEX if index else IMAGE
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "annotations": {"n": str(unique)}}
        if index:
            document["manifests"] = [descriptor(d, len(shelf.manifests[d].content), IMAGE) for d in parts]
        else:
            sizes = {Digest.of(blob(number)): len(blob(number)) for number in range(6)}
            layers = [descriptor(d, sizes[d], "application/octet-stream") for d in parts]
            document |= {"config": layers[0], "layers": layers[1:]}
        if subject is not None:
            document["subject"] = descriptor(subject, len(shelf.manifests[subject].content), IMAGE)
        content = json.dumps(document).encode()
        nothing = frozenset[Digest]()
        children, held = (frozenset(parts), nothing) if index else (nothing, frozenset(parts))
        manifest = Manifest(content, media_type, held, children, subject)
        self.do(lambda: self.local.push_manifest(repository, content, None, manifest.digest, named))
        shelf.manifests[manifest.digest] = manifest
        shelf.wanted.add(manifest.digest)
        for tag in named:
            if shelf.tags.get(tag) not in (None, manifest.digest):
                shelf.wanted.add(shelf.tags[tag])
            shelf.tags[tag] = manifest.digest

    @precondition(lambda self: any(shelf.tags for shelf in self.shelves.values()))
    @rule(data=st.data())
    def delete_tag(self, data: st.DataObject) -> None:
        shelves = [(name, tag) for name, shelf in sorted(self.shelves.items()) for tag in sorted(shelf.tags)]
        repository, tag = data.draw(st.sampled_from(shelves))
        self.do(lambda: self.registry.manifests.delete_tag(repository, tag, None))
        self.shelves[repository].wanted.add(self.shelves[repository].tags.pop(tag))

    @precondition(lambda self: any(shelf.manifests for shelf in self.shelves.values()))
    @rule(data=st.data())
    def delete_manifest(self, data: st.DataObject) -> None:
        repository = self._filled(data)
        shelf = self.shelves[repository]
        digest = data.draw(st.sampled_from(sorted(shelf.manifests)))
        self.do(lambda: self.registry.manifests.delete(repository, digest, None))
        # Its parts and its artifacts have their time of grace from now on.
        manifest = shelf.manifests[digest]
        artifacts = {other for other, one in shelf.manifests.items() if one.subject == digest}
        scheme = f"{digest.replace(':', '-')}.sig"
        artifacts |= {named for tag, named in shelf.tags.items() if tag == scheme}
        shelf.wanted |= manifest.blobs | manifest.children | artifacts
        del shelf.manifests[digest]
        shelf.tags = {tag: named for tag, named in shelf.tags.items() if named != digest and tag != scheme}
        self.gone[repository, digest] = manifest

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        repository, digest = data.draw(st.sampled_from(sorted(self.gone)))
        self.do(lambda: self._restore(repository, digest))
        assert digest in self._there(repository), "what was just removed comes back"
        self._adopt(repository)
        del self.gone[repository, digest]

    async def _restore(self, repository: str, digest: Digest) -> None:
        async for one in self.registry.trash.listed(repository, digest):
            await self.registry.trash.restore(one, OPERATOR)

    def _there(self, repository: str) -> set[Digest]:
        found: set[Digest] = self.do(lambda: self.local.held_manifests(repository, [*self._every()]))
        return {Digest(digest) for digest in found}

    def _every(self) -> set[Digest]:
        known = {digest for shelf in self.shelves.values() for digest in shelf.manifests}
        return known | {digest for _, digest in self.gone}

    def _adopt(self, repository: str) -> None:
        """Takes over into the model what a restore has brought back, which is as if pushed."""
        shelf = self.shelves[repository]
        for digest in self._there(repository) - shelf.manifests.keys():
            shelf.manifests[digest] = self.gone[repository, digest]
            shelf.wanted.add(digest)
        every = [Digest.of(blob(number)) for number in range(6)]
        for held in self.do(lambda: self.local.held_blobs(repository, every)):
            shelf.wanted |= {Digest(held)} - shelf.blobs
            shelf.blobs.add(Digest(held))
        named = self.do(lambda: self._tags(repository))
        shelf.wanted |= {digest for tag, digest in named.items() if tag not in shelf.tags}
        shelf.tags = named

    @rule(kind=st.sampled_from(("at once", "after hours", "after hours", "purge")))
    def collect(self, kind: str) -> None:
        {"at once": self._collect_at_once, "after hours": self._collect_after_hours, "purge": self._purge}[kind]()

    def _collect_at_once(self) -> None:
        """What was reached, or wanted, within the last hour stays, with all its parts."""
        self._collect()
        for repository, shelf in self.shelves.items():
            kept = shelf.reached(*shelf.wanted)
            held = self._held(repository)
            assert kept <= held, f"lost {kept - held}"
            self._note_gone(repository, held)
            shelf.keep(held)
        self._check_whole()

    def _collect_after_hours(self) -> None:
        """Exactly that goes which no tag reaches."""
        self._age()
        # Mostly one run; what holds each other in circles of subjects and indexes may take another.
        for _ in range(4):
            self._collect()
        for repository, shelf in self.shelves.items():
            kept = shelf.reached()
            held = self._held(repository)
            assert held == kept, f"lost {kept - held}, left {held - kept}"
            self._note_gone(repository, held)
            shelf.keep(kept)
            shelf.wanted.clear()
        assert self._collect(dry_run=True) == 0, "a dry run finds nothing that the runs have left"
        self._check_whole()

    def _note_gone(self, repository: str, held: set[Digest]) -> None:
        for digest, manifest in self.shelves[repository].manifests.items():
            if digest not in held:
                self.gone[repository, digest] = manifest

    def _purge(self) -> None:
        """Bytes that nobody holds go, and only those."""
        self._age(trash=True)
        self.do(lambda: self.registry.trash.purge(self.registry.write))
        self.gone.clear()
        held = {digest for shelf in self.shelves.values() for digest in shelf.blobs}
        assert {stat.digest for stat in self.do(self._stored)} == held
        for shelf in self.shelves.values():
            shelf.wanted.clear()
        self._check_whole()

    async def _stored(self) -> list[Any]:
        return [stat async for stat in self.store.scan()]

    def _age(self, *, trash: bool = False) -> None:
        hours = 100 * HOUR

        def older(db: Any) -> None:
            for column in (unreached.c.since, *([thrown.c.removed_at, blobs.c.wanted_at] if trash else [])):
                db.execute(column.table.update().values({column: column - hours}))

        self.do(lambda: self.database.write(older))
        self.registry.blobs.leases._held.clear()

    def _collect(self, *, dry_run: bool = False) -> int:
        report: Report = self.do(lambda: self._run(dry_run=dry_run))
        return report.blobs_deleted + report.manifests_deleted

    async def _run(self, *, dry_run: bool) -> Report:
        items = [item async for item in self.registry.collecting.run("command", OPERATOR, dry_run=dry_run)]
        assert isinstance(items[-1], Report)
        return items[-1]

    def _held(self, repository: str) -> set[Digest]:
        shelf = self.shelves[repository]
        held = self.do(lambda: self.local.held_blobs(repository, sorted(shelf.blobs)))
        return {Digest(digest) for digest in held} | (self._there(repository) & shelf.manifests.keys())

    def _check_whole(self) -> None:
        """Bytes and records agree, and every tag names what it should."""
        for finding in self.do(self._check):
            assert not isinstance(finding, Finding), finding
        for repository, shelf in self.shelves.items():
            named = self.do(lambda repository=repository: self._tags(repository))
            assert named == shelf.tags

    async def _tags(self, repository: str) -> dict[str, Digest]:
        return {tag.name: tag.digest async for tag in self.local.tags(repository)}

    async def _check(self) -> list[Any]:
        check = Check(self.database, self.store, repair=False, read_bytes=True, sparse_manifests=False)
        return [item async for item in check.run()]


WALK = settings(
    max_examples=40,
    stateful_step_count=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

TestCollections = Collections.TestCase
TestCollections.settings = WALK


@pytest.mark.soak
def test_many_collections() -> None:
    run_state_machine_as_test(Collections, settings=settings(WALK, max_examples=400, derandomize=False))


def test_what_stands_for_a_signature_of_itself_reaches_nothing() -> None:
    """A tag of cosign's scheme that names its own subject: random walks find it now and then."""
    walk = Collections()
    try:
        parts = [Digest.of(blob(0))]
        walk.push_image("team/app", {0}, set(), 0)
        (digest,) = walk.shelves["team/app"].manifests
        walk._push("team/app", False, parts, None, [f"{digest.replace(':', '-')}.sig"], 0)
        walk.collect(kind="after hours")
        assert not walk.shelves["team/app"].manifests
    finally:
        walk.teardown()


def test_a_purge_leaves_time_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    walk = Collections()
    try:
        for number in range(2 * BATCH + 1):
            walk.push_blob("team/app", number)
        walk._age()
        walk._collect()
        walk._age(trash=True)
        monkeypatch.setattr("drift_core.registry.trash.asyncio", SimpleNamespace(sleep=rest))
        walk.do(lambda: walk.registry.trash.purge(walk.registry.write, share=0.1))
        assert walk.do(walk._stored) == []
        assert [0 < seconds <= LONGEST_REST for seconds in rests] == [True, True]
    finally:
        walk.teardown()


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_slow_removal_goes_on_unless_taken_over(monkeypatch: pytest.MonkeyPatch, taken_over: bool) -> None:
    walk = Collections()
    delete, clock = walk.store.delete, SimpleNamespace(now=time.monotonic())

    async def slow(digest: Digest) -> None:
        await delete(digest)
        clock.now += 2 * OWN_SECONDS
        if taken_over:
            await walk.registry.write(lambda db: db.execute(update(purges).values(claimed_at=time.time() + HOUR)))

    try:
        for number in range(3):
            walk.push_blob("team/app", number)
        walk._age()
        walk._collect()
        walk._age(trash=True)
        monkeypatch.setattr(walk.store, "delete", slow)
        monkeypatch.setattr("drift_core.registry.trash.time", SimpleNamespace(monotonic=lambda: clock.now))
        walk.do(lambda: walk.registry.trash.purge(walk.registry.write))
        claimed = walk.do(lambda: walk.database.read(lambda db: db.execute(select(purges.c.digest)).scalars().all()))
        assert len(walk.do(walk._stored)) == (2 if taken_over else 0)
        assert len(claimed) == (3 if taken_over else 0)
    finally:
        walk.teardown()


def test_a_blob_counts_for_each_repository_that_holds_it() -> None:
    walk = Collections()
    try:
        for repository in REPOSITORIES:
            for number in range(3):
                walk.push_blob(repository, number)
        assert walk.do(lambda: walk.database.read(lambda db: total(db, 100))) == 3 * len(REPOSITORIES)
    finally:
        walk.teardown()
