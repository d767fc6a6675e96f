"""Random sequences of requests, valid and not, each answer of which a model of the registry in Python predicts."""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.oci.client import Query, Registry, location_of, refused
from tests.oci.content import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Blob,
    Document,
    digest_of,
    image,
    index,
    unknown_digest,
)
from tests.server import Server

STEPS_IN_CI = 5000
STEPS_OF_AN_EXAMPLE = 50
"""At most; hypothesis ends some earlier, so that there are more examples than would just do."""

CLIENTS = 6
"""Connections that take turns; all of them at one worker is as good as impossible, so that caches must agree."""

TAGS = ["latest", "1.0", "a", "Z"]
TYPES = ["application/vnd.example.a", "application/vnd.example.b+json"]

STEPS: set[str] = set()
"""The names of all rules; a run must have taken each."""

_serial = itertools.count()


@dataclass
class Upload:
    """An upload as the model knows it; ``target`` is the blob that it will usually become."""

    repository: str
    location: str
    target: Blob
    content: bytes = b""
    alive: bool = True


@dataclass
class Pushed:
    """A manifest as the model knows it, with what the registry must find out about it."""

    document: Document
    blobs: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    subject: str | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    def descriptor(self, digest: str) -> dict[str, Any]:
        """Returns the entry in a list of referrers."""
        fields: dict[str, Any] = {"digest": digest, "annotations": self.annotations}
        if self.artifact_type is not None:
            fields["artifactType"] = self.artifact_type
        return self.document.descriptor(**fields)


@dataclass
class Repository:
    """What one repository holds; it exists once something was put into it."""

    exists: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Pushed] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def users(self, digest: str) -> set[str]:
        """Returns the manifests that need a blob."""
        return {name for name, manifest in self.manifests.items() if digest in manifest.blobs}


