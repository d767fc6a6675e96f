"""A store that stands before another one, for layers to begin with: it passes every question on."""

from collections.abc import AsyncIterable, AsyncIterator

from drift_core.errors import StartError
from drift_core.model import BlobStat, Digest
from drift_core.protocols.drivers import Services
from drift_core.protocols.storage import BlobStore, UploadId


class StoreLayer:
    """A layer that inherits this is a `BlobStore`, and writes only what it does otherwise than the store ``beneath``.

    Its optional powers are its own: one that the store beneath has is passed on by who writes a method for it.
    """

    beneath: BlobStore

    def __init__(self, services: Services) -> None:
        """Raises `StartError` where no store was lent, which is lent to the layers of ``[storage] layers`` alone."""
        if services.beneath is None:
            message = (
                f"{services.plugin} lies around another store: name that one in storage.type, and it in storage.layers"
            )
            raise StartError(message)
        self.beneath = services.beneath

    async def stat(self, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        return await self.beneath.stat(digest)

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        return self.beneath.read(digest, start, stop)

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """See `BlobStore`."""
        return await self.beneath.begin(algorithm)

    async def received(self, upload: UploadId) -> int:
        """See `BlobStore`."""
        return await self.beneath.received(upload)

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """See `BlobStore`."""
        return await self.beneath.append(upload, offset, chunks)

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """See `BlobStore`."""
        return await self.beneath.commit(upload, digest)

    async def abort(self, upload: UploadId) -> None:
        """See `BlobStore`."""
        await self.beneath.abort(upload)

    async def delete(self, digest: Digest) -> None:
        """See `BlobStore`."""
        await self.beneath.delete(digest)

    def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """See `BlobStore`."""
        return self.beneath.scan(after)

    async def check(self) -> None:
        """See `BlobStore`."""
        await self.beneath.check()


_: type[BlobStore] = StoreLayer
