"""What the pages of the console cost the server that holds much, beside one that holds little.

`python -m benchmarks.console` pushes one image to each of two servers, and writes the others into their databases as
pushes, and the console that follows them, would have left them: 20 repositories with 5 tags each, and 20,000. Then both
are asked in turn. A page is measured by the CPU time of the server for one request, the median of the rounds.
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
from drift_ui import indexing
from drift_ui.indexing import DAY, Image
from drift_ui.tables import images
from msgspec import json
from sqlalchemy import Connection, create_engine, select, text

from benchmarks.process_tree import cpu_seconds
from drift_core.config import load
from tests.oci.client import Registry
from tests.oci.content import Blob, image
from tests.server import Server

FEW, MANY, TAGS = 20, 20_000, 5
BAR = 3.0
"""How many times as much a page may cost the server that holds much."""

PATIENCE = 60.0
AT_ONCE = 1000
"""Repositories of one transaction."""

SETTINGS = (
    "auth.mode=none",
    "logging.level=warning",
    "garbage_collector.enabled=true",
    "scrub.enabled=true",
    "retention.enabled=true",
    "retention.dry_run=true",
)
WORDS = ("api", "web", "worker", "proxy", "database", "cache", "queue", "search", "billing", "mail")


COPIES = (
    "INSERT INTO repositories (name, created_at) VALUES (:name, :at)",
    """INSERT INTO repository_blobs (repository_id, digest)
    SELECT r.id, b.digest FROM repository_blobs b, repositories r WHERE b.repository_id = :model AND r.name = :name""",
    """INSERT INTO manifests (repository_id, digest, media_type, size, content, pushed_at)
    SELECT r.id, m.digest, m.media_type, m.size, m.content, :at
    FROM manifests m, repositories r WHERE m.id = :manifest AND r.name = :name""",
    """INSERT INTO manifest_blobs (manifest_id, digest, repository_id)
    SELECT n.id, b.digest, r.id FROM manifest_blobs b, manifests n, repositories r
    WHERE b.manifest_id = :manifest AND n.repository_id = r.id AND r.name = :name""",
)
"""Make a repository one that has what the first has, but for its tags."""

TAGGED = """INSERT OR IGNORE INTO tags (repository_id, name, manifest_id, updated_at)
SELECT r.id, :tag, m.id, :at FROM manifests m, repositories r WHERE m.repository_id = r.id AND r.name = :name"""


def name_of(number: int) -> str:
    """Returns the name of one of many repositories."""
    return f"team-{number % 200:03}/{WORDS[number % len(WORDS)]}-{number:05}"


def layer_of(number: int) -> str:
    """Returns a layer that one of many repositories alone has, as far as the console knows."""
    return f"sha256:{number:064x}"


def questions(number: int, layer: str, digest: str) -> dict[str, str]:
    """Returns the pages that are asked of a server with so many repositories."""
    middle = name_of(number // 2)
    searches = {
        "a name": middle,
        "a name, mistyped": middle.replace("team", "taem"),
        "a word that one in ten has": "billing",
        "a word that all have": "team",
        "what nobody has": "qqqqqqqq",
        "two words": f"team-{number // 2 % 200:03} {middle.rpartition('/')[2]}",
        "a tag that all have": "tag:v1",
        "a label that one in ten has": "label:env=prod",
        "a label of one": f"label:build={number // 2}",
        "larger ones": "size>900",
        "a digest": f"digest:{digest}",
        "a layer that all have": f"layer:{layer}",
        "a layer of one": f"layer:{layer_of(number // 2)}",
        "signed ones": "signed:yes",
        "pushed lately": "pushed<7d",
        "a beginning and a size": "repo:team-001/ size>1KB",
    }
    return {
        "dashboard": "/",
        "repositories, by name": "/repositories",
        "repositories, by name, in the middle": f"/repositories?after={quote(middle, safe='')}",
        "repositories, by change": "/repositories?sort=updated",
        "repositories, by size": "/repositories?sort=size",
        "repositories, by pulls": "/repositories?sort=pulls",
        "repositories that begin so": "/repositories?begins=team-001",
        "a repository": f"/repositories/{middle}",
        "a manifest": f"/repositories/{middle}/-/manifests/v1",
        "a layer": f"/repositories/{middle}/-/layers/{layer}",
        "compare": f"/compare?left={quote(f'{middle}:v1')}&right={quote(f'{name_of(0)}:v1')}",
        "preferences": "/preferences",
        "cluster": "/cluster",
        "collection": "/collection",
        "integrity": "/scrub",
        "retention of a repository": f"/retention?repository={quote(middle)}",
    } | {f"search, {what}": f"/search?q={quote(words)}" for what, words in searches.items()}


def files() -> bytes:
    """Returns a layer of some files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for number in range(100):
            archive.addfile(tarfile.TarInfo(f"file-{number}"))
    return raw.getvalue()


