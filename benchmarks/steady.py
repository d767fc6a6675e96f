"""Pushes and pulls small images at a fixed rate and tells how long each took: `python -m benchmarks.steady`."""

import hashlib
import os
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from threading import Thread

from msgspec import Struct, json

from benchmarks.images import CONFIG, CONFIG_TYPE, LAYER_TYPE, MANIFEST

REPOSITORY = "bench/steady"
LAYER_BYTES = 64 << 10
PATIENCE = 120.0


class Load(Struct):
    """Where to, for how many seconds, and how many pushes and pulls in each of them; ``round`` tells runs apart."""

    port: int
    seconds: float
    pushes: float = 20.0
    pulls: float = 80.0
    round: int = 0


class Took(Struct):
    """The seconds of every push and of every pull, from when each was due, and how many failed."""

    pushes: list[float] = []
    pulls: list[float] = []
    failed: int = 0


def send(load: Load) -> Took:
    """Runs the load in a process of its own, and returns what it took."""
    command = [sys.executable, "-m", "benchmarks.steady", json.encode(load).decode()]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.decode(done.stdout, type=Took)


class _Client:
    """One connection; what it pushes is pulled by no other."""

    def __init__(self, port: int, name: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._name = name
        self._count = 0
        self._layer = ""

    def push(self) -> bool:
        """Pushes an image of one new layer; says whether all of it was accepted."""
        self._count += 1
        layer = os.urandom(LAYER_BYTES)
        config = CONFIG[:-1] + f',"author":"{self._name} {self._count}"}}'.encode()
        parts = []
        for content, kind in ((config, CONFIG_TYPE), (layer, LAYER_TYPE)):
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            _, place = self._ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
            place = place.partition("//")[2].partition("/")[2] if "//" in place else place.removeprefix("/")
            mark = "&" if "?" in place else "?"
            status, _ = self._ask("PUT", f"/{place}{mark}digest={digest}", content)
            if status != 201:
                return False
            parts.append({"mediaType": kind, "digest": digest, "size": len(content)})
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
        self._layer = parts[1]["digest"]
        path = f"/v2/{REPOSITORY}/manifests/{self._name}"
        return self._ask("PUT", path, json.encode(manifest), MANIFEST)[0] == 201

    def pull(self) -> bool:
        """Pulls the image that was pushed last; says whether it was there."""
        here = f"/v2/{REPOSITORY}"
        return all(
            self._ask("GET", f"{here}/{what}")[0] == 200 for what in (f"manifests/{self._name}", f"blobs/{self._layer}")
        )

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> tuple[int, str]:
        # distribution has no manifest for who does not say that it takes this kind.
        headers = {"Content-Type": kind or "application/octet-stream"} if body else {"Accept": f"{MANIFEST}, */*"}
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            self._connection.close()
            return 0, ""
        return answer.status, answer.getheader("Location", "")


def run(load: Load) -> Took:
    """Pushes by one thread, and pulls by another."""
    took = Took()
    pusher, puller = (_Client(load.port, f"{name}{load.round}") for name in ("push", "pull"))
    if not puller.push():
        raise RuntimeError("nothing can be pushed")

    def repeat(what: str, rate: float, seconds: list[float]) -> None:
        began = time.monotonic()
        for number in range(int(load.seconds * rate)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            # Who is late because an answer was late does not hide it.
            good = pusher.push() if what == "push" else puller.pull()
            seconds.append(time.monotonic() - due)
            took.failed += not good

    threads = [
        Thread(target=repeat, args=("push", load.pushes, took.pushes)),
        Thread(target=repeat, args=("pull", load.pulls, took.pulls)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


if __name__ == "__main__":
    sys.stdout.buffer.write(json.encode(run(json.decode(sys.argv[1], type=Load))))
