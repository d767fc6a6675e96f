"""What a warm pull costs a server: the CPU time of one request, beside that of another server in the same rounds."""

import argparse
import socket
import statistics
from collections.abc import Mapping, Sequence

import httpx
from msgspec import Struct

from benchmarks.process_tree import cpu_seconds
from tests.oci.content import EMPTY_CONFIG, image, unique_blob
from tests.server import Server

ROUNDS = 9
REQUESTS = 6000


class Puller(Struct, frozen=True):
    """Who pulls from a server; ``authorization`` is the header that it sends, empty for none."""

    server: Server
    authorization: str = ""

    def push(self) -> list[str]:
        """Pushes a small image and returns the paths of a pull."""
        layer, manifest, url = unique_blob(1024), image(EMPTY_CONFIG), f"{self.server.url}/v2/app"
        headers = {"authorization": self.authorization} if self.authorization else {}
        for blob in (EMPTY_CONFIG, layer):
            path = f"{url}/blobs/uploads/?digest={blob.digest}"
            httpx.post(path, content=blob.content, headers=headers).raise_for_status()
        headers["content-type"] = manifest.media_type
        httpx.put(f"{url}/manifests/v1", content=manifest.content, headers=headers).raise_for_status()
        return ["/v2/app/manifests/v1", f"/v2/app/manifests/{manifest.digest}", f"/v2/app/blobs/{layer.digest}"]

    def pull(self, paths: list[str], requests: int) -> float:
        """Sends so many requests on one connection; returns the CPU time of the server for each, in seconds."""
        assert self.server.process is not None
        sent = f"Authorization: {self.authorization}\r\n" if self.authorization else ""
        before = cpu_seconds(self.server.process.pid)
        address = ("127.0.0.1", self.server.port)
        with socket.create_connection(address) as connection, connection.makefile("rb") as answers:
            for number in range(requests):
                path = paths[number % len(paths)]
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.server.host}\r\n{sent}\r\n".encode())
                assert b" 200 " in answers.readline()
                length = 0
                while (line := answers.readline()) != b"\r\n":
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                assert len(answers.read(length)) == length
        return (cpu_seconds(self.server.process.pid) - before) / requests


def chosen_scale(about: str | None, arguments: Sequence[str] | None) -> tuple[int, int]:
    """Returns the rounds, and the requests of each, that the command line asks for."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    chosen = parser.parse_args(arguments)
    return chosen.rounds, chosen.requests


def compare(what: str, pullers: Mapping[str, Puller], rounds: int = ROUNDS, requests: int = REQUESTS) -> None:
    """Prints what each costs beside the first of them, in turn."""
    paths = {name: puller.push() for name, puller in pullers.items()}
    for name, puller in pullers.items():
        puller.pull(paths[name], requests)
    spent: dict[str, list[float]] = {name: [] for name in pullers}
    for _ in range(rounds):
        for name, puller in pullers.items():
            spent[name].append(puller.pull(paths[name], requests))
    first = next(iter(spent.values()))
    print(f"| {what} | CPU per request, ratio to the first (median of pairs) | Smallest and largest ratio |")
    print("|---|---|---|")
    for name, figures in spent.items():
        ratios = sorted(mine / other for mine, other in zip(figures, first, strict=True))
        print(f"| {name} | {statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} |")
