"""`drift storage migrate` from files to a bucket, while a server takes pushes and gives out what was pushed."""

import subprocess
import threading
from pathlib import Path

from tests.clients.image_layout import ImageLayout, content, differences, digest_of, noise
from tests.clients.registry_api import RegistryApi
from tests.server import Server
from tests.services.minio import Minio
from tests.tools import ROOT
from tests.transfer.moves import command, drift

IMAGES = 6
BLOBS = 4
KEYS = ("copied", "size", "left", "failed")


def layouts(folder: Path, count: int, first: int) -> list[ImageLayout]:
    made = []
    for number in range(first, first + count):
        layout = ImageLayout(folder / str(number))
        layout.tag(layout.add_image(number, layer_size=300_000, compression="stored"))
        made.append(layout)
    return made


def assert_there(api: RegistryApi, repository: str, layout: ImageLayout) -> None:
    root = layout.root()
    assert differences(content(root, layout.read), content(root, api.reader(repository))) == []


class Client(threading.Thread):
    """Pushes one image after the other, and pulls each, and one that was there before, until it is told to stop."""

    def __init__(self, api: RegistryApi, before: list[ImageLayout], fresh: list[ImageLayout]) -> None:
        super().__init__()
        self.api = api
        self.before = before
        self.fresh = fresh
        self.stop = threading.Event()
        self.pushed = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for number, layout in enumerate(self.fresh):
                self.api.put_content(f"fresh/{number}", "v1", layout)
                self.pushed += 1
                assert_there(self.api, f"fresh/{number}", layout)
                old = number % len(self.before)
                assert_there(self.api, f"before/{old}", self.before[old])
                if self.stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error


def test_from_files_to_a_bucket_while_a_server_serves(tmp_path: Path) -> None:
    place = tmp_path / "registry"
    before, fresh = layouts(tmp_path / "before", IMAGES, 100), layouts(tmp_path / "fresh", 4 * IMAGES, 200)
    with Server(place) as server:
        api = RegistryApi(server.host)
        for number, layout in enumerate(before):
            api.put_content(f"before/{number}", "v1", layout)
        good = noise(500_000, 2)
        api.put_blob("extra", good, digest_of(good))
        # Goes on behind the change of the store.
        half = noise(700_000, 1)
        upload = api.request("POST", "/v2/before/0/blobs/uploads/", {"content-length": "0"}).headers["location"]
        assert api.request("PATCH", upload, body=half[:400_000]).status == 202
    (damaged,) = (place / "data" / "blobs").glob(f"*/*/{digest_of(good).removeprefix('sha256:')}")
    with Minio() as minio:
        bucket = minio.new_bucket()
        new = tuple(minio.settings(bucket))
        both = (*new, "storage.previous=filesystem")
        with Server(place, *both) as server:
            api = RegistryApi(server.host)
            planned = drift("storage", "migrate", "--dry-run", folder=place, settings=both)
            assert (planned.code, planned.counts["copied"]) == (0, 0)
            assert planned.counts["left"] == IMAGES * BLOBS + 1
            client = Client(api, before, fresh)
            client.start()
            damaged.write_bytes(bytes(len(good)))
            done = drift("storage", "migrate", folder=place, settings=both)
            assert (done.code, done.counts["failed"], done.counts["left"]) == (1, 1, 1)
            assert [failure["digest"] for failure in done.counts["failures"]] == [f"sha256:{damaged.name}"]
            assert done.counts["copied"] == IMAGES * BLOBS
            damaged.write_bytes(good)
            again = drift("storage", "migrate", folder=place, settings=both)
            assert [again.counts[key] for key in KEYS] == [1, len(good), 0, 0]
            client.stop.set()
            client.join()
            assert client.error is None
            assert client.pushed > 0
            ended = api.request("PUT", f"{upload}?digest={digest_of(half)}", body=half[400_000:])
            assert ended.status == 201
            said = subprocess.run(
                command("storage", "migrate", folder=place, settings=both),
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert "copied 0 blobs" in said.stdout
            assert "remove storage.previous" in said.stdout
        (place / "data" / "blobs").rename(tmp_path / "gone")
        with Server(place, *new) as server:
            api = RegistryApi(server.host)
            for number, layout in enumerate(before):
                assert_there(api, f"before/{number}", layout)
            for number, layout in enumerate(fresh[: client.pushed]):
                assert_there(api, f"fresh/{number}", layout)
            assert api.blob("before/0", digest_of(half)) == half


def test_without_a_previous_store_there_is_nothing_to_do(tmp_path: Path) -> None:
    done = drift("storage", "migrate", folder=tmp_path)
    assert done.code == 1
    assert "storage.previous: is not set" in done.errors
    same = drift("storage", "migrate", folder=tmp_path, settings=("storage.previous=filesystem",))
    assert same.code == 1
    assert "storage.previous: is the driver of storage.type" in same.errors
