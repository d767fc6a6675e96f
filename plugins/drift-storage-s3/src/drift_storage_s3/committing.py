"""How an upload becomes a blob: its parts one object, its digest known, and then one row."""

import time
from collections.abc import Callable

from sqlalchemy import Connection

from drift_core.api import (
    BlobStat,
    Digest,
    DigestInvalid,
    RegistryError,
    UploadBusy,
    UploadId,
    UploadUnknown,
)
from drift_storage_s3 import uploads
from drift_storage_s3.bucket import Missing
from drift_storage_s3.hashing import Running
from drift_storage_s3.holding import Hold, Patience
from drift_storage_s3.joining import join_parts
from drift_storage_s3.placement import Placed
from drift_storage_s3.service import Numbers, ObjectService
from drift_storage_s3.uploads import Tail, Upload

EMPTY = b""


class Committer:
    """Makes uploads into blobs."""

    def __init__(self, service: ObjectService) -> None:
        self._service = service

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """Returns the blob. Nothing is held while objects are read: a turn of another one is noticed in the end.

        Raises:
            UploadUnknown, UploadBusy, DigestInvalid, Unavailable: as `BlobStore.commit`.
        """
        service = self._service
        patience = Patience()
        while True:
            found = await service.records.read(lambda db: uploads.find(db, service.store, upload))
            if found is None:
                raise UploadUnknown
            if found.held:
                await patience.wait()
                continue
            known = None if found.digest is None else Digest(found.digest)
            if known is not None and known.algorithm == digest.algorithm and known != digest:
                raise DigestInvalid(digest=digest)
            if found.tail is None or found.sent:
                await service.tasks.settle(self._make_one(await service.holds.take(upload, None)))
                continue
            await self._check(found.tail, found.size, digest, known)
            placed = Placed(digest, found.tail, found.size, time.time())
            if await service.records.write(_commit(service.store, found, placed), concurrent=True):
                service.hashes.drop(upload)
                return BlobStat(digest, placed.size, placed.modified)

    async def _check(self, key: str, size: int, digest: Digest, known: Digest | None) -> None:
        """Looks whether the object is there and has the digest, which is ``known`` of what was sent."""
        service = self._service
        try:
            if known != digest or not service.bucket.verifies:
                actual = await service.digest_of(key, size, digest.algorithm)
                there = actual == digest
            else:
                there = await service.threads.ask("size", service.bucket.size, key) == size
        except Missing as error:
            raise service.lost(key) from error
        if there:
            return
        if known == digest:
            raise service.lost(key)
        raise DigestInvalid(digest=digest)

    async def _make_one(self, hold: Hold) -> None:
        """Makes one object of all that an upload has, and lets others hold it."""
        numbers = Numbers(hold.upload.number)
        try:
            async with hold.kept():
                if hold.upload.sent:
                    await join_parts(self._service, hold, numbers)
                elif hold.upload.tail is None:
                    key = await hold.new_key()
                    await self._service.put(key, EMPTY)
                    await hold.put_tail(Tail(key, 0, Running(hold.upload.algorithm).digest()))
        except (UploadUnknown, UploadBusy):
            raise
        except RegistryError as error:
            await self._let_go(hold, numbers)
            raise error from None
        await hold.release(hold.upload.number)

    async def _let_go(self, hold: Hold, numbers: Numbers) -> None:
        try:
            await hold.release(numbers.last, doubtful=True)
        except RegistryError as error:
            # Others may hold it in a few seconds all the same.
            self._service.log.warning("an upload is not let go", upload=hold.upload.id, error=str(error))


def _commit(store: str, found: Upload, placed: Placed) -> Callable[[Connection], bool]:
    return lambda db: uploads.commit(db, store, found, placed)
