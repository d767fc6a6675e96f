"""Uploads: begun, appended to in one or many requests, resumed, committed as a blob, cancelled, expired."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator

import msgspec
from sqlalchemy import Connection

from drift_core.errors import BlobUnknown, OffsetMismatch, RegistryError, Unavailable, UploadTooLarge, UploadUnknown
from drift_core.metadata import queries, reach, trash
from drift_core.metadata.database import Database
from drift_core.metadata.lease import Lease
from drift_core.metrics import Metrics
from drift_core.model import BlobStat, Change, Digest, Identity
from drift_core.protocols.storage import BlobStore, UploadId
from drift_core.registry.changes import Changes
from drift_core.registry.rules import Rules

KNOWN_UPLOADS = 10_000
"""Uploads of which each worker remembers the repository, which never changes; about 3 MB."""

PURGE_PATIENCE, PURGE_POLL = 5.0, 0.05
"""Seconds that a commit waits for the removal of the same bytes, and between two looks."""

EXPIRY_BATCH = 1000
"""Uploads that one round of expiry looks at."""


class Uploads:
    """An upload belongs to the repository that began it, on whichever worker or node its requests arrive."""

    def __init__(self, database: Database, store: BlobStore, rules: Rules, changes: Changes, metrics: Metrics) -> None:
        self._database = database
        self._store = store
        self._rules = rules
        self._changes = changes
        self._waits = metrics.storage
        self._known: OrderedDict[UploadId, str] = OrderedDict()
        self._empty: set[UploadId] = set()
        """Uploads to which this worker has appended nothing yet; what another one did is found out in the end."""

    async def begin(self, repository: str, algorithm: str) -> UploadId:
        """Begins an upload; ``algorithm`` is the digest that will probably be asked for."""
        upload = await self._waits.of("begin", self._store.begin(algorithm))
        try:
            # If the power fails the client begins again; to wait for the disk here would slow down every push.
            await self._database.write(lambda db: queries.add_upload(db, upload, repository), durable=False)
        except RegistryError:
            await self._store.abort(upload)
            raise
        self._remember(upload, repository)
        self._empty.add(upload)
        return upload

    async def received(self, repository: str, upload: UploadId) -> int:
        """Returns the bytes that are kept. Raises `UploadUnknown`."""
        await self._check(repository, upload)
        return await self._store.received(upload)

    async def append(
        self, repository: str, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes], length: int | None
    ) -> int:
        """Appends a request's body and returns the bytes now kept; ``length`` is what the request announced.

        Raises:
            UploadUnknown, OffsetMismatch, UploadBusy: as `BlobStore.append`.
            UploadTooLarge: the blob would be larger than ``max_upload_size_mb``; the upload is gone.
        """
        await self._check(repository, upload)
        if offset is None and upload in self._empty:
            received = 0
        else:
            received = await self._store.received(upload)
            if offset not in (None, received):
                raise OffsetMismatch(received)
        self._empty.discard(upload)
        try:
            self._check_size(received + (length or 0))
            received = await self._store.append(upload, offset, self._bounded(received, chunks))
            # Another request may have appended while this one waited for the upload.
            self._check_size(received)
        except UploadTooLarge:
            await self.cancel(repository, upload)
            raise
        return received

    async def commit(self, repository: str, upload: UploadId, digest: Digest, identity: Identity | None) -> None:
        """Makes the upload a blob that the repository holds.

        Durable in this order: the bytes, then the record; a crash between the two leaves bytes that nothing names.

        Raises:
            UploadUnknown: there is no such upload.
            DigestInvalid: the bytes have another digest; the upload is kept.
            Denied: see `Changes.admit`; the upload is kept.
            Unavailable: an earlier copy is being removed; or the bytes were committed, and not recorded.
        """
        await self._check(repository, upload)
        change = Change(action="blob.push", repository=repository, digest=digest, identity=identity)
        if self._changes.gated(change.action):
            size = await self._store.received(upload)
            await self._changes.admit(msgspec.structs.replace(change, size=size))
        claimed = await self._claim(digest)
        try:
            blob = await self._waits.of("commit", self._store.commit(upload, digest))
        except UploadUnknown as error:
            # Only now does it matter whether it has ended elsewhere.
            self._forget(upload)
            await self._check(repository, upload)
            blob = await self._committed_unrecorded(digest, error)

        def record(db: Connection) -> None:
            # Nobody removes the bytes before the lease ends; whoever was stopped meanwhile has to look again.
            if time.monotonic() - claimed > self._rules.lease / 2 or trash.is_purged(db, digest):
                raise Unavailable("the commit took too long; try again", digest=digest)
            if queries.link_blob(db, repository, digest, blob.size):
                self._changes.account(db, repository, blob.size)
            queries.remove_upload(db, upload)
            self._changes.record(db, msgspec.structs.replace(change, size=blob.size))

        await self._database.write(record)
        self._forget(upload)

    async def cancel(self, repository: str, upload: UploadId) -> None:
        """Ends an upload without a blob. Raises `UploadUnknown`."""
        # The store cannot say whether it has ended elsewhere: to abort what is unknown is no error.
        self._forget(upload)
        await self._check(repository, upload)
        await self._store.abort(upload)
        await self._database.write(lambda db: queries.remove_upload(db, upload))

    async def expire(self, lease: Lease) -> int:
        """Ends up to `EXPIRY_BATCH` uploads that began longer ago than ``upload_expiry_hours``, and returns how many.

        Only for who has ``lease``; whoever lost it may abort one once more, which is no error.

        Raises the last `RegistryError` of those that cannot be ended now, after trying the others.
        """
        limit = time.time() - self._rules.upload_expiry
        expired = await self._database.read(lambda db: queries.uploads_before(db, limit, EXPIRY_BATCH))
        failure = None
        for upload in expired:
            try:
                await self._end_expired(UploadId(upload), lease)
            except RegistryError as error:
                failure = error
        if failure is not None:
            raise failure
        return len(expired)

    async def _claim(self, digest: Digest) -> float:
        """Makes sure that nobody removes the bytes of a blob that is about to be committed, and returns when.

        Mostly nobody would. Raises `Unavailable` where somebody does, and takes longer than `PURGE_PATIENCE`.
        """
        began = time.monotonic()
        while True:
            now = time.monotonic()
            purging, unheld = await self._database.read(lambda db: trash.state(db, digest))
            if unheld:
                wanted = await self._database.write(lambda db: trash.want(db, digest), durable=False)
                purging = not wanted
            if not purging:
                return now
            if now - began > PURGE_PATIENCE:
                raise Unavailable("an earlier copy of the blob is being removed; try again", digest=digest)
            await asyncio.sleep(PURGE_POLL)

    async def _committed_unrecorded(self, digest: Digest, error: UploadUnknown) -> BlobStat:
        """Returns the blob that a commit left behind when the server died before the record; else raises ``error``.

        Only bytes that nobody holds: else whoever began an upload could ask for a blob of another repository.
        """
        if await self._database.read(lambda db: reach.is_held(db, digest)):
            raise error
        try:
            return await self._store.stat(digest)
        except BlobUnknown:
            raise error from None

    async def _end_expired(self, upload: UploadId, lease: Lease) -> None:
        self._forget(upload)
        await self._store.abort(upload)
        await lease.write(lambda db: queries.remove_upload(db, upload))

    async def _check(self, repository: str, upload: UploadId) -> None:
        """Raises `UploadUnknown`. One that has ended elsewhere may pass: the store knows it no more, and says so."""
        owner = self._known.get(upload)
        # PostgreSQL takes no NUL in a text, and no store makes such a name.
        if owner is None and upload.isprintable():
            owner = await self._database.read(lambda db: queries.upload_repository(db, upload))
            if owner is not None:
                self._remember(upload, owner)
        if owner != repository:
            raise UploadUnknown(name=repository, upload=upload[:64])

    def _remember(self, upload: UploadId, repository: str) -> None:
        self._known[upload] = repository
        if len(self._known) > KNOWN_UPLOADS:
            self._forget(next(iter(self._known)))

    def _forget(self, upload: UploadId) -> None:
        self._known.pop(upload, None)
        self._empty.discard(upload)

    def _check_size(self, size: int) -> None:
        if size > self._rules.max_blob_size:
            raise UploadTooLarge(max_bytes=self._rules.max_blob_size)

    async def _bounded(self, size: int, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            size += len(chunk)
            self._check_size(size)
            yield chunk
