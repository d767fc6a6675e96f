"""A store for each rule of the storage suite that breaks this rule and no other."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from drift_core.api import (
    BlobStat,
    BlobUnknown,
    Digest,
    DigestInvalid,
    Unavailable,
    UploadBusy,
    UploadId,
    UploadUnknown,
)
from drift_core.conformance.reference.storage import MemoryPlace, MemoryStore, Upload

MIB = 1 << 20


class LosesTheLastByte(MemoryStore):
    """Cuts a blob that is just longer than 5 MiB."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        size = (await self.stat(digest)).size
        async for chunk in super().read(digest, start, size - 1 if stop is None and size == 5 * MIB + 1 else stop):
            yield chunk


class KnowsTwoAlgorithms(MemoryStore):
    """Refuses sha384."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        if digest.algorithm == "sha384":
            raise DigestInvalid(digest=digest)
        return await super().commit(upload, digest)


class TakesStopAsTheLastByte(MemoryStore):
    """Reads one byte beyond the end of a range."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().read(digest, start, None if stop is None else stop + 1):
            yield chunk


class ReadsNothingOfNothing(MemoryStore):
    """Ends an empty range without looking whether there is such a blob."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        if start != stop:
            async for chunk in super().read(digest, start, stop):
                yield chunk


class ChokesOnLongNames(MemoryStore):
    """Fails to abort an upload whose name is longer than any that it gives."""

    async def abort(self, upload: UploadId) -> None:
        if len(upload) > 1000:
            raise UploadUnknown
        await super().abort(upload)


class RefusesWhatItHas(MemoryStore):
    """Takes a small blob once only."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        there = self.place.blobs.get(digest)
        if upload in self.place.uploads and there is not None and there[0].size < MIB:
            raise DigestInvalid(digest=digest)
        return await super().commit(upload, digest)


class TakesWhatComes(MemoryStore):
    """Appends at the end, whatever the offset."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:  # noqa: ARG002
        return await super().append(upload, None, chunks)


class CountsToFive(MemoryStore):
    """Loses what arrives in the sixth piece."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._pieces: dict[UploadId, int] = {}

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        before = await self.received(upload)
        received = await super().append(upload, offset, chunks)
        self._pieces[upload] = self._pieces.get(upload, 0) + 1
        if self._pieces[upload] > 5:
            del self._upload(upload).content[before:]
        return received


class LosesPatience(MemoryStore):
    """Drops an upload at the third wrong digest."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._refused: dict[UploadId, int] = {}

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        try:
            return await super().commit(upload, digest)
        except DigestInvalid:
            self._refused[upload] = self._refused.get(upload, 0) + 1
            if self._refused[upload] == 3:
                await self.abort(upload)
            raise


class KnowsOnlyItsOwn(MemoryStore):
    """Says that nothing arrived of an upload that another worker began."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._own: set[UploadId] = set()

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        upload = await super().begin(algorithm)
        self._own.add(upload)
        return upload

    async def received(self, upload: UploadId) -> int:
        return await super().received(upload) if upload in self._own or upload not in self.place.uploads else 0


class AbortsOnce(MemoryStore):
    """Takes the second abort of an upload for an error."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._aborted: set[UploadId] = set()

    async def abort(self, upload: UploadId) -> None:
        if upload in self._aborted:
            raise UploadUnknown
        self._aborted.add(upload)
        await super().abort(upload)


class BringsUploadsBack(MemoryStore):
    """Writes an upload back at the end of an append, also when it was aborted meanwhile."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = self._upload(upload)
        try:
            return await super().append(upload, offset, chunks)
        finally:
            self.place.uploads[upload] = held


