"""Kills workers and whole servers under concurrent pushes: what was acknowledged stays, nothing half-written shows."""

import os
import random
import secrets
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.inspection import PATIENCE, alive, all_listen, blob_files, eventually, fsck, is_whole
from tests.faults.ledger import Ledger, Seen, verify
from tests.faults.pusher import Pusher
from tests.server import Server

CLIENTS = 6

SAMPLE = 150
"""Older facts that are read again after each round; the last round reads all."""

KILL_AFTER = (0.05, 0.8)
"""Seconds of pushing, at least and at most, before a kill."""

GO_ON = 0.3
"""Seconds for which clients go on pushing to the other worker after one was killed."""

OLD = 7200.0
"""Seconds after which fsck no longer takes unrecorded bytes for a push that is under way."""


class Crashes:
    """A server that is killed again and again, and the ledger that outlives it."""

    def __init__(self, server: Server, seed: str) -> None:
        self.server = server
        self.seed = seed
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.acknowledged = 0
        self.cut = 0
        self.seen = Seen()
        self.lost: list[str] = []

    def round(self, number: int) -> None:
        """Pushes, kills, looks, and leaves a server that runs with both workers."""
        whole = number % 2 == 1
        pushers = [
            Pusher(self.server, self.ledger, f"{self.seed}/{number}/{name}", str(name)) for name in range(CLIENTS)
        ]
        stop = threading.Event()
        with ThreadPoolExecutor(CLIENTS) as pool:
            pushing = [pool.submit(pusher.push_until, stop) for pusher in pushers]
            try:
                time.sleep(self.chance.uniform(*KILL_AFTER))
                broken = [how for pusher in pushers for how in pusher.cut]
                assert not broken, f"nobody was killed, and yet {broken}: {self.server.log.read_text()[-4000:]}"
                if whole:
                    self.server.kill()
                else:
                    victim = self.chance.choice(self.server.workers())
                    os.kill(victim, signal.SIGKILL)
                    time.sleep(GO_ON)
                    eventually(lambda: not alive(victim), "the worker dead")
            finally:
                stop.set()
            for pushed in pushing:
                pushed.result(PATIENCE)
        self.acknowledged += sum(pusher.acknowledged for pusher in pushers)
        self.cut += sum(len(pusher.cut) for pusher in pushers)
        if whole:
            if self.chance.random() < 0.3:
                self._check_at_rest()
            self.server.start(PATIENCE)
        self._verify(SAMPLE)
        eventually(lambda: all_listen(self.server), "both workers listening")

    def end(self) -> int:
        """Stops the server, checks everything, and returns how many files in it nobody refers to."""
        self._verify(None)
        assert self.server.stop(PATIENCE) == 0
        self._check_at_rest()
        data = self.server.folder / "data"
        for path in blob_files(data):
            os.utime(path, (time.time() - OLD, time.time() - OLD))
        report = fsck(self.server)
        assert set(report.kinds()) <= {"unrecorded", "upload lost"}, report
        repaired = fsck(self.server, "--repair")
        assert repaired.kinds() == report.kinds()
        assert repaired.code == 0
        assert fsck(self.server).clean
        self.server.start(PATIENCE)
        self._verify(None)
        assert self.server.stop(PATIENCE) == 0
        return report.kinds().count("unrecorded")

    def _verify(self, sample: int | None) -> None:
        seen = verify(self.ledger, self.server, self.chance, sample)
        for name, amount in vars(seen).items():
            setattr(self.seen, name, getattr(self.seen, name) + amount)

    def _check_at_rest(self) -> None:
        """Checks what a crash left on the disk, before a server has seen it."""
        report = fsck(self.server)
        assert set(report.kinds()) <= {"upload lost"}, report
        self.lost += [f"{finding['kind']}: {finding['subject']}" for finding in report.findings]
        broken = [path for path in blob_files(self.server.folder / "data") if not is_whole(path)]
        assert not broken, f"half-written, and in the place of whole blobs: {broken}"


def crash(folder: Path, rounds: int) -> None:
    """Goes through a number of rounds; CRASH_SEED in the environment repeats those of another run."""
    seed = os.environ.get("CRASH_SEED") or secrets.token_hex(4)
    print(f"CRASH_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    server = Server(folder, "registry.immutable_tags=[]", "storage.filesystem.fsync=true")
    crashes = Crashes(server, seed)
    try:
        server.start(PATIENCE)
        eventually(lambda: all_listen(server), "both workers listening")
        for number in range(rounds):
            print(f"round {number}")  # noqa: T201
            crashes.round(number)
        unrecorded = crashes.end()
    finally:
        server.kill()
    print(f"{crashes.acknowledged} answers, {crashes.cut} cut, {crashes.seen}, {unrecorded} unrecorded")  # noqa: T201
    # The test itself must have tested something: pushes that went through, and some that were cut in the middle.
    assert crashes.acknowledged > 10 * rounds
    assert crashes.cut > rounds / 2
    assert crashes.seen.resumed > rounds / 2
    assert not crashes.seen.lost
    assert not crashes.lost


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    crash(tmp_path / "server", 20)


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_in_200_rounds(tmp_path: Path) -> None:
    crash(tmp_path / "server", 200)
