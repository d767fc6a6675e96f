"""Lists the files of a layer while its bytes pass by: nothing is unpacked, to disk or into memory, but names."""

import asyncio
import gzip
import io
import tarfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec import Struct

from drift_core.api import Digest, LocalRegistry
from drift_ui.documents import NotReadable

MOST_ENTRIES = 20_000
"""Files of a layer that are listed."""

MOST_UNPACKED = 1 << 30
"""Bytes of a tar that are looked through."""

LARGEST_HEADER = 64 << 10
"""Bytes of one extended header, which is in memory as a whole."""

LONGEST_NAME = 4096
"""Characters of a name, and of what a link leads to."""

MOST_CHARACTERS = 8 << 20
"""Characters of all names of a listing."""

LARGEST_WINDOW = 128 << 20
"""Bytes of the window of a zstd stream."""

READ = 1 << 20
KEPT = 8
"""Listings that each worker remembers."""

AT_ONCE = 2
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
KINDS = {tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link"}


class Entry(Struct, frozen=True):
    """A file of a layer: ``size`` in bytes, ``target`` that of a link."""

    path: str
    kind: str
    size: int
    mode: str
    owner: str
    target: str


class Listing(Struct, frozen=True):
    """The files of a layer, in its order; ``cut`` says why not all of them, and is empty where they are all."""

    entries: Sequence[Entry]
    cut: str = ""


class Layers:
    """Lists layers, a few at a time, each in a thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Listing] = OrderedDict()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def listing(self, registry: LocalRegistry, repository: str, digest: Digest) -> Listing:
        """Returns the files of a layer that the repository holds.

        Raises `NotReadable` where it is no tar, plain or compressed by gzip or zstd; `BlobUnknown`; or a gate's error.
        """
        source = _Source(registry.blob(repository, digest), asyncio.get_running_loop())
        try:
            known = self._known.get(digest)
            if known is None:
                async with self._turn:
                    # It may have been listed meanwhile.
                    known = self._known.get(digest)
                    if known is None:
                        return self._remembered(digest, await asyncio.to_thread(list_tar, source))
            # That another repository, or somebody else, may have the layer is no reason to show it.
            await source.begin()
            return self._remembered(digest, known)
        finally:
            await source.end()

    def _remembered(self, digest: Digest, listing: Listing) -> Listing:
        self._known[digest] = listing
        self._known.move_to_end(digest)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return listing


class _Source(io.RawIOBase):
    """The bytes of a layer as a file that a thread reads."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._chunks = chunks
        self._loop = loop
        self._left = memoryview(b"")
        # Its end waits for what a thread asks of it at that moment.
        self._turn = asyncio.Lock()
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            self._left = memoryview(asyncio.run_coroutine_threadsafe(self._next(), self._loop).result())
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    async def begin(self) -> None:
        """Raises what reading it raises, such as the error of a gate."""
        self._left = memoryview(await self._next())

    async def end(self) -> None:
        """Lets go of the layer; a thread that still reads it comes to its end."""
        self._ended = True
        async with self._turn:
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()

    async def _next(self) -> bytes:
        async with self._turn:
            if not self._ended:
                async for chunk in self._chunks:
                    if chunk:
                        return chunk
        return b""


class _TooMuchError(Exception):
    """The tar is larger than what is looked through of one."""


class _Bounded:
    """A tar that ends with an error where too much of it was read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._read = 0

    def read(self, size: int) -> bytes:
        if self._read >= MOST_UNPACKED:
            raise _TooMuchError
        chunk: bytes = self._inner.read(size)
        self._read += len(chunk)
        return chunk


class _Member(tarfile.TarInfo):
    """An entry; refuses headers that would be large in memory, and reads over what no list shows."""

    def _proc_member(self, archive: Any) -> Any:
        if self.type in EXTENDED and not 0 <= self.size <= LARGEST_HEADER:
            message = "a header of it is too large"
            raise tarfile.ReadError(message)
        if self.type == tarfile.XGLTYPE:
            # What it says would be copied to every entry behind it.
            archive.fileobj.read(_blocks(self.size))
            return type(self).fromtarfile(archive)
        return super()._proc_member(archive)  # type: ignore[misc]

    # Maps of sparse files may be as long as the layer.

    def _proc_sparse(self, archive: Any) -> Any:
        own: Any = self
        _, extended, size = own._sparse_structs  # noqa: SLF001 - what the header says of it
        del own._sparse_structs  # noqa: SLF001 - as who reads it does
        while extended:
            extended = archive.fileobj.read(tarfile.BLOCKSIZE)[504:505] not in (b"", b"\0")
        own.offset_data = archive.fileobj.tell()
        archive.offset = own.offset_data + _blocks(self.size)
        self.size = size
        return self

    def _proc_gnusparse_00(self, *_: Any) -> None:
        """Leaves out a map."""

    _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00


def _blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def list_tar(source: io.RawIOBase) -> Listing:
    """Returns the files of a tar; runs in a thread. Raises `NotReadable`."""
    entries: list[Entry] = []
    characters = 0
    buffered = io.BufferedReader(source, READ)
    try:
        plain = _Bounded(_unpacked(buffered))
        opened: Any = tarfile.open
        with opened(fileobj=plain, mode="r|", bufsize=READ, tarinfo=_Member, errorlevel=0) as archive:
            for member in archive:
                # It remembers every entry, which nobody asks for.
                archive.members.clear()
                if len(entries) == MOST_ENTRIES:
                    return Listing(entries, f"only the first {MOST_ENTRIES:,} files are listed")
                entry = _entry(member)
                characters += len(entry.path) + len(entry.target)
                if characters > MOST_CHARACTERS:
                    return Listing(entries, "its names are too long to be listed whole")
                entries.append(entry)
    except _TooMuchError:
        return Listing(entries, f"only the first {MOST_UNPACKED >> 30} GiB were looked through")
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, RecursionError) as error:
        if entries:
            return Listing(entries, f"the layer is damaged: {error}")
        raise NotReadable("it is no tar, plain or compressed by gzip or zstd, or it is damaged") from error
    return Listing(entries)


def _unpacked(source: "io.BufferedReader[Any]") -> Any:
    begin = source.peek(4)[:4]
    if begin.startswith(GZIP):
        return gzip.GzipFile(fileobj=source)
    if begin == ZSTD or begin[1:] == b"\x2a\x4d\x18":
        import zstandard  # noqa: PLC0415 - only where it is needed

        reader = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).stream_reader(
            source, read_across_frames=True
        )
        return _Zstandard(reader)
    return source


class _Zstandard:
    """A stream of zstd whose errors are those that other streams have."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        import zstandard  # noqa: PLC0415 - only where it is needed

        try:
            chunk: bytes = self._reader.read(size)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        return chunk


def _entry(member: tarfile.TarInfo) -> Entry:
    name = member.name[:LONGEST_NAME].encode("utf-8", "replace").decode().removeprefix("./").lstrip("/") or "."
    target = member.linkname[:LONGEST_NAME].encode("utf-8", "replace").decode()
    owner = f"{member.uid}:{member.gid}"
    kind = KINDS.get(member.type, "file" if member.isreg() else "device")
    return Entry(name, kind, max(member.size, 0) if member.isreg() else 0, f"{member.mode & 0o7777:04o}", owner, target)
