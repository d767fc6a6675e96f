"""What many profiles cost: lists, searches and metrics of 100,000 beside those of 100; and the upload of a plugin.

`python -m benchmarks.bolt` prints a table of p50 and p99; the profiles are written to the database, as their
publication would have done it, so that only requests are measured. `--postgresql` starts one, and measures there.
"""

import argparse
import asyncio
import math
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
from drift_bolt import blocks, catalog, tables
from drift_bolt.catalog import Draft, File, Summary
from msgspec import Struct
from sqlalchemy import Connection, insert, text

from benchmarks.process_tree import Peak, cpu_seconds
from drift_core.api import open_driver
from drift_core.config import load
from tests.server import Server
from tests.services.postgresql import Postgresql

FEW, MANY = 100, 100_000
AT_ONCE = 2_000
"""Profiles of one transaction."""

SETTINGS = ("bolt.enabled=true", "bolt.default_profiles=false", "logging.level=warning", "auth.mode=none")

WORDS = ("arena", "empire", "racer", "legend", "tactics", "galaxy", "dungeon", "harvest", "pirates", "citadel")
FILE = File(
    platform="",
    digest="sha256:" + "0" * 64,
    size=400,
    config_digest="sha256:" + "0" * 64,
    config_size=400,
    manifest_digest="sha256:" + "0" * 64,
    manifest_size=700,
)


class Question(Struct, frozen=True):
    """A request; ``body`` None is a GET."""

    path: str
    body: dict[str, Any] | None = None


def questions(number: int) -> dict[str, Question]:
    """Returns what is asked of a registry of so many profiles."""
    found = {
        "list, first page": Question("/v1/profiles"),
        "list, middle page": Question(f"/v1/profiles?page={number // 40}"),
        "list, last page": Question(f"/v1/profiles?page={number // 20}"),
        "metrics": Question("/v1/metrics"),
        "metrics of profiles": Question("/v1/metrics/profiles"),
        "detail": Question(f"/v1/profiles/profile-{number // 2}"),
    }
    searches: dict[str, dict[str, Any]] = {
        "everything": {},
        "a word that one has": {"query": f"number {number // 2} of"},
        "a word that one in ten has": {"query": "pirates", "sort_by": "downloads"},
        "a word that all have": {"query": "profile"},
        "two letters": {"query": "pi", "sort_by": "rating"},
        "a tag and a vendor": {"tags": ["tag-7"], "gpu_vendor": "amd", "sort_by": "created_at"},
        "a game that few have": {"game": "volume 17 of", "sort_order": "asc"},
        "what nobody has": {"query": "qqqq"},
    }
    return found | {f"search, {name}": Question("/v1/profiles/search", body) for name, body in searches.items()}


def draft(number: int) -> Draft:
    """Returns one of many profiles."""
    word = WORDS[number % len(WORDS)]
    games = (f"{word} volume {number % 1000} of all",)
    return Draft(
        kind="profile",
        name=f"profile-{number}",
        author=f"author-{number % 500}",
        description=f"The profile number {number} of them, for {word}",
        summary=Summary(tags=(word, f"tag-{number % 50}"), compatible_games=games),
        document=DOCUMENT,
        file=FILE,
        digest=FILE.manifest_digest,
        vendor=("nvidia", "amd", "intel")[number % 3],
    )


def document() -> bytes:
    """Returns an upload as the database keeps it."""
    empty: dict[str, Any] = {f"{name}_optimizations": {} for name in ("cpu", "gpu", "memory", "network", "storage")}
    profile = {"name": "profile", "description": "x", "priority": 1, **empty, "conditions": []}
    about = {"author_email": "", "tags": [], "compatible_games": [], "system_requirements": {"supported_os": []}}
    return msgspec.json.encode({"profile": profile, "metadata": about})


DOCUMENT = document()


def publish(db: Connection, numbers: range) -> None:
    """Writes profiles as their publication would have left them, many rows at a time."""
    rows: list[dict[str, Any]] = []
    for number in numbers:
        one = draft(number)
        known = {"id": number + 1, "kind": "profile", "name": one.name, "author": one.author, "listed": True}
        figures = {"downloads": number % 997, "rating": number % 5, "rating_sum": number % 5, "rating_count": 1}
        moment = 1.7e9 + number
        about = {"description": one.description, "summary": msgspec.json.encode(one.summary).decode()}
        latest = {"version": "1.0.0", "number": 1, "made": 1, "created_at": moment, "updated_at": moment}
        score = float(figures["downloads"] + 100 * figures["rating"])
        rows.append({**known, **figures, **about, **latest, **catalog.words_of(one), "score": score})
    db.execute(insert(tables.entries), rows)
    words = ", ".join(catalog.SEARCHED)
    if db.dialect.name == "sqlite":
        db.execute(
            text(
                f"INSERT INTO bolt__profile_words (rowid, {words}) SELECT id, {words} FROM bolt__entries "  # noqa: S608
                "WHERE id > :first AND id <= :last"
            ),
            {"first": numbers.start, "last": numbers.stop},
        )
    for row in rows:
        blocks.count(db, "profile", row["name"], 1)
    version = {"number": 1, "version": "1.0.0", "document": DOCUMENT.decode(), "digest": FILE.manifest_digest}
    state = {"author": "x", "published": True, "pending": False, "created_at": 1.7e9, "mirror": None}
    db.execute(insert(tables.versions), [{"entry": row["id"], **version, **state} for row in rows])
    part = msgspec.structs.asdict(FILE)
    db.execute(insert(tables.parts), [{"entry": row["id"], "number": 1, **part} for row in rows])
    catalog.add(db, "profiles", len(rows))
    catalog.add(db, "bytes", len(rows) * (FILE.size + FILE.config_size))


