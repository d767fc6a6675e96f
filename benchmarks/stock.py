"""Writes the records of a large registry without its bytes: images with tags, and what nothing reaches any more."""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Table

from benchmarks.images import MANIFEST
from drift_core.metadata.tables import (
    blobs,
    manifest_blobs,
    manifests,
    metadata,
    repositories,
    repository_blobs,
    tags,
    unreached,
)

Insert = Callable[[Table, Sequence[str], Iterable[tuple[Any, ...]]], None]
"""Adds rows to a table, given the names of their columns."""

OWN_BLOBS = 3
"""Blobs of an image that no other has: its configuration and two layers."""

SHARERS = 25
"""Images with a tag that have one base layer together."""

WASTED_BASES = 5
"""Base layers of a repository that images without a tag have: of as many, whatever is kept."""

REPOSITORIES = 4
"""Repositories among which what is wasted is spread."""

AGE = 1e6
"""How old everything is, in seconds: longer than any time of grace."""

SIZE = 1000
"""Bytes that the records say of each blob, and bytes of each manifest."""

EDGES = ("manifest_id", "digest", "repository_id")


def digest_of(name: str) -> str:
    """Returns a digest that is the same for the same name, and as scattered as real ones."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


class Stock:
    """The records of a registry in which nothing is but what this has written."""

    def __init__(self) -> None:
        self._then = time.time() - AGE
        self._images = 0
        self._loose = 0
        self._bases: dict[int, list[str]] = {}

    def keep(self, insert: Insert, count: int, repository_count: int = 1, sharers: int = SHARERS) -> None:
        """Adds about so many blobs of images with tags, spread over new repositories; of as many a base layer is."""
        numbers = range(1, repository_count + 1)
        names = ((number, f"bench/stock{number}", self._then) for number in numbers)
        insert(repositories, ("id", "name", "created_at"), names)
        each = round(count / repository_count * sharers / (OWN_BLOBS * sharers + 1))
        for repository in numbers:
            self._bases[repository] = [
                digest_of(f"base {repository} {number}") for number in range(-(-each // sharers))
            ]
            self._add_blobs(insert, repository, self._bases[repository])
            images = self._add_images(insert, repository, each, self._bases[repository], sharers)
            rows = ((repository, f"v{image}", image, self._then) for image in images)
            insert(tags, ("repository_id", "name", "manifest_id", "updated_at"), rows)

    def waste_images(self, insert: Insert, count: int) -> list[str]:
        """Adds images without a tag that have base layers of images with one; returns the digests of the others.

        They are spread over the first `REPOSITORIES`.
        """
        return [
            digest for repository, share in self._shares(count) for digest in self._waste(insert, repository, share)
        ]

    def waste_blobs(self, insert: Insert, count: int) -> list[str]:
        """Adds blobs that no manifest has, to the same repositories, and returns their digests."""
        wasted: list[str] = []
        for repository, share in self._shares(count):
            digests = [digest_of(f"loose {number}") for number in range(self._loose, self._loose + share)]
            self._loose += share
            self._add_blobs(insert, repository, digests)
            self._enter(insert, repository, "blob", digests)
            wasted += digests
        return wasted

    def _shares(self, count: int) -> Iterator[tuple[int, int]]:
        chosen = list(self._bases)[:REPOSITORIES]
        for number, repository in enumerate(chosen):
            yield repository, (count + number) // len(chosen)

    def _waste(self, insert: Insert, repository: int, count: int) -> list[str]:
        images = self._add_images(insert, repository, count, self._bases[repository][:WASTED_BASES])
        self._enter(insert, repository, "manifest", [digest_of(f"image {image}") for image in images])
        return [digest for image in images for digest in _own(image)]

    def _enter(self, insert: Insert, repository: int, kind: str, digests: Iterable[str]) -> None:
        rows = ((repository, kind, digest, self._then) for digest in digests)
        insert(unreached, ("repository_id", "kind", "digest", "since"), rows)

    def _add_images(self, insert: Insert, repository: int, count: int, bases: Sequence[str], sharers: int = 1) -> range:
        images = range(self._images + 1, self._images + 1 + count)
        self._images += count
        self._add_blobs(insert, repository, (digest for image in images for digest in _own(image)))
        columns = ("id", "repository_id", "digest", "media_type", "size", "content", "pushed_at")
        rows = (
            (image, repository, digest_of(f"image {image}"), MANIFEST, SIZE, b" " * SIZE, self._then)
            for image in images
        )
        insert(manifests, columns, rows)
        edges = (
            (image, digest, repository)
            for number, image in enumerate(images)
            for digest in (bases[number // sharers % len(bases)], *_own(image))
        )
        insert(manifest_blobs, EDGES, edges)
        return images

    def _add_blobs(self, insert: Insert, repository: int, digests: Iterable[str]) -> None:
        every = list(digests)
        insert(blobs, ("digest", "size", "created_at"), ((digest, SIZE, self._then) for digest in every))
        insert(repository_blobs, ("repository_id", "digest"), ((repository, digest) for digest in every))


def _own(image: int) -> list[str]:
    return [digest_of(f"part {image} {number}") for number in range(OWN_BLOBS)]


@contextmanager
def into_sqlite(file: Path) -> Iterator[Insert]:
    """Yields how to add rows to a SQLite database, which has them after the block."""
    with sqlite3.connect(file, timeout=60) as database:

        def insert(table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
            marks = ", ".join("?" * len(columns))
            database.executemany(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608

        yield insert
    database.close()


@contextmanager
def into_postgresql(url: str) -> Iterator[Insert]:
    """Yields how to add rows to a PostgreSQL database, which has them, and counts of them, after the block."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as database:

        def insert(table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
            statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
            left = iter(rows)
            while part := list(islice(left, 50_000)):
                with database.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                    for row in part:
                        copy.write_row(row)

        yield insert
        # What the planner assumes of tables that it has not looked at is measured nowhere.
        for table in metadata.tables:
            database.execute(f"ANALYZE {table}".encode())