def step(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that counts itself."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        STEPS.add(function.__name__)

        @wraps(function)
        def counted(self: "RegistryMachine", **drawn: Any) -> None:
            type(self).steps[function.__name__] += 1
            self.failed = True
            function(self, **drawn)
            self.failed = False

        return rule(**strategies)(counted)  # type: ignore[call-overload, no-any-return]

    return decorate


NUMBERS = st.integers(0, 20)
"""Picks from a list whose length only the running example knows."""

REPOSITORIES = st.sampled_from([0, 0, 0, 1, 1, 2])
MOSTLY = st.integers(0, 3)
"""True but for 0."""

ALGORITHMS = st.sampled_from(["sha256", "sha256", "sha512"])
CONDITIONS = st.sampled_from(["", "", "", "match", "match any", "match other", "none match", "none match any"])


BAD_REQUESTS = {
    "name": (400, "NAME_INVALID"),
    "digest": (400, "DIGEST_INVALID"),
    "tag": (400, "MANIFEST_INVALID"),
    "method": (405, "UNSUPPORTED"),
    "endpoint": (404, "UNSUPPORTED"),
    "n": (400, "UNSUPPORTED"),
    "last": (400, "MANIFEST_INVALID"),
    "range": (400, "SIZE_INVALID"),
    "mount": (400, "DIGEST_INVALID"),
    "subject": (400, "DIGEST_INVALID"),
}


class RegistryMachine(RuleBasedStateMachine):
    """Three repositories of fresh names in a shared server; `registries` are its clients."""

    registries: ClassVar[list[Registry]]
    steps: ClassVar[Counter[str]]
    answers: ClassVar[Counter[tuple[str, int]]]

    def __init__(self) -> None:
        super().__init__()
        self.prefix = f"machine/{os.getpid()}-{next(_serial)}"
        self.names = [f"{self.prefix}/{name}" for name in ("a", "a/b", "c")]
        self.model = {name: Repository() for name in self.names}
        self.contents = [Blob(f"{self.prefix} {number}".encode() * (number + 1)) for number in range(5)]
        self.documents: list[Pushed] = []
        self.uploads: list[Upload] = []
        self.turn = 0
        self.failed = False

    def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        content: bytes | None = None,
        /,
        **headers: str,
    ) -> httpx.Response:
        """Sends a request by the next client, and counts what came of it."""
        self.turn += 1
        answer = self.registries[self.turn % CLIENTS].request(method, path, query, content, **headers)
        self.answers[method, answer.status_code] += 1
        return answer

    @initialize()
    def put_something_in(self) -> None:
        """So that a sequence whose steps never push has something to look at."""
        name, blob = self.names[0], self.contents[0]
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/", {"digest": blob.digest}, blob.content)
        self.is_created(answer, name, blob.digest)
        self.holds(name, blob.digest, blob.content)
        annotations = {"prefix": self.prefix}
        first = Pushed(index(annotations=annotations), annotations=annotations)
        self.push_manifest(name, self.make(first), ["latest"], "sha256", "")

    # Blobs.

    @step(repository=REPOSITORIES, content=NUMBERS, algorithm=ALGORITHMS, right=st.integers(0, 9))
    def push_blob(self, repository: int, content: int, algorithm: str, right: int) -> None:
        name, blob = self.names[repository], self.contents[content % 5]
        digest = digest_of(blob.content, algorithm) if right else unknown_digest(algorithm)
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/", {"digest": digest}, blob.content)
        if not right:
            refused(answer, 400, "DIGEST_INVALID")
            return
        self.is_created(answer, name, digest)
        self.holds(name, digest, blob.content)

    def holds(self, name: str, digest: str, content: bytes) -> None:
        self.model[name].exists = True
        self.model[name].blobs[digest] = content

    def is_created(self, answer: httpx.Response, name: str, digest: str) -> None:
        assert answer.status_code == 201, answer.text
        assert answer.headers["docker-content-digest"] == digest
        assert location_of(answer) == f"/v2/{name}/blobs/{digest}"

    def pick_blob(self, name: str, number: int, algorithm: str, held: int) -> str:
        """Returns the digest of a blob; of one that the repository holds where ``held`` is not 0 and there is one."""
        if held and self.model[name].blobs:
            return list(self.model[name].blobs)[number % len(self.model[name].blobs)]
        return digest_of(self.contents[number % 5].content, algorithm)

    @step(
        repository=REPOSITORIES,
        number=NUMBERS,
        algorithm=ALGORITHMS,
        held=MOSTLY,
        how=st.sampled_from(["GET", "HEAD", "range", "beyond", "not modified"]),
        start=st.integers(0, 200),
        length=st.integers(1, 100),
    )
    def read_blob(
        self, repository: int, number: int, algorithm: str, held: int, how: str, start: int, length: int
    ) -> None:
        name = self.names[repository]
        digest = self.pick_blob(name, number, algorithm, held)
        expected = self.model[name].blobs.get(digest)
        headers = {}
        if how in {"range", "beyond"}:
            size = len(expected or b"")
            how = how if size else "beyond"  # of an empty blob, every byte lies beyond it
            start = start % size if how == "range" else size + start
            headers["range"] = f"bytes={start}-{start + length - 1}"
        elif how == "not modified":
            headers["if_none_match"] = f'"{digest}"'
        method = "HEAD" if how == "HEAD" else "GET"
        answer = self.ask(method, f"/v2/{name}/blobs/{digest}", **headers)
        if expected is None:
            assert answer.status_code == 404
            if method == "GET":
                refused(answer, 404, "BLOB_UNKNOWN")
            return
        if how == "beyond":
            refused(answer, 416, "BLOB_UNKNOWN")
            assert answer.headers["content-range"] == f"bytes */{len(expected)}"
            return
        assert answer.headers["docker-content-digest"] == digest
        if how == "HEAD":
            assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(expected)))
        elif how == "not modified":
            assert answer.status_code == 304
        elif how == "range":
            assert (answer.status_code, answer.content) == (206, expected[start : start + length])
        else:
            assert (answer.status_code, answer.content) == (200, expected)

    @step(repository=REPOSITORIES, number=NUMBERS, algorithm=ALGORITHMS, held=MOSTLY)
    def delete_blob(self, repository: int, number: int, algorithm: str, held: int) -> None:
        name = self.names[repository]
        model = self.model[name]
        digest = self.pick_blob(name, number, algorithm, held)
        answer = self.ask("DELETE", f"/v2/{name}/blobs/{digest}")
        users = model.users(digest)
        if users:
            named = set(refused(answer, 405, "UNSUPPORTED")["manifests"])
            assert named
            assert named <= users
        elif digest not in model.blobs:
            refused(answer, 404, "BLOB_UNKNOWN")
        else:
            assert answer.status_code == 202
            del model.blobs[digest]

    @step(repository=REPOSITORIES, source=st.integers(-1, 2), content=NUMBERS, algorithm=ALGORITHMS)
    def mount(self, repository: int, source: int, content: int, algorithm: str) -> None:
        name, blob = self.names[repository], self.contents[content % 5]
        digest = digest_of(blob.content, algorithm)
        query: Query = {"mount": digest} | ({} if source < 0 else {"from": self.names[source]})
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/", query)
        sources = self.names if source < 0 else [self.names[source]]
        if any(digest in self.model[holder].blobs for holder in sources):
            self.is_created(answer, name, digest)
            self.holds(name, digest, blob.content)
        else:
            self.begun(answer, name, blob)

    # Uploads.

    def begun(self, answer: httpx.Response, name: str, blob: Blob) -> None:
        assert answer.status_code == 202, answer.text
        assert answer.headers["range"] == "0-0"
        assert answer.headers["docker-upload-uuid"] in location_of(answer)
        self.uploads.append(Upload(name, location_of(answer), blob))

    @step(
        repository=REPOSITORIES,
        content=NUMBERS,
        algorithm=st.sampled_from(["", "sha256", "sha512", "md5"]),
    )
    def begin_upload(self, repository: int, content: int, algorithm: str) -> None:
        name = self.names[repository]
        query: Query = {"digest-algorithm": algorithm} if algorithm else {}
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/", query)
        if algorithm == "md5":
            refused(answer, 400, "DIGEST_INVALID")
        else:
            self.begun(answer, name, self.contents[content % 5])

    def pick_upload(self, number: int, held: int, *, foreign: bool = False) -> tuple[Upload, str, bool]:
        """Returns an upload, where to ask for it, and whether it is there; one is begun where there is none.

        It is there where ``held`` is not 0 and there is such an upload.
        """
        if not self.uploads:
            self.begun(self.ask("POST", f"/v2/{self.names[0]}/blobs/uploads/"), self.names[0], self.contents[0])
        choice = [upload for upload in self.uploads if upload.alive or not held] or self.uploads
        upload = choice[-1 - number % len(choice)]
        if not foreign:
            return upload, upload.location, upload.alive
        other = next(name for name in self.names if name != upload.repository)
        return upload, upload.location.replace(f"/{upload.repository}/", f"/{other}/", 1), False

    @step(
        number=NUMBERS,
        held=MOSTLY,
        foreign=st.integers(0, 9),
        size=st.integers(0, 60),
        ranged=st.booleans(),
        shift=st.sampled_from([0, 0, 0, 0, -1, 1, 1000]),
        stretch=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
    )
    def append(self, number: int, held: int, foreign: int, size: int, ranged: bool, shift: int, stretch: int) -> None:
        upload, path, alive = self.pick_upload(number, held, foreign=not foreign)
        received = len(upload.content)
        chunk = upload.target.content[received : received + size] or b"x" * size
        headers = {}
        start = max(received + shift, 0)
        end = start + len(chunk) - 1 + stretch
        ranged = ranged and len(chunk) > 1
        if ranged:
            headers["content_range"] = f"{start}-{end}"
        answer = self.ask("PATCH", path, None, chunk, **headers)
        if ranged and stretch:
            refused(answer, 400, "SIZE_INVALID")
        elif not alive:
            refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
        elif ranged and start != received:
            assert refused(answer, 416, "BLOB_UPLOAD_INVALID")["received"] == received
            assert answer.headers["range"] == f"0-{max(received - 1, 0)}"
        else:
            assert answer.status_code == 202, answer.text
            upload.content += chunk
            assert answer.headers["range"] == f"0-{max(len(upload.content) - 1, 0)}"

    @step(number=NUMBERS, held=MOSTLY, foreign=st.integers(0, 9))
    def upload_status(self, number: int, held: int, foreign: int) -> None:
        upload, path, alive = self.pick_upload(number, held, foreign=not foreign)
        answer = self.ask("GET", path)
        if alive:
            assert answer.status_code == 204
            assert answer.headers["range"] == f"0-{max(len(upload.content) - 1, 0)}"
        else:
            refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")

    @step(
        number=NUMBERS,
        held=MOSTLY,
        algorithm=ALGORITHMS,
        how=st.sampled_from(
            ["as it is", "rest", "rest", "rest with range", "rest misplaced", "wrong", "none", "foreign"]
        ),
    )
    def commit(self, number: int, held: int, algorithm: str, how: str) -> None:
        upload, path, alive = self.pick_upload(number, held, foreign=how == "foreign")
        received = len(upload.content)
        rest = upload.target.content[received:] if how.startswith("rest") else b""
        digest = unknown_digest(algorithm) if how == "wrong" else digest_of(upload.content + rest, algorithm)
        headers = {}
        if rest and how in {"rest with range", "rest misplaced"}:
            start = received + (how == "rest misplaced")
            headers["content_range"] = f"{start}-{start + len(rest) - 1}"
        answer = self.ask("PUT", path, {} if how == "none" else {"digest": digest}, rest, **headers)
        if how == "none":
            refused(answer, 400, "DIGEST_INVALID")
        elif not alive:
            refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
        elif rest and how == "rest misplaced":
            refused(answer, 416, "BLOB_UPLOAD_INVALID")
            assert answer.headers["range"] == f"0-{max(received - 1, 0)}"
        elif how == "wrong":
            refused(answer, 400, "DIGEST_INVALID")
        else:
            self.is_created(answer, upload.repository, digest)
            self.holds(upload.repository, digest, upload.content + rest)
            upload.alive = False

    @step(number=NUMBERS, held=MOSTLY, foreign=st.integers(0, 4))
    def cancel(self, number: int, held: int, foreign: int) -> None:
        upload, path, alive = self.pick_upload(number, held, foreign=not foreign)
        answer = self.ask("DELETE", path)
        if alive:
            assert answer.status_code == 204
            upload.alive = False
        else:
            refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")

    # Manifests.

    def make(self, manifest: Pushed) -> Pushed:
        """Remembers a manifest, so that later steps can name it; equal ones are one."""
        known = next((pushed for pushed in self.documents if pushed.document == manifest.document), None)
        if known is None:
            self.documents.append(manifest)
        return known or manifest

    def subject_of(self, number: int) -> str | None:
        """Returns the digest of a manifest, of something that never existed, or None."""
        if number < 10:
            return None
        if number == 10:
            return digest_of(self.prefix.encode())
        return self.documents[number % len(self.documents)].document.digest

    @step(
        repository=REPOSITORIES,
        config=NUMBERS,
        layers=st.lists(st.integers(0, 4), max_size=3),
        complete=MOSTLY,
        docker=st.booleans(),
        subject=NUMBERS,
        kind=st.sampled_from([None, *TYPES]),
        number=st.integers(0, 2),
        tags=st.lists(st.sampled_from(TAGS), max_size=2, unique=True),
        algorithm=ALGORITHMS,
        condition=CONDITIONS,
    )
    def push_image(
        self,
        repository: int,
        config: int,
        layers: list[int],
        complete: int,
        docker: bool,
        subject: int,
        kind: str | None,
        number: int,
        tags: list[str],
        algorithm: str,
        condition: str,
    ) -> None:
        """Where ``complete`` is not 0, only blobs that are there are named, if there are any."""
        name = self.names[repository]
        held = [blob for blob in self.contents if blob.digest in self.model[name].blobs]
        choice = held if complete and held else self.contents
        parts = [choice[position % len(choice)] for position in (config, *layers)]
        annotations = {"number": str(number)}
        referred = self.subject_of(subject)
        built = image(
            *parts,
            media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
            config_type=TYPES[config % 2],
            subject=referred,
            artifact_type=kind,
            annotations=annotations,
        )
        manifest = Pushed(
            built,
            blobs=frozenset(part.digest for part in parts),
            subject=referred,
            artifact_type=kind or TYPES[config % 2],
            annotations=annotations,
        )
        self.push_manifest(name, self.make(manifest), tags, algorithm, condition)

    @step(
        repository=REPOSITORIES,
        children=st.lists(NUMBERS, max_size=2),
        complete=MOSTLY,
        subject=NUMBERS,
        kind=st.sampled_from([None, *TYPES]),
        number=st.integers(0, 2),
        tags=st.lists(st.sampled_from(TAGS), max_size=2, unique=True),
        algorithm=ALGORITHMS,
        condition=CONDITIONS,
    )
    def push_index(
        self,
        repository: int,
        children: list[int],
        complete: int,
        subject: int,
        kind: str | None,
        number: int,
        tags: list[str],
        algorithm: str,
        condition: str,
    ) -> None:
        """Where ``complete`` is not 0, only manifests that are there are named."""
        name = self.names[repository]
        held = self.model[name].manifests
        choice = [known for known in self.documents if not complete or known.document.digest in held]
        parts = [choice[position % len(choice)].document for position in children] if choice else []
        annotations = {"prefix": self.prefix, "number": str(number)}
        referred = self.subject_of(subject)
        manifest = Pushed(
            index(*parts, subject=referred, artifact_type=kind, annotations=annotations),
            children=frozenset(part.digest for part in parts),
            subject=referred,
            artifact_type=kind,
            annotations=annotations,
        )
        self.push_manifest(name, self.make(manifest), tags, algorithm, condition)

    def push_manifest(self, name: str, manifest: Pushed, tags: list[str], algorithm: str, condition: str) -> None:
        """Pushes by digest with the tags as parameters; by the first tag where the algorithm is the usual one."""
        model = self.model[name]
        digest = digest_of(manifest.document.content, algorithm)
        query: dict[str, list[str]] = {}
        reference = digest
        if tags and algorithm == "sha256":
            reference, more = tags[0], tags[1:]
        else:
            more = tags
        if more:
            query["tag"] = more
        if not tags:
            condition = ""
        headers, met = self.condition(condition, [model.tags.get(tag) for tag in tags])
        answer = self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            query,
            manifest.document.content,
            content_type=manifest.document.media_type,
            **headers,
        )
        if not met:
            refused(answer, 412, "DENIED")
            return
        blobs, children = manifest.blobs - model.blobs.keys(), manifest.children - model.manifests.keys()
        if blobs or children:
            detail = refused(answer, 400, "MANIFEST_BLOB_UNKNOWN")
            assert detail == {"blobs": sorted(blobs), "manifests": sorted(children)}
            return
        assert answer.status_code == 201, answer.text
        assert answer.headers["docker-content-digest"] == digest
        assert location_of(answer) == f"/v2/{name}/manifests/{digest}"
        assert answer.headers.get("oci-subject") == manifest.subject
        assert answer.headers.get("oci-tag") == (", ".join(tags) if more else None)
        model.exists = True
        model.manifests[digest] = manifest
        model.tags.update(dict.fromkeys(tags, digest))

    def condition(self, condition: str, current: list[str | None]) -> tuple[dict[str, str], bool]:
        """Returns the headers of a condition, and whether it holds for every current digest, None for no tag.

        The digest in the header is that of the first tag.
        """
        first = current[0] if current else None
        named = first or unknown_digest()
        match condition:
            case "match":
                return {"if_match": f'"{named}"'}, all(digest == named for digest in current)
            case "match other":
                return {"if_match": f'"{unknown_digest()}"'}, False
            case "match any":
                return {"if_match": "*"}, all(digest is not None for digest in current)
            case "none match":
                return {"if_none_match": f'"{named}"'}, all(digest != named for digest in current)
            case "none match any":
                return {"if_none_match": "*"}, all(digest is None for digest in current)
        return {}, True

    @step(
        repository=REPOSITORIES,
        tag=st.sampled_from(TAGS),
        bad=st.sampled_from(["json", "twice", "nested", "version", "both", "type", "digest", "size", "tag"]),
    )
    def push_bad_manifest(self, repository: int, tag: str, bad: str) -> None:
        """Whatever is wrong, nothing changes; what does not, later steps see."""
        name = self.names[repository]
        content = index(annotations={"bad": self.prefix}).content
        query: dict[str, str | list[str]] = {}
        media_type, code = OCI_INDEX, "MANIFEST_INVALID"
        match bad:
            case "json":
                content = content[:-1]
            case "twice":
                content = content.replace(b'"schemaVersion": 2', b'"schemaVersion": 2, "schemaVersion": 2')
            case "nested":
                content = content.replace(b'"manifests": []', b'"manifests": ' + b"[" * 5000 + b"]" * 5000)
            case "version":
                content = content.replace(b'"schemaVersion": 2', b'"schemaVersion": 1')
            case "both":
                content = content.replace(b'"manifests"', b'"layers": [], "manifests"')
            case "type":
                media_type = OCI_MANIFEST
            case "digest":
                query["digest"], code = unknown_digest(), "DIGEST_INVALID"
            case "tag":
                query["tag"] = ["good", "not good"]
            case "size":
                child = {"mediaType": OCI_INDEX, "digest": unknown_digest(), "size": -1}
                content = content.replace(b'"manifests": []', f'"manifests": [{child}]'.replace("'", '"').encode())
        answer = self.ask("PUT", f"/v2/{name}/manifests/{tag}", query, content, content_type=media_type)
        refused(answer, 400, code)

    @step(
        repository=REPOSITORIES,
        number=NUMBERS,
        tag=st.sampled_from([None, *TAGS]),
        algorithm=ALGORITHMS,
        held=MOSTLY,
        how=st.sampled_from(["GET", "HEAD", "not modified"]),
    )
    def read_manifest(self, repository: int, number: int, tag: str | None, algorithm: str, held: int, how: str) -> None:
        name = self.names[repository]
        model = self.model[name]
        if tag is not None:
            reference = self.pick_tag(name, tag, held)
            digest = model.tags.get(reference)
        else:
            reference = self.pick_manifest(name, number, algorithm, held)
            digest = reference if reference in model.manifests else None
        headers = {"if_none_match": f'W/"{digest}"'} if how == "not modified" else {}
        method = "HEAD" if how == "HEAD" else "GET"
        answer = self.ask(method, f"/v2/{name}/manifests/{reference}", **headers)
        if digest is None:
            assert answer.status_code == 404
            if method == "GET":
                refused(answer, 404, "MANIFEST_UNKNOWN")
            return
        expected = model.manifests[digest].document
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["etag"] == f'"{digest}"'
        if how == "not modified":
            assert answer.status_code == 304
            return
        assert answer.status_code == 200
        assert answer.headers["content-type"] == expected.media_type
        assert answer.headers["content-length"] == str(expected.size)
        assert answer.content == (b"" if how == "HEAD" else expected.content)

    def pick_manifest(self, name: str, number: int, algorithm: str, held: int) -> str:
        """Returns a digest of a manifest; of one that the repository has where ``held`` is not 0 and there is one."""
        if held and self.model[name].manifests:
            return list(self.model[name].manifests)[number % len(self.model[name].manifests)]
        return digest_of(self.documents[number % len(self.documents)].document.content, algorithm)

    @step(repository=REPOSITORIES, number=NUMBERS, algorithm=ALGORITHMS, held=MOSTLY)
    def delete_manifest(self, repository: int, number: int, algorithm: str, held: int) -> None:
        name = self.names[repository]
        model = self.model[name]
        digest = self.pick_manifest(name, number, algorithm, held)
        answer = self.ask("DELETE", f"/v2/{name}/manifests/{digest}")
        if not model.exists:
            refused(answer, 404, "NAME_UNKNOWN")
        elif digest not in model.manifests:
            refused(answer, 404, "MANIFEST_UNKNOWN")
        else:
            assert answer.status_code == 202
            del model.manifests[digest]
            model.tags = {tag: named for tag, named in model.tags.items() if named != digest}

    def pick_tag(self, name: str, tag: str, held: int) -> str:
        """Returns the tag, or one that exists where ``held`` is not 0 and there is one."""
        tags = sorted(self.model[name].tags)
        return tags[TAGS.index(tag) % len(tags)] if held and tags else tag

    @step(repository=REPOSITORIES, tag=st.sampled_from(TAGS), held=MOSTLY, condition=CONDITIONS)
    def delete_tag(self, repository: int, tag: str, held: int, condition: str) -> None:
        name = self.names[repository]
        model = self.model[name]
        tag = self.pick_tag(name, tag, held)
        headers, met = self.condition(condition, [model.tags.get(tag)])
        answer = self.ask("DELETE", f"/v2/{name}/manifests/{tag}", **headers)
        if not model.exists:
            refused(answer, 404, "NAME_UNKNOWN")
        elif not met:
            refused(answer, 412, "DENIED")
        elif tag not in model.tags:
            refused(answer, 404, "MANIFEST_UNKNOWN")
        else:
            assert answer.status_code == 202
            del model.tags[tag]

    # Listings.

    @step(
        repository=REPOSITORIES,
        n=st.sampled_from([None, 0, 1, 2, 3, 4, 5]),
        last=st.sampled_from([None, "", "0", *TAGS, "zz"]),
    )
    def list_tags(self, repository: int, n: int | None, last: str | None) -> None:
        name = self.names[repository]
        query: Query = {key: value for key, value in (("n", n), ("last", last)) if value is not None}
        answer = self.ask("GET", f"/v2/{name}/tags/list", query)
        if not self.model[name].exists:
            refused(answer, 404, "NAME_UNKNOWN")
            return
        after = [tag for tag in sorted(self.model[name].tags) if tag > (last or "")]
        assert answer.json() == {"name": name, "tags": after[:n]}
        self.is_page(answer, len(after), n)

    def is_page(self, answer: httpx.Response, available: int, n: int | None) -> None:
        assert answer.status_code == 200
        assert ("next" in answer.links) == (n is not None and 0 < n < available)

    @step(
        repository=REPOSITORIES,
        subject=st.integers(10, 20),
        kind=st.sampled_from([None, None, *TYPES, "text/plain"]),
        n=st.sampled_from([None, 0, 1, 2, 3]),
        last=st.sampled_from(["", "sha256:8" + "0" * 63]),
    )
    def list_referrers(self, repository: int, subject: int, kind: str | None, n: int | None, last: str) -> None:
        name = self.names[repository]
        digest = self.subject_of(subject)
        query: Query = {
            key: value for key, value in (("artifactType", kind), ("n", n), ("last", last or None)) if value is not None
        }
        answer = self.ask("GET", f"/v2/{name}/referrers/{digest}", query)
        expected = [
            manifest.descriptor(found)
            for found, manifest in sorted(self.model[name].manifests.items())
            if manifest.subject == digest and kind in {None, manifest.artifact_type} and found > last
        ]
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": expected[:n]}
        assert answer.headers["content-type"] == OCI_INDEX
        assert answer.headers.get("oci-filters-applied") == (None if kind is None else "artifactType")
        self.is_page(answer, len(expected), n)

    @step(n=st.integers(1, 4), last=st.sampled_from(["", "/a", "/a/b", "/b"]))
    def list_catalogue(self, n: int, last: str) -> None:
        answer = self.ask("GET", "/v2/_catalog", {"n": n, "last": self.prefix + last})
        assert answer.status_code == 200
        expected = [name for name in self.names if self.model[name].exists and name > self.prefix + last]
        found = answer.json()["repositories"]
        assert [name for name in found if name.startswith(f"{self.prefix}/")] == expected[:n]

    # Requests that are wrong whatever the registry holds.

    @step(
        repository=REPOSITORIES,
        what=st.sampled_from(sorted(BAD_REQUESTS)),
    )
    def bad_request(self, repository: int, what: str) -> None:
        name = self.names[repository]
        requests: dict[str, Callable[[], httpx.Response]] = {
            "name": lambda: self.ask("GET", f"/v2/{name.upper()}/tags/list"),
            "digest": lambda: self.ask("GET", f"/v2/{name}/blobs/sha256:0"),
            "tag": lambda: self.ask("GET", f"/v2/{name}/manifests/-"),
            "method": lambda: self.ask("PATCH", f"/v2/{name}/manifests/latest", None, b"{}"),
            "endpoint": lambda: self.ask("GET", f"/v2/{name}/tags"),
            "n": lambda: self.ask("GET", "/v2/_catalog", {"n": "x"}),
            "last": lambda: self.ask("GET", f"/v2/{name}/tags/list", {"last": "/"}),
            "range": lambda: self.ask("PATCH", self.pick_upload(0, 1)[1], None, b"abc", content_range="2-0"),
            "mount": lambda: self.ask("POST", f"/v2/{name}/blobs/uploads/", {"mount": "x"}),
            "subject": lambda: self.ask("GET", f"/v2/{name}/referrers/x"),
        }
        refused(requests[what](), *BAD_REQUESTS[what])

    @invariant()
    def the_model_is_sound(self) -> None:
        """Guards the model itself: what it says must not contradict itself."""
        for model in self.model.values():
            assert set(model.tags.values()) <= model.manifests.keys()
            assert model.exists or not (model.blobs or model.manifests)

    def teardown(self) -> None:
        """At the end the registry holds what the model holds, by whichever connection one looks."""
        if self.failed:
            return  # another failure would hide the one that came first
        for name, model in self.model.items():
            if not model.exists:
                continue
            assert self.ask("GET", f"/v2/{name}/tags/list").json()["tags"] == sorted(model.tags)
            for digest, content in model.blobs.items():
                assert self.ask("GET", f"/v2/{name}/blobs/{digest}").content == content
            for tag, digest in model.tags.items():
                answer = self.ask("HEAD", f"/v2/{name}/manifests/{tag}")
                assert answer.headers["docker-content-digest"] == digest