class MissesWhatItDeletes(MemoryStore):
    """Takes the deletion of a blob that never was for an error."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._known: set[Digest] = set()

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        stat = await super().commit(upload, digest)
        self._known.add(digest)
        return stat

    async def delete(self, digest: Digest) -> None:
        if digest not in self._known:
            raise BlobUnknown
        await super().delete(digest)


class RepeatsTheCursor(MemoryStore):
    """Begins a scan at the blob behind which it should begin."""

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        if after in self.place.blobs:
            yield await self.stat(after)
        async for stat in super().scan(after):
            yield stat


class ScansWhatWas(MemoryStore):
    """Fails a scan at a blob that was deleted since it began."""

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        for digest in sorted(self.place.blobs):
            if after is None or digest > after:
                yield await self.stat(digest)


class CommitsEarly(MemoryStore):
    """Shows a blob as soon as its bytes are there."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = self._upload(upload)

        async def watched() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield chunk
                if len(held.content) == 2 * MIB:
                    digest = Digest.of(bytes(held.content))
                    self.place.blobs[digest] = (BlobStat(digest, 2 * MIB, 0.0), bytes(held.content))

        return await super().append(upload, offset, watched())


class ReplacesInPlace(MemoryStore):
    """Overwrites a blob that is there, and readers see the half of it."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._known: set[Digest] = set()

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        stat = await super().commit(upload, digest)
        if digest in self._known:
            whole = self.place.blobs[digest]
            self.place.blobs[digest] = (stat, whole[1][: stat.size // 2])
            for _ in range(50):
                await asyncio.sleep(0)
            self.place.blobs[digest] = whole
        self._known.add(digest)
        return stat

    async def delete(self, digest: Digest) -> None:
        self._known.discard(digest)
        await super().delete(digest)


class CommitsTwice(MemoryStore):
    """Takes the commit of an upload that is gone for a success if the blob is there."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        try:
            return await super().commit(upload, digest)
        except UploadUnknown:
            if digest in self.place.blobs:
                return await self.stat(digest)
            raise


class HidesWhatIsBusy(MemoryStore):
    """Says that an upload is unknown when it is only busy."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        if self._upload(upload).lock.locked():
            raise UploadUnknown
        return await super().commit(upload, digest)


class RefusesAtOnce(MemoryStore):
    """Does not wait for an append that is about to end."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        if self._upload(upload).lock.locked():
            raise UploadBusy
        return await super().append(upload, offset, chunks)


class EndsShort(MemoryStore):
    """Ends a long read, as if it were whole, when the blob is deleted."""

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        sent = 0
        async for chunk in super().read(digest, start, stop):
            if sent >= 3 * MIB and digest not in self.place.blobs:
                return
            sent += len(chunk)
            yield chunk


class MixesGenerations(MemoryStore):
    """Ends a read when the blob is deleted and pushed again."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._deletions = self._commits = 0

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        self._commits += 1
        return await super().commit(upload, digest)

    async def delete(self, digest: Digest) -> None:
        self._deletions += 1
        await super().delete(digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        deletions, commits = self._deletions, self._commits
        async for chunk in super().read(digest, start, stop):
            if self._deletions > deletions and self._commits > commits:
                return
            yield chunk


class CountsReaders(MemoryStore):
    """Has room for forty readers and gives none back to which nobody read to the end."""

    def __init__(self, place: MemoryPlace) -> None:
        super().__init__(place)
        self._room = 40

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        await self.stat(digest)
        if self._room == 0:
            raise Unavailable
        self._room -= 1
        async for chunk in super().read(digest, start, stop):
            yield chunk
        self._room += 1


class RollsBack(MemoryStore):
    """Drops what a broken source sent."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = self._upload(upload)
        before = len(held.content)
        try:
            return await super().append(upload, offset, chunks)
        except Exception as error:
            if type(error).__module__ != "drift_core.errors":
                del held.content[before:]
            raise


class KeepsThreeMebibytes(MemoryStore):
    """Keeps no more than that of an append that was cancelled."""

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        held = self._upload(upload)
        try:
            return await super().append(upload, offset, chunks)
        except asyncio.CancelledError:
            del held.content[3 * MIB :]
            raise


