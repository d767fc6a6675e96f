"""Kills nodes one after the other, without warning, while something else goes on, and starts them again."""

import random
import threading
import time
from typing import Self

from tests.cluster.nodes import Cluster
from tests.faults.inspection import PATIENCE

LIFE = (0.3, 1.5)
"""Seconds, at least and at most, for which all nodes run before the next one dies."""


class Kills:
    """Goes on within the ``with`` block, at the end of which every node runs; ``count`` are the kills so far."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="kills")
        self._failure: BaseException | None = None
        self.count = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._cluster.whole()

    def _kill(self) -> None:
        try:
            while not self._stop.wait(self._chance.uniform(*LIFE)):
                victim = self._chance.choice(self._cluster.nodes)
                victim.kill()
                self.count += 1
                time.sleep(self._chance.uniform(0, 0.5))
                victim.start(PATIENCE)
        except BaseException as error:  # noqa: BLE001 - told by whoever ends the block
            self._failure = error
