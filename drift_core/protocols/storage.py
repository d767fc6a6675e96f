"""What keeps bytes by digest: the store, and the powers that one may have."""

from collections.abc import AsyncIterable, AsyncIterator, Collection
from typing import NewType, Protocol, runtime_checkable

from msgspec import Struct

from drift_core.model import BlobStat, Digest

UploadId = NewType("UploadId", str)
"""Names an upload for its whole life, on every node; made by the store, safe in a URL."""


@runtime_checkable
class BlobStore(Protocol):
    """Keeps bytes by digest, and uploads that are not yet blobs. It knows no repositories: the core does.

    Whatever else goes wrong, a method raises `Unavailable`, or `StorageFull` where there is no space.
    """

    async def stat(self, digest: Digest) -> BlobStat:
        """Returns size and time of a committed blob. Raises `BlobUnknown`."""
        ...

    def read(self, digest: Digest, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yields the bytes ``[start, stop)``; ``stop`` None means to the end.

        Raises `BlobUnknown` before the first chunk. A blob that is deleted meanwhile is still read whole, or the
        iteration raises; it never ends short.
        """
        ...

    async def begin(self, algorithm: str = "sha256") -> UploadId:
        """Begins an empty upload; ``algorithm`` is a hint which digest will be asked for."""
        ...

    async def received(self, upload: UploadId) -> int:
        """Returns how many bytes the upload holds. Raises `UploadUnknown`."""
        ...

    async def append(self, upload: UploadId, offset: int | None, chunks: AsyncIterable[bytes]) -> int:
        """Appends the chunks at ``offset`` (None: at the end) and returns the bytes now held.

        What arrived before ``chunks`` raised, or before the task was cancelled, stays.

        Raises:
            UploadUnknown: there is no such upload.
            OffsetMismatch: ``offset`` is not where the upload ends; nothing was written.
            UploadBusy: another task or process is appending.
        """
        ...

    async def commit(self, upload: UploadId, digest: Digest) -> BlobStat:
        """Makes the upload the blob ``digest``: atomic, and durable before it returns. The upload is then gone.

        A blob that exists already is replaced by the same bytes, which mends a damaged one. Raises `UploadUnknown`;
        `UploadBusy`; `DigestInvalid` where the bytes have another digest, and the upload is kept.
        """
        ...

    async def abort(self, upload: UploadId) -> None:
        """Forgets an upload; one that is unknown is no error."""
        ...

    async def delete(self, digest: Digest) -> None:
        """Removes a blob; one that is unknown is no error."""
        ...

    def scan(self, after: Digest | None = None) -> AsyncIterator[BlobStat]:
        """Yields every committed blob in ascending order of digest, beginning behind ``after``."""
        ...

    async def check(self) -> None:
        """Proves that bytes can be written and read now; raises `Unavailable` with the reason."""
        ...


@runtime_checkable
class SupportsLocalPath(Protocol):
    """A store some or all of whose blobs are plain files, which a transport sends without Python touching the bytes."""

    def local_path(self, digest: Digest) -> str:
        """Returns the absolute path at which the blob lies if it exists, and is a file; waits for no disk.

        Whoever is to send it looks there. Where no file of the blob's size is, it is read by `BlobStore.read` instead.
        """
        ...


@runtime_checkable
class SupportsStored(Protocol):
    """A store that reads from copies where there are some, and by whose reads nobody sees what is really kept."""

    def stored(self, digest: Digest) -> AsyncIterator[bytes]:
        """Yields a whole blob as it is kept, whatever copies there are; else like `BlobStore.read`.

        For who looks after what is kept, such as a scrub, and must find what is damaged. It makes no copies either.
        """
        ...


@runtime_checkable
class SupportsRedirect(Protocol):
    """A store that can hand out a URL from which the client fetches the bytes itself."""

    async def redirect(self, digest: Digest, method: str, client_address: str) -> str | None:
        """Returns a URL for ``method`` (GET or HEAD) that expires by itself, or None to stream instead."""
        ...


class Encoded(Struct, frozen=True):
    """A blob in a content coding (RFC 9110 section 8.4.1): ``size`` is that of all ``chunks``, in bytes."""

    coding: str
    size: int
    chunks: AsyncIterator[bytes]


@runtime_checkable
class SupportsEncoded(Protocol):
    """A store that keeps some blobs in a content coding, and can give them out as they are kept."""

    async def encoded(self, digest: Digest, accepted: Collection[str]) -> Encoded | None:
        """Returns a blob in one of the codings that a client accepts, or None for one that is not kept so."""
        ...
