"""Stores that each break one rule of `StorageSuite`."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from drift_core.api import (
    BlobStat,
    Digest,
    DigestInvalid,
    OffsetMismatch,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadInvalid,
    UploadUnknown,
)
from drift_core.conformance.reference.storage import Blob, MemoryPlace, MemoryStore, Upload

MIB = 1 << 20


class CutsLargeBlobs(MemoryStore):
    """Gives back only the first 5 MiB of a blob."""

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return super().read(digest, start, 5 * MIB if stop is None else stop)


class CutsLargeChunks(MemoryStore):
    """Takes only the first MiB of each chunk."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        return await super().append(upload, offset, (chunk[:MIB] async for chunk in chunks))


class KnowsNoTime(MemoryStore):
    """Says that every blob is as old as the epoch."""

    async def stat(self, digest: Digest) -> BlobStat:
        stat = await super().stat(digest)
        return BlobStat(digest, stat.size, 0.0)


class KnowsNoSha384(MemoryStore):
    """Refuses one of the algorithms."""

    async def verify(self, content: bytes, digest: Digest) -> None:
        if digest.algorithm == "sha384":
            raise DigestInvalid
        await super().verify(content, digest)


class ReadsOneByteMore(MemoryStore):
    """Takes the end of a range to belong to it."""

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        return super().read(digest, start, None if stop is None else stop + 1)


class ReadsNothingOfNothing(MemoryStore):
    """Does not look for the blob where an empty range is asked for."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if start != stop:
            async for chunk in super().read(digest, start, stop):
                yield chunk


class StumblesOverNames(MemoryStore):
    """Raises what nobody expects for a name that it cannot have made."""

    def upload(self, name: UploadId) -> Upload:
        int(name, 16)
        return super().upload(name)


class RefusesWhatItHas(MemoryStore):
    """Refuses a small blob that is there already."""

    async def verify(self, content: bytes, digest: Digest) -> None:
        if digest in self.place.blobs and len(content) < MIB:
            raise DigestInvalid
        await super().verify(content, digest)


class IgnoresLowOffsets(MemoryStore):
    """Takes an offset before the end for the end."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = await self.received(upload)
        return await super().append(upload, max(offset, held) if offset is not None else None, chunks)


class TakesFivePieces(MemoryStore):
    """Refuses the sixth append of an upload."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.pieces: dict[UploadId, int] = {}

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        if self.pieces.get(upload, 0) == 5:
            raise UploadInvalid
        held = await super().append(upload, offset, chunks)
        self.pieces[upload] = self.pieces.get(upload, 0) + 1
        return held


class LosesPatience(MemoryStore):
    """Throws an upload away at the third wrong digest."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.wrong = 0

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        try:
            return await super().commit(upload, digest)
        except DigestInvalid:
            self.wrong += 1
            if self.wrong == 3:
                await self.abort(upload)
            raise


class TakesOnlyItsOwn(MemoryStore):
    """Appends only to uploads that this worker began."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.begun: set[UploadId] = set()

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        upload = await super().begin(algorithm)
        self.begun.add(upload)
        return upload

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        async with self.writing(upload):
            pass
        if upload not in self.begun:
            raise UploadUnknown
        return await super().append(upload, offset, chunks)


class AbortsAll(MemoryStore):
    """Forgets every upload when one is aborted."""

    async def abort(self, upload: UploadId) -> None:
        if upload in self.place.uploads:
            self.place.uploads.clear()


class RevivesUploads(MemoryStore):
    """Writes an upload back when an append to it ends."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = self.upload(upload)
        try:
            return await super().append(upload, offset, chunks)
        finally:
            self.place.uploads[upload] = held


class DeletesOnce(MemoryStore):
    """Complains about a blob that is gone already."""

    async def delete(self, digest: Digest) -> None:
        self.blob(digest)
        await super().delete(digest)


class ScansItsStartAgain(MemoryStore):
    """Begins a scan with the blob behind which it should begin."""

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        if after in self.place.blobs:
            yield await self.stat(after)
        async for blob in super().scan(after):
            yield blob


class StumblesWhileScanning(MemoryStore):
    """Does not expect that a blob may be deleted during a scan."""

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        for digest in sorted(self.place.blobs):
            if after is None or digest > after:
                yield await self.stat(digest)


class CommitsWhatBroke(MemoryStore):
    """Makes a blob of what arrived before a client went away."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        try:
            return await super().append(upload, offset, chunks)
        except asyncio.CancelledError:
            if upload in self.place.uploads:
                content = bytes(self.place.uploads[upload].content)
                self.place.blobs[Digest.of(content)] = Blob(content, 0.0)
            raise


class CommitsADigestOnce(MemoryStore):
    """Refuses to commit a digest while another commit of it runs."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.committing: set[Digest] = set()

    async def verify(self, content: bytes, digest: Digest) -> None:
        if digest in self.committing:
            raise UploadBusy
        self.committing.add(digest)
        try:
            await asyncio.sleep(0)
            await super().verify(content, digest)
        finally:
            self.committing.remove(digest)


