"""Where QUIC wins and where it does not: pulls over a link that is slow, far, and loses packets.

`python -m benchmarks.quic_link [--rounds 3] [--layers 20] [--kib 256]`, as root, prints a table in Markdown with the
time of a pull by HTTP/3, HTTP/2 and HTTP/1.1 over the same link, and that of a first request with and without early
data.

The link is a program of this module between two TUN devices, one of them in a network namespace with the client: what
happens to a packet does not depend on whether it is of UDP or of TCP. It has a rate, a delay, a queue of 64 KiB in each
direction that drops what does not fit, and a loss by chance. Drift has no HTTP/2: haproxy speaks it before Drift's
HTTP/1.1. The client is quic-go's and Go's (`.tools/bin/quic-gateway`), with four requests at once.
"""

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from msgspec import Struct

from benchmarks.quic import BACKENDS, certify
from tests.oci.content import OCTETS, unique_blob
from tests.server import Server, free_port
from tests.tools import TOOLS

NAMESPACE: Final = f"drift-link-{os.getpid()}"
SERVER, CLIENT = "10.231.77.1", "10.231.77.2"
TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x1, 0x1000
QUEUE_BYTES: Final = 64 << 10
AT_ONCE: Final = 4
EARLY: Final = ("quic.enable_0rtt=true", "quic.enable_early_data=true")
PATIENCE: Final = 300.0


class Weather(Struct, frozen=True):
    """How a link is: ``delay`` in one direction in seconds, ``loss`` from 0 to 1, ``rate`` in bits per second."""

    delay: float
    loss: float
    rate: float


class Direction:
    """One direction of a link: packets that are under way, in the order in which they arrive."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._free_at = 0.0
        self._under_way: list[tuple[float, int, bytes]] = []
        self._count = 0

    def take(self, packet: bytes, weather: Weather, now: float) -> None:
        """Sends a packet, if it fits and is not lost."""
        waiting = max(0.0, self._free_at - now) * weather.rate / 8
        if waiting + len(packet) > QUEUE_BYTES or random.random() < weather.loss:  # noqa: S311 - a measurement
            return
        self._free_at = max(self._free_at, now) + len(packet) * 8 / weather.rate
        self._count += 1
        heapq.heappush(self._under_way, (self._free_at + weather.delay, self._count, packet))

    def deliver(self, now: float) -> None:
        """Hands over what has arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            os.write(self.target, heapq.heappop(self._under_way)[2])

    def due(self) -> float:
        """Returns when the next packet arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")


class Link:
    """The link; ``weather`` may be changed at any time."""

    def __init__(self, tcp: str) -> None:
        self.weather = Weather(0.0, 0.0, 1e9)
        self._here, self._there = tun("drift-here"), tun("drift-there")
        ip("netns", "add", NAMESPACE)
        ip("link", "set", "drift-there", "netns", NAMESPACE)
        inside = ("-n", NAMESPACE)
        for where, device, own, other in (((), "drift-here", SERVER, CLIENT), (inside, "drift-there", CLIENT, SERVER)):
            ip(*where, "address", "add", own, "peer", other, "dev", device)
            ip(*where, "link", "set", device, "up")
        ip(*inside, "link", "set", "lo", "up")
        ip("route", "replace", CLIENT, "dev", "drift-here", "src", SERVER, "congctl", tcp)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        directions = {self._here: Direction(self._there), self._there: Direction(self._here)}
        while not self._stopped.is_set():
            now = time.monotonic()
            wait = min(one.due() for one in directions.values()) - now
            ready, _, _ = select.select(list(directions), [], [], max(0.0, min(wait, 0.1)))
            now = time.monotonic()
            for one in ready:
                directions[one].take(os.read(one, 65_536), self.weather, now)
            for direction in directions.values():
                direction.deliver(now)

    def close(self) -> None:
        """Takes everything down."""
        self._stopped.set()
        self._thread.join()
        for one in (self._here, self._there):
            os.close(one)
        ip("netns", "delete", NAMESPACE)


def tun(name: str) -> int:
    """Makes a TUN device, and returns the file that gives and takes its packets."""
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return file


def ip(*arguments: str) -> None:
    """Runs `ip`."""
    subprocess.run(["ip", *arguments], check=True)


def main() -> None:
    """Measures, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--kib", type=int, default=256, help="size of each layer")
    parser.add_argument("--backend", default=BACKENDS[0], choices=BACKENDS, help="engine of QUIC")
    parser.add_argument("--tcp", default="cubic", help="congestion control of TCP, as of most servers; or bbr")
    given = parser.parse_args()
    link = Link(given.tcp)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), link, given)
    finally:
        link.close()


