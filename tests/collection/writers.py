"""Clients that push images of shared layers, delete them and push them again, and know what they must be told."""

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from tests.cluster.client import Client
from tests.faults.inspection import PATIENCE
from tests.oci.content import OCTETS, Blob, Document, image

REPOSITORIES = ("race/one", "race/two")

LAYERS = [Blob(b"layer %d " % number * 2000) for number in range(24)]
"""So many that each is often needed by nobody for a while."""


class Writers:
    """Writers that work until the end of the ``with`` block, beside a collector that removes whatever it may.

    ``lease`` is that of the server in seconds: whoever pushes a manifest in less than half of it, after the registry
    has said of every blob that it is there, must not hear that one is missing.
    """

    def __init__(self, url: str, lease: float, *, writers: int = 8) -> None:
        self.client = Client(url)
        self.images: dict[tuple[str, str], tuple[Document, tuple[Blob, ...]]] = {}
        """Acknowledged images by repository and tag."""
        self.pushed = 0
        self.reused = 0
        """Blobs that were not sent, since the registry had them."""
        self.deleted = 0
        self._lease = lease
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(writers)
        self._running: list[Future[None]] = []
        self._writers = writers

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._write, number) for number in range(self._writers)]
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        try:
            for running in self._running:
                running.result(2 * PATIENCE)
            if kind is None:
                self.check_everything()
        finally:
            self._pool.shutdown(cancel_futures=True)
            self.client.__exit__()

    def go_on(self, seconds: float) -> None:
        """Lets them write for a time, and raises what one of them raises."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for running in self._running:
                if running.done():
                    running.result()
            time.sleep(0.2)

    def check_everything(self) -> None:
        """Pulls every image that was acknowledged, and not deleted since."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._check, list(self.images)))

    def _write(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            repository, tag = chance.choice(REPOSITORIES), f"writer-{number}-{chance.randrange(3)}"
            layers = chance.sample(LAYERS, 2)
            # Nobody has a manifest of another, who could delete it by its digest before this one knows that it has it.
            config = Blob(b'{"config": %d}' % (chance.randrange(50) * self._writers + number))
            self._push(repository, tag, chance, config, *layers)
            if chance.random() < 0.3:
                self._check((repository, tag))
            if chance.random() < 0.6:
                self._delete(repository, tag, by_digest=chance.random() < 0.5)

    def _push(self, repository: str, tag: str, chance: random.Random, config: Blob, *layers: Blob) -> None:
        manifest = image(config, *layers)
        while True:
            began = time.monotonic()
            for blob in (config, *layers):
                self._push_blob(repository, blob, chance)
            path = f"/v2/{repository}/manifests/{tag}"
            # What it names may be replaced by this attempt, or an earlier one that was cut.
            self.images.pop((repository, tag), None)
            answer = self.client.insist("PUT", path, None, manifest.content, content_type=manifest.media_type)
            if answer.status_code == 201:
                self.images[repository, tag] = manifest, (config, *layers)
                self.pushed += 1
                return
            assert time.monotonic() - began > self._lease / 2, answer.text

    def _push_blob(self, repository: str, blob: Blob, chance: random.Random) -> None:
        path = f"/v2/{repository}/blobs/"
        if self.client.insist("HEAD", f"{path}{blob.digest}").status_code == 200:
            self.reused += 1
            return
        if chance.random() < 0.3:
            source = chance.choice(REPOSITORIES)
            answer = self.client.insist("POST", f"{path}uploads/", {"mount": blob.digest, "from": source})
            if answer.status_code == 201:
                self.reused += 1
                return
        answer = self.client.insist(
            "POST", f"{path}uploads/", {"digest": blob.digest}, blob.content, content_type=OCTETS
        )
        assert answer.status_code == 201, answer.text

    def _delete(self, repository: str, tag: str, *, by_digest: bool) -> None:
        manifest, _ = self.images.pop((repository, tag))
        if by_digest:
            # Of others, too, that have the same image: they must not count on it any more.
            for key, (other, _) in list(self.images.items()):
                if key[0] == repository and other.digest == manifest.digest:
                    return
        reference = manifest.digest if by_digest else tag
        answer = self.client.insist("DELETE", f"/v2/{repository}/manifests/{reference}")
        # An earlier attempt whose answer was lost may have gone through.
        assert answer.status_code in {202, 404}, answer.text
        self.deleted += 1

    def _check(self, key: tuple[str, str]) -> None:
        manifest, blobs = self.images[key]
        repository, tag = key
        path = f"/v2/{repository}/manifests/{tag}"
        answer = self.client.insist("GET", path, accept="*/*")
        found = answer.status_code, answer.headers.get("docker-content-digest"), answer.content
        # Whatever was sent twice may have been done late.
        assert found == (200, manifest.digest, manifest.content), (key, found, self.client.retried)
        for blob in blobs:
            assert self.client.pull_blob(repository, blob.digest) == blob.content, key
