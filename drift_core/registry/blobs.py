"""Blobs as a repository gives them out: whether it holds one, its bytes, mounting it elsewhere, taking it away."""

import os
from collections.abc import AsyncIterator, Collection, Sequence

from msgspec import structs
from sqlalchemy import Connection

from drift_core.errors import BlobInUse, BlobUnknown
from drift_core.metadata import queries, trash
from drift_core.metadata.cache import QueryCache
from drift_core.metadata.database import Database
from drift_core.metadata.locks import lock_for_removal
from drift_core.metrics import Metrics
from drift_core.model import Change, Digest, Identity
from drift_core.protocols.storage import (
    BlobStore,
    Encoded,
    SupportsEncoded,
    SupportsLocalPath,
    SupportsRedirect,
    SupportsStored,
)
from drift_core.registry.changes import Changes
from drift_core.registry.leases import Leases
from drift_core.registry.rules import Rules

CACHED_BLOBS = 100_000
"""Blobs whose size each worker remembers; about 30 MB."""

ANONYMOUS_MOUNT_SOURCES = 100
"""Repositories that are considered when a mount names no source."""

NAMED_USERS = 5
"""Manifests that an error names when a blob cannot be deleted."""


async def begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Returns the same chunks once the first is there, so that what it raises can still be answered."""
    first = await anext(chunks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    return whole()


class Blobs:
    """Answers only for blobs that the repository itself holds: what others hold is not its to give out."""

    def __init__(self, database: Database, store: BlobStore, rules: Rules, changes: Changes, metrics: Metrics) -> None:
        self.leases = Leases(database, "blob", rules.lease, metrics)
        self._database = database
        self._changes = changes
        self._waits = metrics.storage
        self._store = store
        self._local = store if isinstance(store, SupportsLocalPath) else None
        self._redirects = store if isinstance(store, SupportsRedirect) else None
        self._encoded = store if isinstance(store, SupportsEncoded) else None
        self._stored = store if isinstance(store, SupportsStored) else None
        self._sizes = QueryCache[int](database.version, CACHED_BLOBS, lambda _: 1, metrics.lookups("blobs"))

    async def size(self, repository: str, digest: Digest) -> int:
        """Returns the bytes of a blob. Raises `BlobUnknown`."""

        async def load() -> int:
            found = await self._database.read(lambda db: queries.blob_size(db, repository, digest))
            if found is None:
                raise BlobUnknown(name=repository, digest=digest)
            return found

        return await self._sizes.get((repository, digest), load)

    async def admit_pull(self, repository: str, digest: Digest, size: int, identity: Identity | None) -> None:
        """Asks the gates before a held blob is given out. Raises what `Changes.admit` does."""
        if self._changes.gated("blob.pull"):
            await self._changes.admit(
                Change(action="blob.pull", repository=repository, digest=digest, size=size, identity=identity)
            )

    def local_path(self, digest: Digest, size: int) -> str | None:
        """Returns the whole file in which a held blob lies, or None where there is none to send.

        Looks at the file, which takes about 2 us: who sends a file cannot say any more that it is lost or cut short,
        while `read` can.
        """
        if self._local is None:
            return None
        path = self._local.local_path(digest)
        try:
            return path if os.stat(path).st_size == size else None  # noqa: PTH116 - a Path costs more than the question
        except OSError:
            return None

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """Returns a URL from which the client should fetch a held blob itself, or None."""
        return None if self._redirects is None else await self._redirects.redirect(digest, method, client_address)

    @property
    def encodes(self) -> bool:
        """Whether what is answered may depend on the codings that a client accepts."""
        return self._encoded is not None

    async def encoded(self, digest: Digest, accepted: Collection[str]) -> Encoded | None:
        """Returns a held blob in one of the accepted content codings once the first bytes are there, or None.

        Raises `BlobUnknown`.
        """
        coded = None if self._encoded is None or not accepted else await self._encoded.encoded(digest, accepted)
        if coded is None:
            return None
        return structs.replace(coded, chunks=await self._waits.of("read", begun(coded.chunks)))

    async def read(self, digest: Digest, start: int, stop: int) -> AsyncIterator[bytes]:
        """Returns the bytes ``[start, stop)`` of a held blob once the first are there. Raises `BlobUnknown`."""
        return await self._waits.of("read", begun(self._store.read(digest, start, stop)))

    def stored(self, digest: Digest) -> AsyncIterator[bytes]:
        """Yields what the store really keeps of a blob, not a copy of it. Raises `BlobUnknown`."""
        return self._store.read(digest) if self._stored is None else self._stored.stored(digest)

    async def holders(self, digest: Digest) -> Sequence[str]:
        """Returns repositories that hold a blob, from which a mount without a source may choose."""
        return await self._database.read(lambda db: queries.blob_holders(db, digest, ANONYMOUS_MOUNT_SOURCES))

    async def mount(self, repository: str, digest: Digest, source: str, identity: Identity | None) -> bool:
        """Makes ``repository`` hold a blob of ``source`` too; False where ``source`` does not hold it.

        Raises what `Changes.admit` does.
        """
        change = Change(action="blob.mount", repository=repository, digest=digest, source=source, identity=identity)
        await self._changes.admit(change)

        def link(db: Connection) -> bool:
            mounted = queries.mount_blob(db, repository, digest, source)
            if mounted is None:
                return False
            size, linked = mounted
            if linked:
                self._changes.account(db, repository, size)
            self._changes.record(db, change)
            return True

        return await self._database.write(link)

    async def delete(self, repository: str, digest: Digest, identity: Identity | None) -> None:
        """Takes a blob away from a repository; the bytes stay until it cannot be restored any more.

        Raises:
            BlobUnknown: the repository does not hold it.
            BlobInUse: a manifest of the repository needs it.
            Denied: see `Changes.admit`.
        """
        change = Change(action="blob.delete", repository=repository, digest=digest, identity=identity)
        await self._changes.admit(change)

        def unlink(db: Connection) -> None:
            lock_for_removal(db, repository)
            users = queries.blob_users(db, repository, digest, NAMED_USERS)
            if users:
                raise BlobInUse(digest=digest, manifests=users)
            row = queries.repository_id(db, repository)
            size = None if row is None else trash.throw_blob(db, row, digest, "deleted")
            if size is None:
                raise BlobUnknown(name=repository, digest=digest)
            self._changes.account(db, repository, -size)
            self._changes.record(db, change)

        await self._database.write(unlink)
