"""Nothing unsigned is given out while images are pushed, signed and pulled, keys rotated and trust replaced."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.signing.place import ENFORCED, Place, push_image, replace

REPOSITORY = "team/app"


class Race:
    """Pulls of many clients, who know of each image only whether somebody has begun to sign it."""

    def __init__(self, place: Place, pulls: int) -> None:
        self.place = place
        self.left = pulls
        self.lock = threading.Lock()
        self.known: list[str] = []
        self.begun: set[str] = set()
        self.signed: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.given: list[str] = []

    def going(self) -> bool:
        return self.left > 0

    def push(self) -> None:
        """Pushes images, and has every other one signed by a key that is always trusted."""
        chance = random.Random(1)
        url, login = self.place.server.url, ("root", "root-password")
        with self.place.client("root") as root, httpx.Client(base_url=url, auth=login, timeout=60) as signing:
            while self.going():
                digest = push_image(root, REPOSITORY).digest
                self.known.append(digest)
                if chance.random() < 0.5:
                    self.begun.add(digest)
                    wanted = {"repository": REPOSITORY, "reference": digest, "key_id": "other"}
                    while (status := signing.post("/admin/signing/sign", json=wanted).status_code) != 201:
                        # What is trusted is broken for a moment, and with it whether this was signed before.
                        assert status == 503, status
                    self.signed.add(digest)

    def pull(self, seed: int) -> None:
        chance = random.Random(seed)
        # Without the checks of `Registry`: while a file of trust is broken pulls are answered by 503.
        with httpx.Client(base_url=self.place.server.url, auth=("bob", "bob-password"), timeout=60) as client:
            while self.going():
                if not self.known:
                    continue
                digest = chance.choice(self.known[-50:])
                signed = digest in self.signed
                method = chance.choice(("GET", "HEAD"))
                status = client.request(method, f"/v2/{REPOSITORY}/manifests/{digest}").status_code
                with self.lock:
                    # What is refused while trust is broken is answered so soon that it would use up all of them.
                    self.left -= status != 503
                    self.statuses[status] += 1
                    if status == 200 and digest not in self.begun:
                        self.given.append(digest)
                    assert status in {200, 403, 503}, status
                    assert status != 403 or not signed, f"{digest} is signed, and refused"

    def replace(self) -> None:
        """Exchanges the other key again and again, and now and then breaks its file for a moment."""
        chance = random.Random(2)
        pause = threading.Event()
        broken = True
        while self.going():
            self.place.trust("default", chance.choice(("default", "stranger")))
            pause.wait(0.3)
            if broken:
                replace(self.place.folder / "default.pub", b"-----BEGIN PUBLIC KEY-----\n")
                pause.wait(1.5)
            broken = chance.random() < 0.3
        # Whoever still signs waits for that.
        self.place.trust("default", "default")


def race(place: Place, pulls: int) -> Race:
    """Runs it, and lets out what any of the clients found."""
    found = Race(place, pulls)
    with ThreadPoolExecutor(8) as pool:
        works: list[Callable[[], None]] = [found.push, found.replace]
        begun = [pool.submit(work) for work in works] + [pool.submit(found.pull, seed) for seed in range(6)]
        for one in begun:
            if (error := one.exception()) is not None:
                found.left = 0
                raise error
    return found


@pytest.mark.parametrize(
    "pulls", [pytest.param(1500, id="short"), pytest.param(10_000, id="long", marks=pytest.mark.soak)]
)
def test_nothing_unsigned_is_given(tmp_path: Path, pulls: int) -> None:
    with Place(tmp_path, ENFORCED) as place:
        found = race(place, pulls)
    assert found.given == []
    # Each of these has happened, or nothing was shown.
    assert all(found.statuses[status] > 0 for status in (200, 403, 503)), found.statuses