def categorize(db: Connection, number: int) -> None:
    """Writes how many profiles have each tag."""
    tags = Counter(tag for one in range(number) for tag in draft(one).summary.tags)
    values = [{"kind": "profile", "name": name, "entries": count} for name, count in tags.items()]
    db.execute(insert(tables.categories), values)


def analyse(db: Connection) -> None:
    """Lets PostgreSQL count, and gives rows that were added one by one their own ids from now on."""
    db.execute(text("SELECT setval(pg_get_serial_sequence('bolt__entries', 'id'), max(id)) FROM bolt__entries"))
    db.execute(text("ANALYZE"))


async def fill(server: Server, number: int, *, database: bool) -> None:
    """Makes the tables of a server that does not run yet; ``database`` has PostgreSQL count, as it does by itself."""
    config = load(None, {}, server.settings)
    async with open_driver(config, "features", "bolt") as bolt:
        for start in range(0, number, AT_ONCE):
            await bolt.records.write(partial(publish, numbers=range(start, min(start + AT_ONCE, number))))
        await bolt.records.write(partial(categorize, number=number))
        if database:
            await bolt.records.write(analyse)


def measure(client: httpx.Client, question: Question, requests: int) -> list[float]:
    """Returns the seconds of each request, one after the other."""
    method, body = ("GET", None) if question.body is None else ("POST", question.body)
    found: list[float] = []
    for _ in range(requests):
        began = time.perf_counter()
        answer = client.request(method, question.path, json=body)
        found.append(time.perf_counter() - began)
        answer.raise_for_status()
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def lists(requests: int, rounds: int, many: int, *, postgresql: bool) -> None:
    """Prints how long each question takes of few and of many, asked in turn."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        service = stack.enter_context(Postgresql()) if postgresql else None
        clients: dict[int, httpx.Client] = {}
        for number in (FEW, many):
            database = [] if service is None else [f"metadata.url={service.url(service.new_database())}"]
            server = Server(Path(folder) / str(number), *SETTINGS, *database, workers=1)
            server.folder.mkdir()
            asyncio.run(fill(server, number, database=service is not None))
            stack.enter_context(server)
            clients[number] = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
        print(f"{'':44}{'p50':>9}{'p99':>9}{'p50':>9}{'p99':>9}{'ratio':>8}   (ms; {FEW}, then {many:,})")
        for name in questions(FEW):
            times: dict[int, list[float]] = {number: [] for number in clients}
            for _ in range(rounds):
                for number, client in clients.items():
                    times[number] += measure(client, questions(number)[name], requests // rounds)
            shown = [f"{f(times[number]) * 1000:9.2f}" for number in clients for f in (statistics.median, p99)]
            print(f"{name:44}{''.join(shown)}{p99(times[many]) / p99(times[FEW]):8.2f}")


p99: Callable[[Sequence[float]], float] = partial(percentile, share=0.99)


def upload(megabytes: int) -> None:
    """Prints what the upload of a plugin takes of the server."""
    manifest = {
        "name": "large",
        "version": "1",
        "author": "x",
        "description": "x",
        "plugin_type": "System",
        "entry_point": "x.dll",
        "dependencies": [],
        "permissions": [],
        "supported_gpus": [],
    }
    about = {"author_email": "", "license": "", "repository": "", "supported_platforms": ["windows-x86_64"]}
    # A file that begins as one of Windows, and is noise behind it.
    head = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0\x64\x86" + bytes(26)
    piece = ",".join(map(str, (number * 167 % 251 for number in range(1 << 16))))
    left = (megabytes << 20) - len(head)

    def body() -> Any:
        yield msgspec.json.encode({"manifest": manifest, "metadata": about})[:-1]
        yield f',"binary_data":[{",".join(map(str, head))}'.encode()
        for _ in range(left >> 16):
            yield b"," + piece.encode()
        yield b"]}"

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "server", *SETTINGS, "registry.max_upload_size_mb=4000", workers=1)
        with server, httpx.Client(base_url=server.url, timeout=600) as client:
            assert server.process is not None
            client.post("/v1/plugins/search", json={})
            peak, before, began = Peak(server.process.pid), cpu_seconds(server.process.pid), time.perf_counter()
            with peak:
                client.post("/v1/plugins/upload", content=body()).raise_for_status()
            seconds, cpu = time.perf_counter() - began, cpu_seconds(server.process.pid) - before
            print(
                f"upload of {megabytes} MiB: {seconds:.1f} s, {cpu:.1f} s of CPU, {cpu / megabytes * 1000:.0f} ms/MiB"
            )
            print(f"peak of all processes: {peak.bytes / (1 << 20):.0f} MiB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--profiles", type=int, default=MANY)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--postgresql", action="store_true", help="lists of PostgreSQL, and no upload")
    chosen = parser.parse_args(arguments)
    lists(chosen.requests, chosen.rounds, chosen.profiles, postgresql=chosen.postgresql)
    if not chosen.postgresql:
        upload(chosen.megabytes)


if __name__ == "__main__":
    main()