def measure(folder: Path, link: Link, given: argparse.Namespace) -> None:
    """Serves, and prints the tables."""
    certificate, key = certify(folder, SERVER)
    quic_port, h2_port = free_port(), free_port()
    settings = [
        "auth.mode=none",
        "quic.enabled=true",
        f"quic.bind_addr={SERVER}:{quic_port}",
        f"quic.cert_path={certificate}",
        f"quic.key_path={key}",
        f"quic.backend={given.backend}",
        *(EARLY if given.backend == BACKENDS[0] else ()),
    ]
    server = Server(folder / "drift", *settings, workers=1, tls=(certificate, key), address=SERVER)
    with server, haproxy(folder, certificate, key, h2_port, server.port):
        paths = push(server, certificate, given.layers, given.kib << 10)
        forms = [
            ("HTTP/3", quic_port, ("-over", "h3")),
            ("HTTP/3, address changes midway", quic_port, ("-over", "h3", "-move", "700ms")),
            ("HTTP/2, one connection", h2_port, ("-over", "h2")),
            ("HTTP/1.1, four connections", server.port, ("-over", "h1")),
        ]
        how = f"QUIC by {given.backend}, TCP with {given.tcp}"
        print(f"{given.layers} layers of {given.kib} KiB, 20 Mbit/s, 50 ms, {how}\n")
        print("| Loss | Over | s, median | to HTTP/3 |\n|---|---|---|---|")
        for loss in (0.0, 0.01, 0.03):
            link.weather = Weather(0.025, loss, 20e6)
            compare(certificate, paths, loss, forms, given.rounds)
        if given.backend == BACKENDS[0]:
            link.weather = Weather(0.05, 0.0, 20e6)
            print(f"\n{first_request(certificate, quic_port, given.rounds)}")


def compare(
    certificate: Path, paths: str, loss: float, forms: list[tuple[str, int, tuple[str, ...]]], rounds: int
) -> None:
    """Prints a row for each form: medians of interleaved rounds."""
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, port, arguments in forms:
            began = time.monotonic()
            answers = ask(certificate, port, "-path", paths, "-at-once", str(AT_ONCE), *arguments)
            took.setdefault(name, []).append(time.monotonic() - began)
            assert all(one["status"] == 200 and "error" not in one for one in answers), (name, answers)
    base = statistics.median(took[forms[0][0]])
    for name, _, _ in forms:
        median = statistics.median(took[name])
        print(f"| {loss:.0%} | {name} | {median:.2f} | {median / base:.2f} |")


def first_request(certificate: Path, port: int, rounds: int) -> str:
    """Returns what early data saves on a link of 100 ms there and back."""
    found = [ask(certificate, port, "-early", "-path", "/v2/") for _ in range(rounds)]
    assert all(second["early"] for _, second in found)
    whole, early = (statistics.median(pair[place]["seconds"] for pair in found) for place in (0, 1))
    return f"First request at 100 ms: {whole:.3f} s, with early data {early:.3f} s ({early / whole:.2f} of it)."


def ask(certificate: Path, port: int, *arguments: str) -> list[dict[str, Any]]:
    """Runs the client on its side of the link, and returns what came of each request."""
    program = [str(TOOLS / "quic-gateway"), "-ca", str(certificate), "-target", f"{SERVER}:{port}", *arguments]
    command = ["ip", "netns", "exec", NAMESPACE, *program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


def push(server: Server, certificate: Path, count: int, size: int) -> str:
    """Pushes layers, and returns their paths."""
    paths = list[str]()
    for _ in range(count):
        blob = unique_blob(size)
        url = f"{server.url}/v2/bench/link/blobs/uploads/?digest={blob.digest}"
        answer = httpx.post(url, content=blob.content, headers={"content-type": OCTETS}, verify=str(certificate))
        assert answer.status_code == 201, answer.text
        paths.append(f"/v2/bench/link/blobs/{blob.digest}")
    return " ".join(paths)


@contextmanager
def haproxy(folder: Path, certificate: Path, key: Path, port: int, behind: int) -> Iterator[None]:
    """Speaks HTTP/2 over TLS on a port, before the server's HTTP/1.1."""
    both = folder / "haproxy.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n mode http\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n"
        f"frontend h2\n bind {SERVER}:{port} ssl crt {both} alpn h2\n default_backend drift\n"
        f"backend drift\n server drift {SERVER}:{behind} ssl verify none alpn http/1.1\n"
    )
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    with subprocess.Popen([program, "-f", str(config)], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