def run_machine(server: Server, examples: int, *, derandomize: bool) -> type[RegistryMachine]:
    """Runs a machine of its own class and returns the class, with its counts."""

    class Machine(RegistryMachine):
        registries: ClassVar[list[Registry]] = []
        steps: ClassVar[Counter[str]] = Counter()
        answers: ClassVar[Counter[tuple[str, int]]] = Counter()

    with ExitStack() as stack:
        Machine.registries += [stack.enter_context(Registry(server.url)) for _ in range(CLIENTS)]
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=STEPS_OF_AN_EXAMPLE,
                derandomize=derandomize,
                database=None,
                deadline=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
    return Machine


RARE = {("PUT", 416)}
"""Answers that a run of the short form need not contain."""


def did_everything(machine: type[RegistryMachine], steps: int) -> None:
    """Asserts that a run was long enough, and that requests of every kind succeeded and failed in it."""
    assert machine.steps.total() >= steps
    assert set(machine.steps) == STEPS
    expected = {
        "GET": {200, 204, 206, 304, 400, 404, 416},
        "HEAD": {200, 404},
        "POST": {201, 202, 400},
        "PUT": {201, 400, 404, 412, 416},
        "PATCH": {202, 400, 404, 405, 416},
        "DELETE": {202, 204, 404, 405, 412},
    }
    missing = {
        (method, status) for method, statuses in expected.items() for status in statuses
    } - machine.answers.keys()
    assert missing <= RARE
    assert set(machine.answers) <= {(method, status) for method, statuses in expected.items() for status in statuses}


def test_the_registry_does_what_the_model_does(server: Server) -> None:
    """The same 5,000 steps each time, so that a failure in CI is the failure on a desk."""
    examples = STEPS_IN_CI // STEPS_OF_AN_EXAMPLE * 13 // 10
    did_everything(run_machine(server, examples, derandomize=True), STEPS_IN_CI)


@pytest.mark.soak
def test_the_registry_does_what_the_model_does_for_long(server: Server) -> None:
    """Other steps each time; a failure prints the shortest sequence that was found."""
    examples = STEPS_IN_CI // STEPS_OF_AN_EXAMPLE * 13
    did_everything(run_machine(server, examples, derandomize=False), 10 * STEPS_IN_CI)
