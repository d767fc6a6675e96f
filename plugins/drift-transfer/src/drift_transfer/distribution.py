"""A source: what distribution has stored, in a folder or in a bucket.

::

    docker/registry/v2/
        repositories/<name>/_manifests/tags/<tag>/current/link
        repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
        blobs/<algorithm>/<first two of hex>/<hex>/data

A link holds a digest. Manifests lie among the blobs. See the package ``registry/storage``, file ``paths.go``, of
distribution, which is the same for its versions 2 and 3.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from drift_core.api import Digest, DigestInvalid
from drift_transfer.files import Files, in_blocks, in_pages
from drift_transfer.source import Absent, Failure, Kind, SourceError

ROOT = "docker/registry/v2"

LINK_BYTES = 256
"""More than the longest link."""


class Distribution:
    """See `Source` and `SupportsUntagged`. What was deleted has no link any more, and is left out."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._root = ROOT

    async def open(self) -> None:
        """Finds out whether the place is the root folder of the storage, or that of the registry in it.

        Raises `SourceError` where it is neither.
        """
        for root in (ROOT, ""):
            async for names in in_pages(self._files.folders(root)):
                if "repositories" in names:
                    self._root = root
                    return
        raise SourceError(f"distribution has stored nothing here: there is no {self._files.place(ROOT)}/repositories")

    async def repositories(self) -> AsyncIterator[str]:
        """See `Source`."""
        async for names in in_pages(self._walk("")):
            for name in names:
                yield name

    async def tags(self, repository: str) -> AsyncIterator[tuple[str, Digest] | Failure]:
        """See `Source`."""
        folder = f"{self._manifests(repository)}/tags"
        async for names in in_pages(self._files.folders(folder)):
            links = [(name, f"{folder}/{name}/current/link") for name in names]
            found = await asyncio.gather(*(self._link(repository, "tag", name, path) for name, path in links))
            for name, digest in zip(names, found, strict=True):
                if digest is not None:
                    yield digest if isinstance(digest, Failure) else (name, digest)

    async def manifests(self, repository: str) -> AsyncIterator[Digest | Failure]:
        """See `SupportsUntagged`."""
        folder = f"{self._manifests(repository)}/revisions"
        async for algorithms in in_pages(self._files.folders(folder)):
            for algorithm in algorithms:
                async for names in in_pages(self._files.folders(f"{folder}/{algorithm}")):
                    links = [(f"{algorithm}:{name}", f"{folder}/{algorithm}/{name}/link") for name in names]
                    read = (self._link(repository, "manifest", name, path) for name, path in links)
                    for digest in await asyncio.gather(*read):
                        if digest is not None:
                            yield digest

    async def manifest(self, repository: str, digest: Digest, limit: int) -> bytes:  # noqa: ARG002 - lies beside all
        """See `Source`."""
        return await asyncio.to_thread(self._files.read, self._data(digest), limit)

    def blob(self, repository: str, digest: Digest) -> AsyncIterator[bytes]:  # noqa: ARG002 - as above
        """See `Source`."""
        return in_blocks(self._files.blocks(self._data(digest)))

    def place(self, repository: str, kind: Kind, digest: Digest) -> str:  # noqa: ARG002 - as above
        """See `Source`."""
        return self._files.place(self._data(digest))

    def _walk(self, parent: str) -> Iterator[str]:
        for name in self._files.folders(self._path(f"repositories/{parent}".rstrip("/"))):
            if name == "_manifests":
                yield parent
            elif not name.startswith("_"):
                yield from self._walk(f"{parent}/{name}".lstrip("/"))

    async def _link(self, repository: str, kind: Kind, name: str, path: str) -> Digest | Failure | None:
        try:
            content = await asyncio.to_thread(self._files.read, path, LINK_BYTES)
            return Digest.parse(content.decode(errors="replace").strip())
        except Absent:
            return None
        except (SourceError, DigestInvalid) as error:
            return Failure(kind, repository, name, self._files.place(path), f"the link is damaged: {error}")

    def _manifests(self, repository: str) -> str:
        return self._path(f"repositories/{repository}/_manifests")

    def _data(self, digest: Digest) -> str:
        return self._path(f"blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data")

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}".lstrip("/")
