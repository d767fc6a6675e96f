"""Blobs in one SQLite file: `drift plugins new drift-storage-sqlite`, and this in place of its store."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from drift_storage_sqlite.config import SqliteConfig

from drift_core.api import (
    ALGORITHMS,
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    Services,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadUnknown,
)

T = TypeVar("T")

PIECE = 1 << 20
"""Most bytes of one row; a blob is as many rows as it needs."""

BUSY_SECONDS = 2.0
"""How long somebody who finds an upload in use waits for it."""

LEASE_SECONDS = 30.0
"""After which an upload is free again whose worker died in the middle of an append."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, size INTEGER NOT NULL, holder TEXT, held_until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, modified REAL NOT NULL, owner TEXT);
CREATE TABLE IF NOT EXISTS pieces (owner TEXT, start INTEGER, content BLOB NOT NULL, PRIMARY KEY (owner, start));
"""


class SqliteStore:
    """Every statement runs on one thread; any number of processes may use the file at once."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(1)
        self._database = sqlite3.connect(file, timeout=30, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Closes the file when the last statement is done."""
        self._thread.shutdown()
        self._database.close()

    async def stat(self, digest: Digest) -> BlobStat:
        """Returns size and time of a committed blob. Raises `BlobUnknown`."""
        return (await self._run(self._blob, digest))[0]

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes ``[start, stop)``; raises `BlobUnknown` where the blob is deleted meanwhile."""
        stat, owner = await self._run(self._blob, digest)
        offset, end = start, stat.size if stop is None else stop
        while offset < end:
            first, content = await self._run(self._piece, owner, offset)
            chunk = content[offset - first : end - first]
            offset += len(chunk)
            yield chunk

    async def begin(self, algorithm: str = "sha256") -> UploadId:  # noqa: ARG002 - only a hint
        """Begins an empty upload."""
        upload = UploadId(uuid4().hex)
        await self._run(self._change, "INSERT INTO uploads VALUES (?, 0, NULL, 0)", upload)
        return upload

    async def received(self, upload: UploadId) -> int:
        """Returns how many bytes the upload holds. Raises `UploadUnknown`."""
        return await self._run(self._size, upload)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """Appends at ``offset``, or at the end; what arrived before a failure stays."""
        async with self._held(upload) as holder:
            size = await self._run(self._size, upload)
            if offset not in (None, size):
                raise OffsetMismatch(size)
            async for chunk in chunks:
                for start in range(0, len(chunk), PIECE):
                    size = await self._run(self._add, upload, holder, size, chunk[start : start + PIECE])
            return size

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """Checks the digest, and turns the upload's rows into the blob's in one transaction."""
        async with self._held(upload):
            return await self._run(self._commit, upload, digest)

    async def abort(self, upload: UploadId) -> None:
        """Forgets an upload; one that is unknown is no error."""
        await self._run(self._forget, upload)

    async def delete(self, digest: Digest) -> None:
        """Removes a blob; one that is unknown is no error."""
        await self._run(self._delete, digest)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every blob in order of digest, a page at a time."""
        last: str = after or ""
        while page := await self._run(self._page, last):
            for stat in page:
                yield stat
            last = page[-1].digest

    async def check(self) -> None:
        """Proves that the file can be written now. Raises `Unavailable`."""
        await self.abort(await self.begin())

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        task = asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        cancelled = False
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
        try:
            return task.result()
        except sqlite3.Error as error:
            raise Unavailable(reason=str(error)) from error

    @asynccontextmanager
    async def _held(self, upload: UploadId) -> AsyncIterator[str]:
        """Keeps an upload for one task of one process. Raises `UploadUnknown`, `UploadBusy`."""
        holder = f"{os.getpid()}-{uuid4().hex}"
        deadline = time.monotonic() + BUSY_SECONDS
        try:
            while not await self._run(self._take, upload, holder):
                if time.monotonic() > deadline:
                    raise UploadBusy
                await asyncio.sleep(0.01)
            yield holder
        finally:
            await self._run(self._change, "UPDATE uploads SET holder = NULL WHERE holder = ?", holder)

    def _change(self, statement: str, *values: object) -> int:
        return self._database.execute(statement, values).rowcount

    def _take(self, upload: UploadId, holder: str) -> bool:
        self._size(upload)
        now = time.time()
        statement = "UPDATE uploads SET holder = ?, held_until = ? WHERE id = ? AND (holder IS NULL OR held_until < ?)"
        return self._change(statement, holder, now + LEASE_SECONDS, upload, now) == 1

    def _size(self, upload: UploadId) -> int:
        row = self._database.execute("SELECT size FROM uploads WHERE id = ?", (upload,)).fetchone()
        if row is None:
            raise UploadUnknown
        return int(row[0])

    def _blob(self, digest: Digest) -> tuple[BlobStat, str]:
        query = "SELECT size, modified, owner FROM blobs WHERE digest = ?"
        row = self._database.execute(query, (digest,)).fetchone()
        if row is None:
            raise BlobUnknown(digest=digest)
        return BlobStat(digest, row[0], row[1]), row[2]

    def _piece(self, owner: str, offset: int) -> tuple[int, bytes]:
        query = "SELECT start, content FROM pieces WHERE owner = ? AND start <= ? ORDER BY start DESC LIMIT 1"
        row = self._database.execute(query, (owner, offset)).fetchone()
        if row is None or row[0] + len(row[1]) <= offset:
            raise BlobUnknown
        return row[0], row[1]

    def _add(self, upload: UploadId, holder: str, size: int, content: bytes) -> int:
        with self._transaction():
            row = (size + len(content), time.time() + LEASE_SECONDS, upload, holder)
            if not self._change("UPDATE uploads SET size = ?, held_until = ? WHERE id = ? AND holder = ?", *row):
                raise UploadUnknown
            self._change("INSERT INTO pieces VALUES (?, ?, ?)", upload, size, content)
        return size + len(content)

    def _commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        state = ALGORITHMS[digest.algorithm].new()
        for (content,) in self._database.execute(
            "SELECT content FROM pieces WHERE owner = ? ORDER BY start", (upload,)
        ):
            state.update(content)
        if state.hexdigest() != digest.encoded:
            raise DigestInvalid(digest=digest)
        with self._transaction():
            stat = BlobStat(digest, self._size(upload), time.time())
            there = self._database.execute("SELECT owner FROM blobs WHERE digest = ?", (digest,)).fetchone()
            if there is None:
                self._change("INSERT INTO blobs VALUES (?, ?, ?, ?)", digest, stat.size, stat.modified, upload)
            else:
                # Whoever reads the blob now goes on reading the rows that it has.
                self._change("UPDATE blobs SET modified = ? WHERE digest = ?", stat.modified, digest)
                self._change("DELETE FROM pieces WHERE owner = ?", upload)
            self._change("DELETE FROM uploads WHERE id = ?", upload)
        return stat

    def _forget(self, upload: UploadId) -> None:
        with self._transaction():
            if self._change("DELETE FROM uploads WHERE id = ?", upload):
                self._change("DELETE FROM pieces WHERE owner = ?", upload)

    def _delete(self, digest: Digest) -> None:
        with self._transaction():
            self._change("DELETE FROM pieces WHERE owner = (SELECT owner FROM blobs WHERE digest = ?)", digest)
            self._change("DELETE FROM blobs WHERE digest = ?", digest)

    def _page(self, after: str) -> list[BlobStat]:
        query = "SELECT digest, size, modified FROM blobs WHERE digest > ? ORDER BY digest LIMIT 100"
        rows = self._database.execute(query, (after,)).fetchall()
        return [BlobStat(Digest(digest), size, modified) for digest, size, modified in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


@asynccontextmanager
async def open_store(config: SqliteConfig, services: Services) -> AsyncIterator[SqliteStore]:
    """Opens the store for as long as the server runs."""
    # Not in a thread, which would go on opening it after the start was cancelled.
    store = SqliteStore(Path(config.path) / "blobs.sqlite")
    services.log.debug("the store is open", path=config.path)
    try:
        yield store
    finally:
        store.close()
