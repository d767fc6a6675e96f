"""Remembers what a registry has acknowledged, what was in flight when it died, and holds the registry to it."""

import hashlib
import itertools
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.oci.content import Blob, Document
from tests.oci.wire import Answer, Wire
from tests.server import Server

REQUESTS_PER_CONNECTION = 25
"""After so many requests a reader connects anew, so that every worker is asked."""

Key = tuple[str, str]
"""A repository, and a digest or tag in it."""


@dataclass
class TagWrite:
    """One push to a tag: which digest, and when it was sent and acknowledged (None: never)."""

    digest: str
    sent: int
    acknowledged: int | None = None


@dataclass
class Upload:
    """An upload that was left before its end: what was acknowledged of it, and whether its commit was under way."""

    repository: str
    location: str
    blob: Blob
    acknowledged: int = 0
    committing: bool = False


@dataclass
class Ledger:
    """Facts, each acknowledged by a complete answer, and what may or may not have happened; safe among threads.

    ``fresh`` are the facts that nobody has read back yet.
    """

    blobs: dict[Key, int] = field(default_factory=dict)
    manifests: dict[Key, Document] = field(default_factory=dict)
    tags: dict[Key, list[TagWrite]] = field(default_factory=dict)
    fresh: set[Key] = field(default_factory=set)
    uncertain_blobs: set[Key] = field(default_factory=set)
    uncertain_manifests: dict[Key, Document] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    _clock: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send_blob(self, repository: str, digest: str) -> None:
        """Notes that from now on a blob may be there."""
        with self._lock:
            if (repository, digest) not in self.blobs:
                self.uncertain_blobs.add((repository, digest))

    def acknowledge_blob(self, repository: str, digest: str, size: int) -> None:
        """Notes that a blob is there."""
        with self._lock:
            self.blobs[repository, digest] = size
            self.uncertain_blobs.discard((repository, digest))
            self.fresh.add((repository, digest))

    def send_manifest(self, repository: str, manifest: Document, tag: str | None) -> TagWrite | None:
        """Notes that from now on a manifest may be there, and its tag may name it."""
        with self._lock:
            if (repository, manifest.digest) not in self.manifests:
                self.uncertain_manifests[repository, manifest.digest] = manifest
            if tag is None:
                return None
            write = TagWrite(manifest.digest, next(self._clock))
            self.tags.setdefault((repository, tag), []).append(write)
            return write

    def acknowledge_manifest(self, repository: str, manifest: Document, write: TagWrite | None) -> None:
        """Notes that a manifest is there, and that its tag named it at some time between sending and now."""
        with self._lock:
            self.manifests[repository, manifest.digest] = manifest
            self.uncertain_manifests.pop((repository, manifest.digest), None)
            self.fresh.add((repository, manifest.digest))
            if write is not None:
                write.acknowledged = next(self._clock)

    def leave_upload(self, upload: Upload) -> None:
        """Notes that somebody will want to go on with an upload."""
        with self._lock:
            self.uploads.append(upload)

    def choose_blob(self, chance: random.Random) -> tuple[Key, int] | None:
        """Returns a blob that is there, or None while there is none."""
        with self._lock:
            return chance.choice(sorted(self.blobs.items())) if self.blobs else None

    def choose_manifests(self, chance: random.Random, repository: str, most: int) -> list[Document]:
        """Returns manifests that are in a repository, at most ``most``."""
        with self._lock:
            there = sorted(key for key in self.manifests if key[0] == repository)
            return [self.manifests[key] for key in chance.sample(there, min(most, len(there)))]

    def possible(self, key: Key) -> set[str | None]:
        """Returns what a tag may name now; None is "no such tag".

        A write is out only if a later one, sent after it was acknowledged, was acknowledged too.
        """
        writes = self.tags[key]
        acknowledged = [write for write in writes if write.acknowledged is not None]
        found: set[str | None] = {
            write.digest
            for write in writes
            if write.acknowledged is None or not any(later.sent > write.acknowledged for later in acknowledged)
        }
        return found if acknowledged else {*found, None}