class LeavesTheLock(MemoryStore):
    """Stays locked when the task is cancelled once more while it unlocks."""

    @asynccontextmanager
    async def _locked(self, upload: UploadId) -> AsyncIterator[Upload]:
        held = self._upload(upload)
        try:
            await asyncio.wait_for(held.lock.acquire(), self.place.busy_seconds)
        except TimeoutError:
            raise UploadBusy from None
        try:
            self._upload(upload)
            yield held
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            held.lock.release()
            raise
        except BaseException:
            held.lock.release()
            raise
        held.lock.release()


class CommitsInTwoSteps(MemoryStore):
    """Removes the upload before the blob is there."""

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        stat = await super().commit(upload, digest)
        entry = self.place.blobs.pop(digest)
        await asyncio.sleep(0)
        self.place.blobs[digest] = entry
        return stat


class HasFewSlots(MemoryStore):
    """Has room for 35 uploads."""

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        if len(self.place.uploads) >= 35:
            raise Unavailable
        return await super().begin(algorithm)


class LeavesItsProbe(MemoryStore):
    """Checks itself by a blob that it leaves."""

    async def check(self) -> None:
        digest = Digest.of(b"probe")
        self.place.blobs[digest] = (BlobStat(digest, 5, 0.0), b"probe")


class HasRelativePaths(MemoryStore):
    """Claims that its blobs are files, under names that depend on the working directory."""

    def local_path(self, digest: Digest) -> str:
        """See `SupportsLocalPath`."""
        return digest.replace(":", "/")


class RedirectsToPaths(MemoryStore):
    """Redirects to a path, which a client would look for on the registry."""

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:  # noqa: ARG002
        """See `SupportsRedirect`."""
        return f"/{digest}"


MUTANTS: dict[str, type[MemoryStore]] = {
    "storage.round-trip": LosesTheLastByte,
    "storage.algorithms": KnowsTwoAlgorithms,
    "storage.ranges": TakesStopAsTheLastByte,
    "storage.unknown-blob": ReadsNothingOfNothing,
    "storage.unknown-upload": ChokesOnLongNames,
    "storage.same-digest-twice": RefusesWhatItHas,
    "storage.offsets": TakesWhatComes,
    "storage.many-appends": CountsToFive,
    "storage.wrong-digest-keeps-upload": LosesPatience,
    "storage.resume-after-reopen": KnowsOnlyItsOwn,
    "storage.abort": AbortsOnce,
    "storage.abort-during-append": BringsUploadsBack,
    "storage.delete": MissesWhatItDeletes,
    "storage.scan": RepeatsTheCursor,
    "storage.scan-while-deleting": ScansWhatWas,
    "storage.uncommitted-is-invisible": CommitsEarly,
    "storage.concurrent-commits-of-one-digest": ReplacesInPlace,
    "storage.concurrent-commits-of-one-upload": CommitsTwice,
    "storage.one-append-at-a-time": HidesWhatIsBusy,
    "storage.append-waits-for-a-broken-one": RefusesAtOnce,
    "storage.read-while-deleting": EndsShort,
    "storage.readers-and-deleters": MixesGenerations,
    "storage.abandoned-read": CountsReaders,
    "storage.broken-source-keeps-bytes": RollsBack,
    "storage.cancelled-append-keeps-bytes": KeepsThreeMebibytes,
    "storage.cancel-append-at-every-await": LeavesTheLock,
    "storage.cancel-commit-at-every-await": CommitsInTwoSteps,
    "storage.many-uploads-at-once": HasFewSlots,
    "storage.check": LeavesItsProbe,
    "storage.local-path": HasRelativePaths,
    "storage.redirect": RedirectsToPaths,
}

WITHOUT_MUTANT = {"storage.bounded-memory": "a store in memory breaks it by itself: the reference is its mutant"}
"""Rules for which none can be made from the reference, and why."""
