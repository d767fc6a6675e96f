"""A full disk: pushes are refused in the field's own words, pulls go on, and so does everything when space is back."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Serve, SmallDisk
from tests.faults.inspection import (
    MIB,
    PATIENCE,
    all_listen,
    errors_in_log,
    eventually,
    fsck,
    listeners,
    refused,
    uploads_on_disk,
)
from tests.oci.content import Blob, Document, image, index, unique_blob, unique_index
from tests.oci.wire import Answer, Wire
from tests.server import Server

REPOSITORY = "full/disk"


class Disk:
    """A small file system and a file in it that can give its space back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def take(self, size: int) -> None:
        """Takes some bytes away."""
        self.ballast.write_bytes(bytes(size))

    def take_all(self) -> None:
        """Takes all that is left, to the last page."""
        with self.ballast.open("ab", buffering=0) as ballast, self._until_full():
            while True:
                ballast.write(bytes(4096))

    @contextmanager
    def _until_full(self) -> Iterator[None]:
        with pytest.raises(OSError, match="No space left"):
            yield

    def free(self) -> int:
        """Returns the bytes that are left."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def give_back(self) -> None:
        """Makes room again."""
        self.ballast.unlink()


class Client:
    """Pushes to one repository; an answer with a 5xx must be the one that a full disk deserves."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def ask(self, method: str, target: str, body: bytes = b"", /, **headers: str | int) -> Answer:
        """Sends one request and reads its answer, which comes even if the server did not want the whole body."""
        with Wire(self._server) as wire:
            wire.begin(method, target, content_length=len(body), **headers)
            with suppress(ConnectionError):  # the answer is there already
                wire.send(body)
            answer = wire.answer(method)
        if answer.status >= 500:
            assert answer.status in {503, 507}, f"{method} {target}: {answer}"
            if target.startswith("/v2/") and method != "HEAD":
                assert [error["code"] for error in answer.json()["errors"]] == ["UNAVAILABLE"]
        return answer

    def push_blob(self, blob: Blob) -> Answer:
        return self.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={blob.digest}", blob.content)

    def push_manifest(self, manifest: Document, reference: str) -> Answer:
        target = f"/v2/{REPOSITORY}/manifests/{reference}"
        return self.ask("PUT", target, manifest.content, content_type=manifest.media_type)

    def push_image(self, tag: str) -> tuple[Blob, Blob, Document]:
        config, layer = unique_blob(300), unique_blob(50_000)
        for blob in (config, layer):
            assert self.push_blob(blob).status == 201
        manifest = image(config, layer)
        assert self.push_manifest(manifest, tag).status == 201
        return config, layer, manifest

    def pull_image(self, tag: str, pushed: tuple[Blob, Blob, Document]) -> None:
        """Pulls an image, which must be what was pushed."""
        *blobs, manifest = pushed
        assert self.ask("GET", f"/v2/{REPOSITORY}/manifests/{tag}").body == manifest.content
        for blob in blobs:
            assert self.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body == blob.content
            part = self.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}", range="bytes=10-19")
            assert part.body == blob.content[10:20]

    def begin(self) -> str:
        answer = self.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        assert answer.status == 202, answer
        return answer.headers["location"]

    def append(self, location: str, blob: Blob, start: int, stop: int) -> Answer:
        return self.ask("PATCH", location, blob.content[start:stop], content_range=f"{start}-{stop - 1}")

    def received(self, location: str) -> int:
        answer = self.ask("GET", location)
        assert answer.status == 204, answer
        return int(answer.headers["range"].removeprefix("0-")) + 1


def is_full(answer: Answer) -> bool:
    """Says whether a push was refused for want of space, and nothing else."""
    assert answer.status in {201, 202, 503, 507}, answer
    return answer.status >= 500


def finish(client: Client, location: str, blob: Blob) -> None:
    """Goes on with an upload from where the server says that it is, and pulls the blob."""
    held = client.received(location)
    answer = client.append(location, blob, held, blob.size)
    assert answer.status == 202, answer
    assert client.ask("PUT", f"{location}?digest={blob.digest}").status == 201
    assert client.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body == blob.content


def test_a_full_disk(small_disk: SmallDisk, serve: Serve) -> None:
    disk = Disk(small_disk("48m"))
    disk.take(20 * MIB)
    server = serve(f"storage.path={disk.folder / 'data'}", "registry.immutable_tags=[]")
    eventually(lambda: all_listen(server), "both workers listening")
    workers = server.workers()
    client = Client(server)
    pushed = client.push_image("before")
    upload = unique_blob(12 * MIB)
    location = client.begin()
    assert client.append(location, upload, 0, 4 * MIB).status == 202

    # Blobs until one is refused; then the upload that is under way finds no space either.
    blobs = []
    for _ in range(100):
        blob = unique_blob(2 * MIB)
        if is_full(client.push_blob(blob)):
            break
        blobs.append(blob)
    else:
        pytest.fail("the disk never became full")
    disk.take_all()
    refused = client.append(location, upload, 4 * MIB, upload.size)
    assert is_full(refused), refused
    held = client.received(location)
    assert 4 * MIB <= held < upload.size

    # Whatever is asked of it now gets a proper answer; the bytes of small blobs and the records need space, too.
    for attempt in range(20):
        client.push_blob(unique_blob(100))
        client.push_blob(unique_blob(MIB))
        client.push_manifest(unique_index(), f"full-{attempt}")
        client.push_manifest(index(pushed[-1]), "before-index")
        client.ask("POST", f"/v2/full/other/blobs/uploads/?mount={pushed[1].digest}&from={REPOSITORY}")
        client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/full-{attempt}")
        client.ask("GET", f"/v2/{REPOSITORY}/tags/list")
        client.ask("GET", "/v2/_catalog")
    assert client.ask("GET", "/readyz").status in {503, 507}
    assert client.ask("GET", "/healthz").status == 200
    client.pull_image("before", pushed)
    for blob in blobs:
        assert client.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body == blob.content
    assert server.workers() == workers, "a worker died of it"

    disk.give_back()
    eventually(lambda: client.ask("GET", "/readyz").status == 200, "ready again")
    assert client.received(location) == held
    finish(client, location, upload)
    client.pull_image("after", client.push_image("after"))
    client.pull_image("before", pushed)
    assert server.workers() == workers
    assert not errors_in_log(server)
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean


