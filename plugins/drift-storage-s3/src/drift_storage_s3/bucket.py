"""What the store asks of an object service, and the errors by which it answers."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from drift_core.api import Struct

Body = bytes | bytearray | memoryview
"""What is sent; it does not change until the call returns."""

BLOCK = 1 << 20
"""Most bytes that a reader yields at once."""


class Missing(Exception):
    """There is no such object; to be raised only where the service said so, never where it could not be asked."""


class UploadGone(Exception):
    """There is no such multipart upload: it was completed, aborted or never begun."""


class Part(Struct, frozen=True):
    """One part that the service has; ``size`` is in bytes, ``checksum`` None where the service keeps none."""

    number: int
    size: int
    etag: str
    checksum: str | None = None


class Reader(Protocol):
    """The bytes of a range, on their way. Used by one thread at a time, which may change."""

    def __iter__(self) -> Iterator[bytes]:
        """Yields blocks of at most `BLOCK` bytes, none of them empty, and exactly the range.

        Raises:
            Unavailable: the connection broke, and to begin again behind what was yielded did not help either.
        """
        ...

    def close(self) -> None:
        """Gives up what has not been read; may be called again, and after the end."""
        ...


class Bucket(Protocol):
    """One bucket of an object service. Every method blocks, and may be called by many threads at once.

    Each retries what may pass by itself, with jitter and within a bounded time, and then raises `Unavailable`, or
    `StorageFull` where there is no space; their texts name the operation and the service's code, and no secret.

    ``name`` tells this bucket, with its prefix, from every other that one database may know; at most 255 characters.
    ``verifies`` says that the service checks what it receives, so that nothing has to be read back.
    ``reuses_numbers`` False means that a number of a part may be sent once only: after a failure the store uses the
    next one. Keys are like ``data/1f3a.2``; a prefix, and what else a service needs, is put before them here.
    """

    name: str
    verifies: bool
    reuses_numbers: bool

    def check(self) -> None:
        """Asks whether the bucket is there and may be used, and makes it where that is configured.

        Raises:
            StartError: it is not there, or the credentials are no good; names the key of the configuration.
        """
        ...

    def put(self, key: str, body: Body) -> None:
        """Writes an object whole; the store writes a key once only, but for a retry of its own after a failure.

        Returns when the service has made it durable.
        """
        ...

    def get(self, key: str, start: int, stop: int) -> Reader:
        """Begins to read the bytes ``[start, stop)``, which are not empty and lie within the object.

        Raises:
            Missing: there is no such object.
        """
        ...

    def size(self, key: str) -> int:
        """Returns the bytes of an object.

        Raises:
            Missing: there is no such object.
        """
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Removes objects, in batches where the service takes them; one that is missing is no error."""
        ...

    def create_multipart(self, key: str) -> str:
        """Begins a multipart upload of an object and returns its id."""
        ...

    def put_part(self, key: str, multipart: str, number: int, body: Body) -> Part:
        """Sends a part, ``number`` from 1 on; all of an object's parts have one size, but for the last.

        Raises:
            UploadGone: there is no such multipart upload.
        """
        ...

    def complete(self, key: str, multipart: str, parts: Sequence[Part]) -> None:
        """Makes the parts, in order of their numbers, the object; returns when the service has made it durable.

        Raises:
            UploadGone: there is no such multipart upload; an earlier attempt may have completed it.
        """
        ...

    def abort(self, key: str, multipart: str) -> None:
        """Gives up a multipart upload and its parts; one that is gone is no error."""
        ...

    def presign(self, key: str) -> str | None:
        """Returns a URL by which anybody may GET the object for a while, or None; asks nobody."""
        ...

    def close(self) -> None:
        """Closes the connections; nothing else is called afterwards."""
        ...
