"""A store that writes to a new place and still reads from the previous one, while blobs move between the two."""

from collections.abc import AsyncIterable, AsyncIterator
from os.path import exists

from drift_core.errors import BlobUnknown, UploadUnknown
from drift_core.model import BlobStat, Digest
from drift_core.protocols.storage import BlobStore, SupportsLocalPath, SupportsRedirect, UploadId


class Migrating:
    """A `BlobStore` of two: whatever is acknowledged lies in the new one.

    An upload that the previous one began goes on there, and its blob is copied when it is committed.
    """

    def __init__(self, new: BlobStore, previous: BlobStore) -> None:
        self._new = new
        self._previous = previous

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        try:
            return await self._new.stat(digest)
        except BlobUnknown:
            return await self._previous.stat(digest)

    async def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        chunks = self._new.read(digest, start, stop)
        try:
            first = await anext(chunks, b"")
        except BlobUnknown:
            chunks = self._previous.read(digest, start, stop)
            first = await anext(chunks, b"")
        if first:
            yield first
        async for chunk in chunks:
            yield chunk

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """See `BlobStore`."""
        return await self._new.begin(algorithm)

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore`."""
        return await (await self._keeper(upload)).received(upload)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore`."""
        return await (await self._keeper(upload)).append(upload, offset, chunks)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        keeper = await self._keeper(upload)
        stat = await keeper.commit(upload, digest)
        return stat if keeper is self._new else await copy_blob(self._previous, self._new, digest)

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore`."""
        await self._new.abort(upload)
        await self._previous.abort(upload)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`."""
        # The other way round, whoever copies blobs could find it between the two, and bring it back.
        await self._previous.delete(digest)
        await self._new.delete(digest)

    async def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`."""
        async for new, previous in side_by_side(self._new, self._previous, after):
            stat = new or previous
            if stat is not None:
                yield stat

    async def check(self) -> None:
        """See `BlobStore`."""
        await self._new.check()
        await self._previous.check()

    async def _keeper(self, upload: UploadId) -> BlobStore:
        """Returns the store that began an upload. Raises `UploadUnknown`."""
        try:
            await self._new.received(upload)
        except UploadUnknown:
            await self._previous.received(upload)
            return self._previous
        return self._new


class _WithLocalPath(Migrating):
    """Where one of the two keeps files: the path of the new one's, unless only the previous one has it."""

    def __init__(self, new: BlobStore, previous: BlobStore) -> None:
        super().__init__(new, previous)
        self._files = [store for store in (new, previous) if isinstance(store, SupportsLocalPath)]

    def local_path(self, digest: Digest) -> str:
        """See `SupportsLocalPath`; where both keep files, it looks which of them is there."""
        path, *others = (store.local_path(digest) for store in self._files)
        return path if exists(path) else next(filter(exists, others), path)  # noqa: PTH110 - a Path costs more


class _WithRedirect(Migrating):
    """Where one of the two hands out URLs: for the blobs that lie in that one."""

    def __init__(self, new: BlobStore, previous: BlobStore) -> None:
        super().__init__(new, previous)
        self._from_new = new if isinstance(new, SupportsRedirect) else None
        self._from_previous = previous if isinstance(previous, SupportsRedirect) else None

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """See `SupportsRedirect`."""
        keeper = self._from_new
        try:
            await self._new.stat(digest)
        except BlobUnknown:
            keeper = self._from_previous
        return None if keeper is None else await keeper.redirect(digest, method, client_address)


class _WithBoth(_WithLocalPath, _WithRedirect):
    pass


def migrating(new: BlobStore, previous: BlobStore) -> Migrating:
    """Returns a store of the two that has each optional power that one of them has."""
    files, redirects = (
        isinstance(new, power) or isinstance(previous, power) for power in (SupportsLocalPath, SupportsRedirect)
    )
    if files and redirects:
        return _WithBoth(new, previous)
    if files:
        return _WithLocalPath(new, previous)
    return _WithRedirect(new, previous) if redirects else Migrating(new, previous)


async def copy_blob(source: BlobStore, target: BlobStore, digest: Digest) -> BlobStat:
    """Copies a blob, and its digest is verified where it arrives.

    Raises:
        BlobUnknown: the source does not have it.
        DigestInvalid: it is damaged there; nothing is kept of it.
        Unavailable: one of the two fails.
    """
    upload = await target.begin(digest.algorithm)
    try:
        await target.append(upload, 0, source.read(digest))
        return await target.commit(upload, digest)
    except Exception:
        await target.abort(upload)
        raise


async def side_by_side(
    one: BlobStore, other: BlobStore, after: Digest | None = None
) -> AsyncIterator[tuple[BlobStat | None, BlobStat | None]]:
    """Yields every blob of two stores once, in order of digest, as each of the two has it; None where it does not."""
    left, right = one.scan(after), other.scan(after)
    mine, its = await anext(left, None), await anext(right, None)
    while mine is not None or its is not None:
        if its is None or (mine is not None and mine.digest < its.digest):
            yield mine, None
            mine = await anext(left, None)
        elif mine is None or its.digest < mine.digest:
            yield None, its
            its = await anext(right, None)
        else:
            yield mine, its
            mine, its = await anext(left, None), await anext(right, None)
