"""What a scrape of `/metrics` each second costs, in hundredths of a core: `python -m benchmarks.scraping`."""

import tempfile
from pathlib import Path

import httpx

from benchmarks.warm_pull import Puller
from tests.server import Server

SETTINGS = ("logging.level=warning", "auth.mode=none", "optimization.enabled=true", "garbage_collector.enabled=true")
SCRAPES = 200


def main() -> None:
    """Prints the table: a server that every endpoint of the registry was asked of, by the number of its workers."""
    print("| Workers | Lines of a scrape | Of a core, at one scrape a second |")
    print("|---|---|---|")
    for workers in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder, Server(Path(folder), *SETTINGS, workers=workers) as server:
            puller = Puller(server)
            # On many connections, so that each worker has counted.
            for paths in [puller.push() for _ in range(10 * workers)]:
                puller.pull([*paths, "/v2/", "/v2/_catalog", "/v2/app/tags/list", "/readyz"], 100)
            lines = httpx.get(f"{server.url}/metrics").text.count("\n")
            share = puller.pull(["/metrics"], SCRAPES)
            print(f"| {workers} | {lines} | {share:.2%} |")


if __name__ == "__main__":
    main()