def test_refused_pushes_take_no_space(small_disk: SmallDisk, serve: Serve) -> None:
    disk = Disk(small_disk("32m"))
    server = serve(f"storage.path={disk.folder / 'data'}", workers=1)
    client = Client(server)
    assert client.push_blob(unique_blob(100)).status == 201
    before = disk.free()
    huge = unique_blob(40 * MIB)
    for _ in range(3):
        # Nobody learns the name of an upload that is one request, so nobody can go on with it or end it.
        assert is_full(client.push_blob(huge))
        eventually(lambda: not uploads_on_disk(disk.folder / "data"), "the refused upload gone")
    assert disk.free() > before - MIB
    assert client.push_blob(unique_blob(8 * MIB)).status == 201


def test_many_at_once_on_a_full_disk(small_disk: SmallDisk, serve: Serve) -> None:
    disk = Disk(small_disk("40m"))
    server = serve(f"storage.path={disk.folder / 'data'}")
    client = Client(server)
    acknowledged: list[Blob] = []
    full = threading.Event()

    def push_until_full() -> None:
        for _ in range(40):
            blob = unique_blob(MIB)
            if is_full(client.push_blob(blob)):
                full.set()
                return
            acknowledged.append(blob)

    with ThreadPoolExecutor(8) as pool:
        for pushing in [pool.submit(push_until_full) for _ in range(8)]:
            pushing.result()
    assert full.is_set()
    assert acknowledged
    for blob in acknowledged:
        assert client.ask("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body == blob.content
    assert not errors_in_log(server)
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean


def test_a_full_disk_under_the_database(small_disk: SmallDisk, serve: Serve) -> None:
    disk = Disk(small_disk("8m"))
    server = serve(f"metadata.url=sqlite:///{disk.folder / 'drift.db'}", "registry.immutable_tags=[]")
    client = Client(server)
    pushed = client.push_image("before")
    upload = unique_blob(2 * MIB)
    location = client.begin()
    assert client.append(location, upload, 0, MIB).status == 202
    disk.take_all()
    acknowledged: list[Document] = []
    refused = 0
    for number in range(3000):
        manifest = unique_index(text="x" * 20_000)
        if is_full(client.push_manifest(manifest, f"tag-{number}")):
            refused += 1
        else:
            acknowledged.append(manifest)
        if refused == 20:
            break
    else:
        pytest.fail("the disk never became full")

    client.pull_image("before", pushed)
    blob = unique_blob(1000)
    for _ in range(20):
        client.push_blob(blob)
        client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
        client.ask("POST", f"/v2/full/other/blobs/uploads/?mount={pushed[1].digest}&from={REPOSITORY}")
        client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/tag-0")
        client.ask("GET", f"/v2/{REPOSITORY}/tags/list")
        client.ask("GET", "/readyz")
        client.append(location, upload, MIB, MIB + 1)
        client.ask("PUT", f"{location}?digest={upload.digest}")
    for manifest in acknowledged:
        assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/{manifest.digest}").body == manifest.content

    disk.give_back()
    eventually(lambda: client.push_blob(blob).status == 201, "pushes go on")
    assert client.ask("GET", "/readyz").status == 200
    finish(client, location, upload)
    client.pull_image("after", client.push_image("after"))
    for manifest in acknowledged:
        assert client.ask("GET", f"/v2/{REPOSITORY}/manifests/{manifest.digest}").body == manifest.content
    assert not errors_in_log(server)
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean


def test_a_worker_dies_on_a_full_disk(small_disk: SmallDisk, serve: Serve) -> None:
    disk = Disk(small_disk("16m"))
    server = serve(f"storage.path={disk.folder / 'data'}")
    eventually(lambda: all_listen(server), "both workers listening")
    client = Client(server)
    pushed = client.push_image("before")
    disk.take_all()
    os.kill(server.workers()[0], signal.SIGKILL)
    eventually(lambda: listeners(server.port) == 1, "the worker dead")
    for _ in range(20):
        client.pull_image("before", pushed)
    disk.give_back()
    eventually(lambda: all_listen(server), "both workers listening again")
    client.pull_image("after", client.push_image("after"))
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean


@pytest.mark.parametrize("place", ["storage.path={}/data", "storage.filesystem.path={}/blobs"])
def test_a_start_on_a_full_disk_says_so(small_disk: SmallDisk, serve: Serve, place: str) -> None:
    disk = Disk(small_disk("16m"))
    server = serve(place.format(disk.folder))
    client = Client(server)
    pushed = client.push_image("before")
    assert server.stop(PATIENCE) == 0
    disk.take_all()
    message = refused(server)
    assert str(disk.folder) in message
    assert "No space left on device" in message or "disk is full" in message
    disk.give_back()
    server.start(PATIENCE)
    client.pull_image("before", pushed)
    assert server.stop(PATIENCE) == 0
    assert fsck(server).clean
