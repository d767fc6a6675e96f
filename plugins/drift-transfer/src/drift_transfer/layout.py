"""A source: OCI image layouts, one for each repository, by the path at which it lies below one folder.

See the image specification, "OCI Image Layout". zot keeps its repositories like this, and so does `drift export`.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec

from drift_core.api import Digest, DigestInvalid
from drift_transfer.documents import REF_NAME, Entry, Index
from drift_transfer.files import Folder, in_blocks, in_pages
from drift_transfer.source import Failure, Kind, SourceError

INDEX = "index.json"
MARK = "oci-layout"
BLOBS = "blobs"

MAX_INDEX = 256 << 20
"""Most bytes of an index, which is read at once: about a million entries."""


class Layouts:
    """See `Source` and `SupportsUntagged`.

    With a ``repository`` the folder itself is the layout of it; else there is one for each below it.
    """

    def __init__(self, folder: Path, repository: str | None = None) -> None:
        self._folder = folder
        self._repository = repository
        self._files = Folder(folder)

    async def repositories(self) -> AsyncIterator[str]:
        """See `Source`."""
        if self._repository is not None:
            yield self._repository
            return
        found = False
        async for names in in_pages(self._walk("")):
            for name in names:
                found = True
                yield name
        if not found:
            raise SourceError(f"there is no image layout below {self._folder}")

    async def tags(self, repository: str) -> AsyncIterator[tuple[str, Digest] | Failure]:
        """See `Source`."""
        for entry in await self._entries(repository):
            name = (entry.annotations or {}).get(REF_NAME)
            if name is not None:
                digest = self._digest(repository, entry)
                yield digest if isinstance(digest, Failure) else (tag_of(name), digest)

    async def manifests(self, repository: str) -> AsyncIterator[Digest | Failure]:
        """See `SupportsUntagged`."""
        for entry in await self._entries(repository):
            digest = self._digest(repository, entry)
            if isinstance(digest, Digest) or REF_NAME not in (entry.annotations or {}):
                yield digest

    async def manifest(self, repository: str, digest: Digest, limit: int) -> bytes:
        """See `Source`."""
        return await asyncio.to_thread(self._files.read, self._data(repository, digest), limit)

    def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:
        """See `Source`."""
        return in_blocks(self._files.blocks(self._data(repository, digest)))

    def place(self, repository: str, kind: Kind, digest: Digest) -> str:  # noqa: ARG002 - both lie among the blobs
        """See `Source`."""
        return self._files.place(self._data(repository, digest))

    async def _entries(self, repository: str) -> list[Entry]:
        path = self._path(repository, INDEX)
        content = await asyncio.to_thread(self._files.read, path, MAX_INDEX + 1)
        try:
            if len(content) <= MAX_INDEX:
                return msgspec.json.decode(content, type=Index).manifests
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{self._files.place(path)} is no index of a layout: {error}") from error
        raise SourceError(f"{self._files.place(path)} has more than {MAX_INDEX} bytes")

    def _digest(self, repository: str, entry: Entry) -> Digest | Failure:
        try:
            return Digest.parse(entry.digest)
        except DigestInvalid as error:
            place = self._files.place(self._path(repository, INDEX))
            return Failure("manifest", repository, entry.digest[:256], place, error.message)

    def _walk(self, parent: str) -> Iterator[str]:
        if is_layout(self._folder / parent):
            yield parent
        for name in self._files.folders(parent):
            if name != BLOBS and not name.startswith((".", "_")):
                yield from self._walk(f"{parent}/{name}".lstrip("/"))

    def _path(self, repository: str, path: str) -> str:
        return path if self._repository is not None else f"{repository}/{path}"

    def _data(self, repository: str, digest: Digest) -> str:
        return self._path(repository, f"{BLOBS}/{digest.algorithm}/{digest.encoded}")


def is_layout(folder: Path) -> bool:
    """Says whether a folder itself is an image layout; blocks."""
    return os.path.lexists(folder / MARK) and os.path.lexists(folder / INDEX)


def tag_of(name: str) -> str:
    """Returns the tag of what an annotation names: a tag alone, or a reference that some clients write there."""
    return name.rpartition("/")[2].rpartition(":")[2]