class Reader:
    """Reads over connections that are renewed now and then, so that every worker has to answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wire: Wire | None = None
        self._left = 0

    def ask(self, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
        """Sends one request; the answer must come, and must not tell of a failure of the server."""
        if self._wire is None or self._left == 0:
            self.close()
            self._wire, self._left = Wire(self._server), REQUESTS_PER_CONNECTION
        self._left -= 1
        answer = self._wire.exchange(method, target, body, **headers)
        assert answer.status < 500, f"{method} {target}: {answer}"
        return answer

    def close(self) -> None:
        if self._wire is not None:
            self._wire.__exit__()
            self._wire = None


@dataclass
class Seen:
    """What a verification came across; ``lost`` are uploads that cannot go on."""

    facts: int = 0
    uncertain_there: int = 0
    uncertain_gone: int = 0
    resumed: int = 0
    found_committed: int = 0
    lost: list[str] = field(default_factory=list)


def verify(ledger: Ledger, server: Server, chance: random.Random, sample: int | None) -> Seen:
    """Holds a server, to which nobody pushes now, to the ledger; what it sees becomes fact.

    Reads back every fact that nobody has read yet, all tags, and ``sample`` of the older facts (None: all of them);
    goes on with most of the interrupted uploads.
    """
    reader, seen = Reader(server), Seen()
    try:
        _settle_blobs(ledger, reader, seen)
        _settle_manifests(ledger, reader, seen)
        _resume_uploads(ledger, reader, chance, seen, every=sample is None)
        _settle_tags(ledger, reader)
        known = sorted({*ledger.blobs, *ledger.manifests} - ledger.fresh)
        older = known if sample is None else chance.sample(known, min(sample, len(known)))
        for repository, digest in [*sorted(ledger.fresh), *older]:
            _check_fact(ledger, reader, repository, digest)
            seen.facts += 1
        ledger.fresh.clear()
        _check_lists(ledger, reader)
    finally:
        reader.close()
    return seen


def _has(reader: Reader, repository: str, digest: str) -> int | None:
    """Returns the size of a blob, or None for 404; any other answer, and other bytes, are failures."""
    answer = reader.ask("GET", f"/v2/{repository}/blobs/{digest}")
    if answer.status == 404:
        return None
    assert answer.status == 200, f"{repository}@{digest}: {answer.status}"
    assert f"sha256:{hashlib.sha256(answer.body).hexdigest()}" == digest, f"{repository}@{digest} is not whole"
    return len(answer.body)


def _settle_blobs(ledger: Ledger, reader: Reader, seen: Seen) -> None:
    for repository, digest in sorted(ledger.uncertain_blobs):
        size = _has(reader, repository, digest)
        if size is None:
            seen.uncertain_gone += 1
        else:
            seen.uncertain_there += 1
            ledger.acknowledge_blob(repository, digest, size)
    ledger.uncertain_blobs.clear()


def _settle_manifests(ledger: Ledger, reader: Reader, seen: Seen) -> None:
    for (repository, digest), manifest in sorted(ledger.uncertain_manifests.items()):
        answer = reader.ask("GET", f"/v2/{repository}/manifests/{digest}", accept=manifest.media_type)
        if answer.status == 404:
            seen.uncertain_gone += 1
            continue
        assert answer.body == manifest.content, f"{repository}@{digest}: {answer.status}"
        seen.uncertain_there += 1
        ledger.acknowledge_manifest(repository, manifest, None)
    ledger.uncertain_manifests.clear()


def _settle_tags(ledger: Ledger, reader: Reader) -> None:
    for (repository, tag), writes in sorted(ledger.tags.items()):
        answer = reader.ask("GET", f"/v2/{repository}/manifests/{tag}", accept="*/*")
        named = answer.headers["docker-content-digest"] if answer.status == 200 else None
        assert answer.status in {200, 404}, answer
        possible = ledger.possible((repository, tag))
        assert named in possible, f"{repository}:{tag} names {named}, and could only name {possible}: {writes}"
        if named is not None:
            assert answer.body == ledger.manifests[repository, named].content
        # Nobody writes now, and what was in flight died with its worker: this is what the tag stays.
        ledger.tags[repository, tag] = [] if named is None else [TagWrite(named, -1, -1)]


def _resume_uploads(ledger: Ledger, reader: Reader, chance: random.Random, seen: Seen, *, every: bool) -> None:
    later = []
    for upload in ledger.uploads:
        if not every and not upload.committing and chance.random() < 0.3:
            later.append(upload)
        else:
            _resume(ledger, reader, upload, seen)
    ledger.uploads = later


def _resume(ledger: Ledger, reader: Reader, upload: Upload, seen: Seen) -> None:
    blob, name = upload.blob, f"{upload.repository}: upload of {upload.blob.digest}"
    status = reader.ask("GET", upload.location)
    if status.status == 404 and upload.committing:
        # Its commit was under way: then either the blob is there, or the upload is, or the commit can be repeated.
        if _has(reader, upload.repository, blob.digest) == blob.size:
            seen.found_committed += 1
        elif reader.ask("PUT", f"{upload.location}?digest={blob.digest}").status == 201:
            seen.resumed += 1
        else:
            seen.lost.append(name)
            return
        ledger.acknowledge_blob(upload.repository, blob.digest, blob.size)
        return
    assert status.status == 204, f"{name}: {status}"
    last = int(status.headers["range"].removeprefix("0-"))
    # 0-0 is what an upload of one byte says, and one of none.
    held = last + 1 if last else min(upload.acknowledged, 1)
    assert upload.acknowledged <= held <= blob.size, f"{name}: holds {held}, acknowledged {upload.acknowledged}"
    location = upload.location
    if held < blob.size:
        rest = blob.content[held:]
        answer = reader.ask("PATCH", location, rest, content_range=f"{held}-{blob.size - 1}")
        assert answer.status == 202, f"{name}: {answer}"
        location = answer.headers["location"]
    answer = reader.ask("PUT", f"{location}?digest={blob.digest}")
    assert answer.status == 201, f"{name}: {answer}"
    seen.resumed += 1
    ledger.acknowledge_blob(upload.repository, blob.digest, blob.size)


def _check_fact(ledger: Ledger, reader: Reader, repository: str, digest: str) -> None:
    size = ledger.blobs.get((repository, digest))
    if size is not None:
        assert _has(reader, repository, digest) == size, f"{repository}@{digest} was acknowledged and is gone"
    manifest = ledger.manifests.get((repository, digest))
    if manifest is not None:
        answer = reader.ask("GET", f"/v2/{repository}/manifests/{digest}", accept=manifest.media_type)
        assert answer.status == 200, f"{repository}@{digest} was acknowledged and is gone: {answer}"
        assert answer.body == manifest.content, f"{repository}@{digest} is another manifest"
        assert answer.headers["content-type"] == manifest.media_type


def _check_lists(ledger: Ledger, reader: Reader) -> None:
    tags: dict[str, set[str]] = {}
    for (repository, tag), writes in ledger.tags.items():
        if writes:
            tags.setdefault(repository, set()).add(tag)
    for repository, expected in tags.items():
        answer = reader.ask("GET", f"/v2/{repository}/tags/list")
        assert set(answer.json()["tags"]) == expected, repository
    answer = reader.ask("GET", "/v2/_catalog")
    assert {repository for repository, _ in {**ledger.blobs, **ledger.manifests}} <= set(answer.json()["repositories"])
