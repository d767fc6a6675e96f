"""Clients that push, move one tag and pull all the while, and know what they must be told."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from tests.cluster.client import Client
from tests.faults.inspection import PATIENCE
from tests.oci.content import Blob, Document, index

MOVING = "moving"


class Load:
    """Pushes images with tags of their own, moves one tag on and on, and pulls, until the end of the ``with`` block.

    Every pull is held to what was acknowledged before it was asked for: the bytes of an image, and a moved tag never
    names anything older. At the end everything that was ever acknowledged is pulled once more.
    """

    def __init__(self, url: str, repository: str, *, pushers: int = 3, pullers: int = 2, size: int = 100_000) -> None:
        self._url = url
        self.repository = repository
        self._counts = pushers, pullers
        self._size = size
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(pushers + pullers + 1)
        self._running: list[Future[None]] = []
        self._serial = itertools.count()
        self.images: dict[str, tuple[Document, Blob]] = {}
        """Acknowledged images by their tags: the manifest and its layer."""
        self.moved: list[Document] = []
        """What the one tag was acknowledged to name, the newest last."""
        self.pulled = 0
        self.client = Client(url)

    def __enter__(self) -> Self:
        pushers, pullers = self._counts
        for work in (*[self._push] * pushers, *[self._pull] * pullers, self._move):
            self._running.append(self._pool.submit(self._until_stopped, work))
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

    def goes_on(self, amount: int = 5, within: float = PATIENCE) -> float:
        """Waits until ``amount`` more images and moves were acknowledged, and returns the seconds that it took."""
        began, images, moved = time.monotonic(), len(self.images), len(self.moved)
        while len(self.images) < images + amount or len(self.moved) < moved + amount:
            for running in self._running:
                if running.done():
                    running.result()
            waited = time.monotonic() - began
            done = f"{len(self.images) - images} images and {len(self.moved) - moved} moves"
            assert waited < within, f"in {within} s no more than {done}"
            time.sleep(0.02)
        return time.monotonic() - began

    def _until_stopped(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            work()

    def _push(self) -> None:
        serial = next(self._serial)
        chance = random.Random(f"{self.repository} {serial}")
        layer, config = Blob(chance.randbytes(self._size)), Blob(f'{{"serial": {serial}}}'.encode())
        manifest = self.client.push_image(self.repository, f"tag-{serial}", config, layer)
        self.images[f"tag-{serial}"] = manifest, layer

    def _move(self) -> None:
        manifest = self._version(len(self.moved))
        # Under a condition, since a push that nobody waits for any more may still be on its way in a node that stands.
        condition = {"if_match": f'"{self.moved[-1].digest}"'} if self.moved else {"if_none_match": "*"}
        path = f"/v2/{self.repository}/manifests/{MOVING}"
        answer = self.client.insist("PUT", path, None, manifest.content, content_type=manifest.media_type, **condition)
        if answer.status_code == 412:
            # An earlier attempt went through, and only its answer was lost.
            assert answer.json()["errors"][0]["detail"]["current"] == manifest.digest, answer.text
        else:
            assert answer.status_code == 201, answer.text
        self.moved.append(manifest)

    def _version(self, number: int) -> Document:
        return index(annotations={"moved": str(number), "in": self.repository})

    def _pull(self) -> None:
        known = list(self.images)
        if not known or not self.moved:
            time.sleep(0.05)
            return
        tag = random.choice(known)
        self._check(tag)
        before = len(self.moved)
        digest, content = self.client.pull(self.repository, MOVING)
        # The one after these may be on its way, and was not acknowledged when the question was asked.
        after = len(self.moved)
        allowed = [self._version(number).digest for number in range(before - 1, after + 1)]
        assert digest in allowed, f"{MOVING} names none of {before - 1} to {after}: {content!r}"
        self.pulled += 1

    def _check(self, tag: str) -> None:
        manifest, layer = self.images[tag]
        assert self.client.pull(self.repository, tag) == (manifest.digest, manifest.content), tag
        assert self.client.pull_blob(self.repository, layer.digest) == layer.content, tag

    def check_everything(self) -> None:
        """Pulls everything that was ever acknowledged, and lists it."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._check, list(self.images)))
        assert self.client.pull(self.repository, MOVING)[1] == self.moved[-1].content
        assert {*self.client.tags(self.repository)} == {*self.images, MOVING}