def push(server: Server) -> tuple[str, str]:
    """Pushes the image of which all others are copies, and returns the digests of its layer and its manifest."""
    with Registry(server.url) as registry:
        layer = registry.push_blob(name_of(0), Blob(files()))
        config = registry.push_blob(name_of(0), Blob(json.encode({"os": "linux", "architecture": "amd64"})))
        pushed = registry.push(name_of(0), image(config, layer), "v1")
    with httpx.Client(base_url=f"http://127.0.0.1:{server.ui_port}", trust_env=False) as console:
        deadline = time.monotonic() + PATIENCE
        while "v1" not in console.get(f"/repositories/{name_of(0)}").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return layer.digest, pushed.digest


def copy(db: Connection, numbers: range) -> None:
    """Writes repositories with the image of the first one into the records of the core."""
    (model,) = db.execute(text("SELECT id FROM repositories WHERE name = :name"), {"name": name_of(0)}).one()
    (manifest,) = db.execute(text("SELECT id FROM manifests WHERE repository_id = :model"), {"model": model}).one()
    for number in numbers:
        values = {"model": model, "manifest": manifest, "name": name_of(number), "at": time.time()}
        if number:
            for statement in COPIES:
                db.execute(text(statement), values)
        for tag in range(1, TAGS + 1):
            db.execute(text(TAGGED), values | {"tag": f"v{tag}"})


def follow(db: Connection, numbers: range, layer: str) -> None:
    """Writes what the console would have written of them."""
    known = db.execute(select(images).where(images.c.repository == name_of(0), images.c.tag == "v1")).one()
    now = time.time()
    for number in numbers:
        labels = {"env": "prod" if number % 10 == 0 else "test", "build": str(number)}
        found = [
            Image(
                f"v{tag}",
                known.digest,
                known.media_type,
                "",
                1000 + number,
                "linux/amd64",
                now - number - tag / 10,
                f"person-{number % 50}",
                number % 20 == 0,
                labels,
                [layer, layer_of(number)],
            )
            for tag in range(1, TAGS + 1)
        ]
        indexing.keep(db, name_of(number), found, (), event=1_000_000 + number, at=now - number)
    indexing.resize(db, {name_of(number): 1000 + number for number in numbers}, int(now // DAY))
    pulls = {(name_of(number), "v1", int(now // DAY)): number % 997 + 1 for number in numbers}
    indexing.add_pulls(db, pulls)


def fill(server: Server, number: int, layer: str) -> None:
    """Makes a server that does not run one of so many repositories."""
    engine = create_engine(load(None, {}, server.settings).database_url())
    for start in range(0, number, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, number))
        with engine.begin() as db:
            copy(db, numbers)
            follow(db, numbers, layer)
    with engine.begin() as db:
        # Else it would be compared while it is measured.
        indexing.note_compared(db, time.time())
        counts = [db.execute(text(f"SELECT count(*) FROM {table}")).scalar() for table in ("tags", "ui__images")]  # noqa: S608
    engine.dispose()
    assert counts == [number * TAGS, number * TAGS], counts


class Measured:
    """A server, its console, and what each request has cost."""

    def __init__(self, server: Server, number: int, layer: str, digest: str) -> None:
        assert server.process is not None
        self._root = server.process.pid
        self._console = httpx.Client(base_url=f"http://127.0.0.1:{server.ui_port}", trust_env=False, timeout=PATIENCE)
        self.pages = questions(number, layer, digest)
        self.costs: dict[str, list[float]] = {name: [] for name in self.pages}

    def ask(self, name: str, requests: int) -> None:
        """Asks for a page so many times, and notes the milliseconds of CPU of one."""
        before = cpu_seconds(self._root)
        for _ in range(requests):
            answer = self._console.get(self.pages[name])
            assert answer.status_code == 200, (name, answer.text)
        self.costs[name].append((cpu_seconds(self._root) - before) / requests * 1000)

    def cost(self, name: str) -> float:
        """Returns the median of the rounds but the first, in which everything is asked for the first time."""
        return statistics.median(self.costs[name][1:])

    def close(self) -> None:
        """Ends the connections."""
        self._console.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repositories", type=int, default=MANY)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        measured: list[Measured] = []
        for number in (FEW, chosen.repositories):
            server = Server(Path(folder) / str(number), *SETTINGS, workers=1)
            with server:
                layer, digest = push(server)
            began = time.monotonic()
            fill(server, number, layer)
            print(f"{number:,} repositories written in {time.monotonic() - began:.0f} s")
            stack.enter_context(server)
            one = Measured(server, number, layer, digest)
            stack.callback(one.close)
            measured.append(one)
        for _ in range(chosen.rounds + 1):
            for name in measured[0].pages:
                for one in measured:
                    one.ask(name, chosen.requests)
    few, many = measured
    print(f"\n| Page | of {FEW} repositories, ms | of {chosen.repositories:,}, ms | Ratio |\n|---|---|---|---|")
    for name in few.pages:
        ratio = many.cost(name) / max(few.cost(name), 0.01)
        said = f"{ratio:.2f}" if ratio <= BAR else f"**{ratio:.2f}**"
        print(f"| {name} | {few.cost(name):.1f} | {many.cost(name):.1f} | {said} |")


if __name__ == "__main__":
    main()
