"""Every disagreement of bytes and records: `drift fsck` names it, --repair mends it, a client's push heals it."""

import hashlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import IncompleteRead
from pathlib import Path

import pytest

from tests.faults.conftest import Serve
from tests.faults.inspection import PATIENCE, Report, blob_file, eventually, fsck
from tests.oci.content import Blob, Document, image, unique_blob, unique_index
from tests.oci.wire import Answer, Wire
from tests.server import DRIFT, Server
from tests.tools import ROOT

OLD = 7200.0
"""Seconds after which unrecorded bytes are no longer taken for a push that is under way."""


class Image:
    """An image in a repository of its own: it can be pushed, pulled, and looked at on the disk."""

    _serial = itertools.count()

    def __init__(self, server: Server) -> None:
        self.server = server
        self.repository = f"fsck/image{next(self._serial)}"
        self.other = f"{self.repository}/other"
        self.data = server.folder / "data"
        self.config, self.layer = unique_blob(200), unique_blob(300_000)
        self.manifest = image(self.config, self.layer)

    def ask(self, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
        with Wire(self.server) as wire:
            answer = wire.exchange(method, target, body, **headers)
        assert answer.status != 500, answer
        return answer

    def push(self, tag: str = "v1") -> None:
        """Pushes as clients do: only what HEAD says is missing."""
        for blob in (self.config, self.layer):
            if self.ask("HEAD", f"/v2/{self.repository}/blobs/{blob.digest}").status == 404:
                assert self.push_blob(blob).status == 201
        if self.ask("HEAD", f"/v2/{self.repository}/manifests/{self.manifest.digest}").status == 404:
            assert self.push_manifest(self.manifest, self.manifest.digest).status == 201
        assert self.push_manifest(self.manifest, tag).status == 201

    def push_blob(self, blob: Blob, repository: str | None = None) -> Answer:
        return self.ask(
            "POST", f"/v2/{repository or self.repository}/blobs/uploads/?digest={blob.digest}", blob.content
        )

    def push_manifest(self, manifest: Document, reference: str) -> Answer:
        target = f"/v2/{self.repository}/manifests/{reference}"
        return self.ask("PUT", target, manifest.content, content_type=manifest.media_type)

    def pull(self, tag: str = "v1") -> None:
        """Pulls everything, which must be what was pushed."""
        assert self.ask("GET", f"/v2/{self.repository}/manifests/{tag}").body == self.manifest.content
        for blob in (self.config, self.layer):
            assert self.ask("GET", f"/v2/{self.repository}/blobs/{blob.digest}").body == blob.content

    @property
    def layer_file(self) -> Path:
        return blob_file(self.data, self.layer.digest)

    @contextmanager
    def records(self) -> Iterator[sqlite3.Connection]:
        """Opens the database behind the server's back."""
        with closing(sqlite3.connect(self.data / "drift.db", timeout=60)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            yield connection


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """The servers of these tests, the newest last."""
    found: list[Server] = []
    yield found
    for server in found:
        server.kill()


@pytest.fixture
def pushed(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Image:
    """An image on a server that runs and is clean, with a second repository that has a layer of it, too."""
    if not servers or not fsck(servers[-1]).clean:
        servers.append(Server(tmp_path_factory.mktemp("fsck"), workers=1).start(PATIENCE))
    found = Image(servers[-1])
    found.push()
    target = f"/v2/{found.other}/blobs/uploads/?mount={found.layer.digest}&from={found.repository}"
    assert found.ask("POST", target).status == 201
    found.pull()
    return found


def check(server: Server, expected: set[tuple[str, str]], *options: str, mended: bool) -> Report:
    """Runs fsck, which must find exactly this: kinds and subjects."""
    report = fsck(server, *options)
    assert {(finding["kind"], finding["subject"]) for finding in report.findings} == expected, report
    assert all(finding["mended"] == mended for finding in report.findings), report
    assert all(finding["detail"] for finding in report.findings)
    return report


Harm = Callable[[Image], str]


def lose(image: Image) -> str:
    image.layer_file.unlink()
    return "missing"


def flip_a_bit(image: Image) -> str:
    content = bytearray(image.layer.content)
    content[len(content) // 2] ^= 1
    image.layer_file.write_bytes(content)
    return "damaged"


def truncate(image: Image) -> str:
    os.truncate(image.layer_file, image.layer.size - 1)
    return "damaged"


def lengthen(image: Image) -> str:
    with image.layer_file.open("ab") as stream:
        stream.write(b"\0")
    return "damaged"


def empty(image: Image) -> str:
    os.truncate(image.layer_file, 0)
    return "damaged"


@pytest.mark.parametrize("harm", [lose, flip_a_bit, truncate, lengthen, empty])
def test_a_blob_that_is_not_what_was_recorded(pushed: Image, harm: Harm) -> None:
    kind = harm(pushed)
    layer = pushed.layer.digest
    finding = {(kind, layer)}
    assert check(pushed.server, finding, mended=False).code == 1

    repaired = fsck(pushed.server, "--repair")
    assert {(found["kind"], found["subject"], found["mended"]) for found in repaired.findings} == {
        (kind, layer, True),
        ("manifest incomplete", f"{pushed.repository}@{pushed.manifest.digest}", False),
    }
    assert repaired.code == 1, "the layer is still not there"
    for repository in (pushed.repository, pushed.other):
        for method in ("HEAD", "GET"):
            assert pushed.ask(method, f"/v2/{repository}/blobs/{layer}").status == 404
    assert not pushed.layer_file.exists()

    # A client that pushes again learns what is missing, and heals the image.
    pushed.push()
    pushed.pull()
    assert fsck(pushed.server).clean


@pytest.mark.parametrize("harm", [flip_a_bit, truncate])
def test_a_push_replaces_damaged_bytes_without_a_repair(pushed: Image, harm: Harm) -> None:
    harm(pushed)
    assert pushed.push_blob(pushed.layer, f"{pushed.repository}/third").status == 201
    pushed.pull()
    assert fsck(pushed.server).clean


def test_quick_compares_sizes_only(pushed: Image) -> None:
    flip_a_bit(pushed)
    assert fsck(pushed.server, "--quick").clean
    truncate(pushed)
    assert check(pushed.server, {("damaged", pushed.layer.digest)}, "--quick", mended=False).code == 1


@pytest.mark.parametrize("harm", [lose, truncate, empty])
@pytest.mark.parametrize("span", [None, "bytes=1000-299999"])
def test_a_pull_of_a_lost_blob_is_never_taken_for_the_blob(
    pushed: Image,
    harm: Harm,
    span: str | None,
) -> None:
    harm(pushed)
    headers = {} if span is None else {"range": span}
    with Wire(pushed.server) as wire:
        wire.begin("GET", f"/v2/{pushed.repository}/blobs/{pushed.layer.digest}", **headers)
        try:
            answer = wire.answer()
        except (IncompleteRead, ConnectionError):
            return
    # It has the record: this is a failure of the registry that it should own up to, in the specified form.
    assert answer.status in {404, 503}, answer
    codes = {error["code"] for error in answer.json()["errors"]}
    assert codes <= {"BLOB_UNKNOWN", "UNAVAILABLE"}


def test_bytes_without_a_record(pushed: Image) -> None:
    stray, young = unique_blob(1000), unique_blob(1000)
    for blob in (stray, young):
        path = blob_file(pushed.data, blob.digest)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(blob.content)
    os.utime(blob_file(pushed.data, stray.digest), (time.time() - OLD, time.time() - OLD))
    finding = {("unrecorded", stray.digest)}
    assert check(pushed.server, finding, mended=False).code == 1
    assert check(pushed.server, finding, "--repair", mended=True).code == 0
    assert fsck(pushed.server).clean
    assert not blob_file(pushed.data, stray.digest).exists()
    assert blob_file(pushed.data, young.digest).exists(), "a push that is under way"
    for blob in (stray, young):
        assert pushed.ask("HEAD", f"/v2/{pushed.repository}/blobs/{blob.digest}").status == 404
        assert pushed.push_blob(blob).status == 201
        assert pushed.ask("GET", f"/v2/{pushed.repository}/blobs/{blob.digest}").body == blob.content
    pushed.pull()


def test_half_written_bytes_without_a_record(pushed: Image) -> None:
    """What another file system might leave behind: the right name over other bytes. A push replaces them."""
    blob = unique_blob(100_000)
    path = blob_file(pushed.data, blob.digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(blob.content[:5000])
    assert pushed.push_blob(blob).status == 201
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert fsck(pushed.server).clean


def test_a_damaged_manifest(pushed: Image) -> None:
    other = unique_index()
    assert pushed.push_manifest(other, "other").status == 201
    with pushed.records() as db:
        query = "UPDATE manifests SET content = CAST(replace(content, 'sha256', 'sha257') AS BLOB) WHERE digest = ?"
        assert db.execute(query, (pushed.manifest.digest,)).rowcount == 1
    finding = {("manifest damaged", f"{pushed.repository}@{pushed.manifest.digest}")}
    assert check(pushed.server, finding, mended=False).code == 1
    assert check(pushed.server, finding, "--repair", mended=True).code == 0
    assert fsck(pushed.server).clean
    for reference in ("v1", pushed.manifest.digest):
        assert pushed.ask("GET", f"/v2/{pushed.repository}/manifests/{reference}").status == 404
    assert pushed.ask("GET", f"/v2/{pushed.repository}/manifests/other").body == other.content
    pushed.push()
    pushed.pull()
    assert fsck(pushed.server).clean


def test_an_incomplete_manifest(pushed: Image) -> None:
    with pushed.records() as db:
        query = (
            "DELETE FROM repository_blobs WHERE digest = ? AND repository_id = "
            "(SELECT id FROM repositories WHERE name = ?)"
        )
        assert db.execute(query, (pushed.layer.digest, pushed.repository)).rowcount == 1
    finding = {("manifest incomplete", f"{pushed.repository}@{pushed.manifest.digest}")}
    report = check(pushed.server, finding, mended=False)
    assert report.code == 1
    assert pushed.layer.digest in report.findings[0]["detail"]
    assert check(pushed.server, finding, "--repair", mended=False).code == 1, "only a client has the layer"
    assert pushed.ask("GET", f"/v2/{pushed.other}/blobs/{pushed.layer.digest}").body == pushed.layer.content
    pushed.push()
    pushed.pull()
    assert fsck(pushed.server).clean


def test_a_sparse_manifest_is_no_finding(serve: Serve) -> None:
    sparse = Image(serve("registry.sparse_manifests=true", workers=1))
    assert sparse.push_blob(sparse.config).status == 201
    assert sparse.push_manifest(sparse.manifest, "v1").status == 201
    assert fsck(sparse.server).clean, "what the operator allows is no disagreement"


@pytest.mark.parametrize("amount", [1, 600])
def test_lost_uploads(pushed: Image, amount: int) -> None:
    """More of them than one query returns, among others that are not lost."""
    target = f"/v2/{pushed.repository}/blobs/uploads/"
    kept = pushed.ask("POST", target).headers["docker-upload-uuid"]
    assert pushed.ask("PATCH", f"{target}{kept}", b"here").status == 202
    lost = {f"{number:032x}" for number in range(amount)}
    with pushed.records() as db:
        rows = [(upload, pushed.repository, time.time() - OLD) for upload in sorted(lost)]
        db.executemany("INSERT INTO uploads (id, repository, started_at) VALUES (?, ?, ?)", rows)
    finding = {("upload lost", upload) for upload in lost}
    assert check(pushed.server, finding, mended=False).code == 1
    assert check(pushed.server, finding, "--repair", mended=True).code == 0
    assert fsck(pushed.server).clean
    for upload in sorted(lost)[:3]:
        assert pushed.ask("GET", f"{target}{upload}").status == 404
    assert pushed.ask("GET", f"{target}{kept}").headers["range"] == "0-3"


def test_an_upload_that_lost_its_file_under_a_client(pushed: Image) -> None:
    target = f"/v2/{pushed.repository}/blobs/uploads/"
    upload = pushed.ask("POST", target).headers["docker-upload-uuid"]
    (pushed.data / "uploads" / upload).unlink()
    assert pushed.ask("GET", f"{target}{upload}").status == 404
    assert fsck(pushed.server).clean, "its commit may be under way"
    with pushed.records() as db:
        db.execute("UPDATE uploads SET started_at = ? WHERE id = ?", (time.time() - OLD, upload))
    assert check(pushed.server, {("upload lost", upload)}, "--repair", mended=True).code == 0
    assert fsck(pushed.server).clean


def test_a_commit_that_a_crash_cut_off_is_repeated(pushed: Image) -> None:
    """The bytes are in their place, the record is not: what a kill between the two steps leaves behind."""
    blob = unique_blob(1000)
    target = f"/v2/{pushed.repository}/blobs/uploads/"
    upload = pushed.ask("POST", target).headers["docker-upload-uuid"]
    assert pushed.ask("PATCH", f"{target}{upload}", blob.content).status == 202
    place = blob_file(pushed.data, blob.digest)
    place.parent.mkdir(exist_ok=True)
    (pushed.data / "uploads" / upload).rename(place)
    assert pushed.ask("HEAD", f"/v2/{pushed.repository}/blobs/{blob.digest}").status == 404
    assert fsck(pushed.server).clean
    assert pushed.ask("PUT", f"{target}{upload}?digest={blob.digest}").status == 201
    assert pushed.ask("GET", f"/v2/{pushed.repository}/blobs/{blob.digest}").body == blob.content
    assert pushed.ask("PUT", f"{target}{upload}?digest={blob.digest}").status == 404
    assert fsck(pushed.server).clean


def test_a_lost_upload_gives_no_right_to_what_others_hold(pushed: Image) -> None:
    target = f"/v2/{pushed.repository}/stranger/blobs/uploads/"
    upload = pushed.ask("POST", target).headers["docker-upload-uuid"]
    (pushed.data / "uploads" / upload).unlink()
    assert pushed.ask("PUT", f"{target}{upload}?digest={pushed.layer.digest}").status == 404
    assert pushed.ask("HEAD", f"/v2/{pushed.repository}/stranger/blobs/{pushed.layer.digest}").status == 404
    assert pushed.ask("DELETE", f"{target}{upload}").status == 204


def test_an_empty_store_is_taken_for_a_volume_that_is_not_mounted(serve: Serve) -> None:
    """A repair would forget every blob; once the volume is back, nothing is wrong."""
    pushed = Image(serve())
    pushed.push()
    pushed.server.stop()
    blobs = pushed.data / "blobs"
    away = blobs.rename(pushed.data / "away")
    command = [str(DRIFT), "fsck", "--repair", *pushed.server.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert "is its volume mounted?" in done.stderr
    shutil.rmtree(blobs)
    away.rename(blobs)
    assert fsck(pushed.server).findings == []


def test_several_at_once_on_a_stopped_server(serve: Serve) -> None:
    pushed = Image(serve(workers=1))
    pushed.push()
    lost, damaged = unique_blob(1000), unique_blob(1000)
    for blob in (lost, damaged):
        assert pushed.push_blob(blob).status == 201
    assert pushed.server.stop(PATIENCE) == 0
    blob_file(pushed.data, lost.digest).unlink()
    blob_file(pushed.data, damaged.digest).write_bytes(bytes(1000))
    finding = {("missing", lost.digest), ("damaged", damaged.digest)}
    assert check(pushed.server, finding, mended=False).code == 1
    assert check(pushed.server, finding, mended=False).code == 1, "looking must not change anything"
    assert check(pushed.server, finding, "--repair", mended=True).code == 0
    assert fsck(pushed.server).clean
    pushed.server.start(PATIENCE)
    pushed.pull()


def test_it_is_safe_beside_a_server_that_is_pushed_to(pushed: Image) -> None:
    """What is under way is no finding, and no repair takes it away."""
    upload = pushed.ask("POST", f"/v2/{pushed.repository}/blobs/uploads/").headers["location"]
    blobs = [unique_blob(2000) for _ in range(40)]
    with Wire(pushed.server) as wire:
        wire.begin("PATCH", upload, content_length=2000)
        wire.send(bytes(1000))
        for number, blob in enumerate(blobs):
            assert pushed.push_blob(blob).status == 201
            if number % 20 == 10:
                assert fsck(pushed.server, "--repair").clean
        wire.send(bytes(1000))
        assert wire.answer("PATCH").status == 202
    for blob in blobs:
        assert pushed.ask("GET", f"/v2/{pushed.repository}/blobs/{blob.digest}").body == blob.content
    eventually(lambda: fsck(pushed.server).clean, "a clean end")
