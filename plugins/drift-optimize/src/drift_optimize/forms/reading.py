"""Unpacks a layer: bounded pieces of its tar, each part checked, never more than the limits allow.

gzip is RFC 1952, zstd is RFC 8878.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

from drift_optimize.forms.media import Packing
from drift_optimize.forms.refusal import Refused

PIECE = 128 * 1024
"""Most bytes that are read or unpacked at a time."""

PIPE = 1 << 20
"""Bytes that wait to be read, where the system allows it."""

SLACK = 4 << 20
"""Bytes that any layer may unpack to, whatever its size."""

WINDOW = 1 << 27
"""Largest zstd window in bytes: that of ``zstd --ultra -22`` and of ``zstd --long``."""

_GZIP_WBITS = 31
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""What follows a first byte of 0x50 to 0x5f."""

_BLOCK = 128 * 1024


class Chunks(Protocol):
    """Where the bytes of a layer come from."""

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` bytes, none at the end."""
        ...


class Pipe:
    """What arrives by a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if sys.platform == "linux":
            # Who waits for less, and less often, takes less time; a user who has many pipes is refused more.
            with suppress(OSError):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE)

    def read(self, size: int) -> bytes:
        """See `Chunks`."""
        return os.read(self._descriptor, size)


class Genuine:
    """Hands on a layer's bytes, and is sure at the end that they are those of its descriptor."""

    def __init__(self, chunks: Chunks, digest: str, size: int) -> None:
        self._chunks = chunks
        algorithm, _, self._expected = digest.partition(":")
        if algorithm not in {"sha256", "sha512"}:
            raise Refused("unsupported", f"no digest of {algorithm} can be checked")
        self._hash = hashlib.new(algorithm)
        self._size = size
        self.received = 0

    def read(self, size: int) -> bytes:
        """See `Chunks`. Raises `Refused`."""
        chunk = self._chunks.read(size)
        self._hash.update(chunk)
        self.received += len(chunk)
        if self.received > self._size:
            raise Refused("damaged", f"the layer has more than the {self._size} bytes of its descriptor")
        return chunk

    def check(self) -> None:
        """Raises `Refused` where what was read to the end is not what the descriptor says."""
        if self.received != self._size:
            raise Refused("damaged", f"the layer has {self.received} bytes; its descriptor says {self._size}")
        if self._hash.hexdigest() != self._expected:
            raise Refused("damaged", "the layer's digest is not that of its descriptor")


class Guard:
    """Bounds what a layer unpacks to: ``ratio`` times what was read of it so far, and ``most`` bytes."""

    def __init__(self, source: Genuine, ratio: int, most: int) -> None:
        self._source, self._ratio, self._most = source, ratio, most
        self._produced = 0

    def passed(self, piece: bytes) -> bytes:
        """Returns the piece. Raises `Refused` for a bomb."""
        self._produced += len(piece)
        if self._produced > self._most:
            raise Refused("bomb", f"the layer unpacks to more than {self._most} bytes")
        if self._produced > SLACK and self._produced > self._ratio * self._source.received:
            raise Refused("bomb", f"the layer unpacks to more than {self._ratio} times its size")
        return piece


def unpacked(source: Genuine, packing: Packing, guard: Guard) -> Iterator[bytes]:
    """Yields the tar in blocks of `PIECE` bytes, the last one shorter, whatever the layer's own pieces are.

    Compressors are fed with these, so that the same tar gives the same bytes. Raises `Refused`.
    """
    kinds = {"tar": _plain, "gzip": _gunzipped, "zstd": _unzstded}
    waiting: list[bytes] = []
    size = 0
    for piece in kinds[packing](source):
        waiting.append(guard.passed(piece))
        size += len(piece)
        if size >= PIECE:
            # A single piece of the right size is not copied by either.
            whole = b"".join(waiting)
            yield whole[:PIECE]
            waiting = [whole[PIECE:]]
            size -= PIECE
    source.check()
    if size:
        yield b"".join(waiting)


def _plain(source: Genuine) -> Iterator[bytes]:
    while chunk := source.read(PIECE):
        yield chunk


def _gunzipped(source: Genuine) -> Iterator[bytes]:
    from zlib_ng import zlib_ng  # noqa: PLC0415

    library: Any = zlib_ng  # its annotations are not whole
    member, fed = library.decompressobj(_GZIP_WBITS), False
    try:
        while chunk := source.read(PIECE):
            while chunk:
                if member.eof:
                    member = library.decompressobj(_GZIP_WBITS)
                yield member.decompress(chunk, PIECE)
                fed = True
                chunk = member.unconsumed_tail or member.unused_data
            while not member.eof and (piece := member.decompress(b"", PIECE)):
                yield piece
    except library.error as error:
        raise Refused("damaged", f"the layer is no whole gzip: {error}") from error
    if not fed or not member.eof:
        raise Refused("damaged", "the layer's gzip ends too early")


class _Exactly:
    """Reads as many bytes as are asked for."""

    def __init__(self, source: Genuine) -> None:
        self._source = source
        self._waiting: bytes = b""
        self._place = 0

    def at_end(self) -> bool:
        if self._place == len(self._waiting):
            self._waiting, self._place = self._source.read(PIECE), 0
        return not self._waiting

    def take(self, size: int) -> bytes:
        """Returns ``size`` bytes. Raises `Refused` where the layer ends before."""
        parts: list[bytes] = []
        while size:
            if self.at_end():
                raise Refused("damaged", "the layer's zstd ends too early")
            part = self._waiting[self._place : self._place + size]
            self._place += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _unzstded(source: Genuine) -> Iterator[bytes]:
    """Walks over frames and blocks, so that a piece is at most one block, and a cut or anything else is noticed."""
    import zstandard  # noqa: PLC0415

    layer = _Exactly(source)
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    if layer.at_end():
        raise Refused("damaged", "the layer is empty, and no zstd")
    try:
        while not layer.at_end():
            magic = layer.take(4)
            if magic[1:] == _SKIPPABLE and magic[0] >> 4 == 5:  # noqa: PLR2004
                _skip(layer, int.from_bytes(layer.take(4), "little"))
            elif magic == _ZSTD:
                yield from _frame(layer, magic, unpacker.decompressobj())
            else:
                raise Refused("damaged", "the layer is no zstd, or something else follows it")
    except zstandard.ZstdError as error:
        raise Refused("large" if "memory" in str(error) else "damaged", f"zstd: {error}") from error


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _skip(layer: _Exactly, size: int) -> None:
    while size:
        size -= len(layer.take(min(size, PIECE)))


def _frame(layer: _Exactly, magic: bytes, unpacker: _Unpacker) -> Iterator[bytes]:
    """RFC 8878 section 3.1.1: the header, blocks until one is the last, and a checksum if there is one."""
    header = layer.take(1)
    flags = header[0]
    single, checksum = flags & 0x20, flags & 0x04
    if flags & 0x03:
        raise Refused("unsupported", "the layer's zstd needs a dictionary")
    sizes = {0: 1 if single else 0, 1: 2, 2: 4, 3: 8}[flags >> 6]
    header += layer.take((0 if single else 1) + sizes)
    if (window := _window(header, single=bool(single))) > WINDOW:
        raise Refused("unsupported", f"the layer's zstd needs a window of {window} bytes")
    unpacker.decompress(magic + header)
    last = False
    while not last:
        start = layer.take(3)
        block = int.from_bytes(start, "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if size > _BLOCK:
            raise Refused("damaged", "a block of the layer's zstd is too large")
        yield unpacker.decompress(start + layer.take(1 if kind == 1 else size))
    if checksum:
        yield unpacker.decompress(layer.take(4))
    if not unpacker.eof:
        raise Refused("damaged", "a frame of the layer's zstd has no end")


def _window(header: bytes, *, single: bool) -> int:
    if single:
        # A size in two bytes is 256 more, which makes no difference here.
        return int.from_bytes(header[1:], "little")
    base = 1 << (10 + (header[1] >> 3))
    return base + base // 8 * (header[1] & 7)