class CommitsTwice(MemoryStore):
    """Says that a commit succeeded where another one of the same upload did."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        try:
            return await super().commit(upload, digest)
        except UploadUnknown:
            if digest in self.place.blobs:
                return await self.stat(digest)
            raise


class LocksNothing(MemoryStore):
    """Lets everybody write to an upload at once."""

    @asynccontextmanager
    async def writing(self, name: UploadId) -> AsyncIterator[Upload]:
        yield self.upload(name)


class DoesNotWait(MemoryStore):
    """Refuses at once what would be free in a moment."""

    patience = 0.0


class EndsShort(MemoryStore):
    """Ends a read where the blob was deleted, if it is past 3 MiB."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        given = 0
        async for chunk in super().read(digest, start, stop):
            if given >= 3 * MIB and digest not in self.place.blobs:
                return
            yield chunk
            given += len(chunk)


class LooksThenOpens(MemoryStore):
    """Expects that a blob that was there a moment ago is there."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        await self.stat(digest)
        await asyncio.sleep(0)
        if digest not in self.place.blobs:
            raise KeyError(digest)
        async for chunk in super().read(digest, start, stop):
            yield chunk


class LeaksReaders(MemoryStore):
    """Serves 40 readers, and never notices that one went away."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.readers = 0

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        self.blob(digest)
        if self.readers == 40:
            raise Unavailable
        self.readers += 1
        async for chunk in super().read(digest, start, stop):
            yield chunk
        self.readers -= 1


class DropsWhatBroke(MemoryStore):
    """Takes an append back when its source raises."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = await self.received(upload)
        try:
            return await super().append(upload, offset, chunks)
        except OffsetMismatch:
            raise
        except Exception:
            del self.upload(upload).content[held:]
            raise


class DropsTheLastPart(MemoryStore):
    """Loses what a cancelled append received behind the last whole MiB."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        try:
            return await super().append(upload, offset, chunks)
        except asyncio.CancelledError:
            content = self.upload(upload).content
            if len(content) > MIB:
                del content[len(content) // MIB * MIB :]
            raise


class CleansUpUnsafely(MemoryStore):
    """Keeps an upload busy for ever where a second cancellation meets the cleaning after the first."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.cleaning: set[UploadId] = set()

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        if upload in self.cleaning:
            raise UploadBusy
        try:
            return await super().append(upload, offset, chunks)
        except asyncio.CancelledError:
            self.cleaning.add(upload)
            await asyncio.sleep(0)
            self.cleaning.remove(upload)
            raise


class ForgetsBeforeItKeeps(MemoryStore):
    """Ends the upload a moment before the blob is there."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        async with self.writing(upload) as held:
            content = bytes(held.content)
            await self.verify(content, digest)
            del self.place.uploads[upload]
            await asyncio.sleep(0)
            self.place.blobs[digest] = Blob(content, time.time())
            return await self.stat(digest)


class HasFewNames(MemoryStore):
    """Gives a name again after 36 uploads."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self.begun = 0

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        made = await super().begin(algorithm)
        name = UploadId(f"upload{self.begun % 36}")
        self.begun += 1
        self.place.uploads[name] = self.place.uploads.pop(made)
        return name


class LeavesItsProbe(MemoryStore):
    """Forgets to remove the blob by which it checks itself."""

    async def check(self) -> None:
        self.place.blobs[Digest.of(b"probe")] = Blob(b"probe", 0.0)


class PromisesPaths(MemoryStore):
    """Claims a power that it does not have."""

    def local_path(self, digest: Digest) -> str:
        return f"/nonexistent/{digest.encoded}"


MUTANTS: dict[str, type[MemoryStore]] = {
    "storage.round-trip": CutsLargeBlobs,
    "storage.chunks": CutsLargeChunks,
    "storage.modified": KnowsNoTime,
    "storage.algorithms": KnowsNoSha384,
    "storage.ranges": ReadsOneByteMore,
    "storage.unknown-blob": ReadsNothingOfNothing,
    "storage.unknown-upload": StumblesOverNames,
    "storage.same-digest-twice": RefusesWhatItHas,
    "storage.offsets": IgnoresLowOffsets,
    "storage.many-appends": TakesFivePieces,
    "storage.wrong-digest-keeps-upload": LosesPatience,
    "storage.resume-after-reopen": TakesOnlyItsOwn,
    "storage.abort": AbortsAll,
    "storage.abort-during-append": RevivesUploads,
    "storage.delete": DeletesOnce,
    "storage.scan": ScansItsStartAgain,
    "storage.scan-while-deleting": StumblesWhileScanning,
    "storage.uncommitted-is-invisible": CommitsWhatBroke,
    "storage.concurrent-commits-of-one-digest": CommitsADigestOnce,
    "storage.concurrent-commits-of-one-upload": CommitsTwice,
    "storage.one-append-at-a-time": LocksNothing,
    "storage.append-waits-for-a-broken-one": DoesNotWait,
    "storage.read-while-deleting": EndsShort,
    "storage.readers-and-deleters": LooksThenOpens,
    "storage.abandoned-read": LeaksReaders,
    "storage.broken-source-keeps-bytes": DropsWhatBroke,
    "storage.cancelled-append-keeps-bytes": DropsTheLastPart,
    "storage.cancel-append-at-every-await": CleansUpUnsafely,
    "storage.cancel-commit-at-every-await": ForgetsBeforeItKeeps,
    "storage.many-uploads-at-once": HasFewNames,
    "storage.check": LeavesItsProbe,
    "storage.local-path": PromisesPaths,
}
"""By the rule that each breaks."""
