"""The form of a packed blob: frames that stand by themselves, and at the end an index that says where each one lies.

Two skippable frames (RFC 8878 section 3.1.2; the LZ4 frame format has the same) follow the frames of the algorithm:

- ours: what the whole is a form of, a salt, the CRC-32 of each frame, and a hash of the index;
- the seek table of zstd's public seekable format, version 0.1.0, so that others read ranges, too.

What unpacks zstd or LZ4 skips both. Nobody is ever sent the salt, so that nobody can know the digest of a packed blob.
"""

import os
import struct
import sys
import zlib
from array import array
from hashlib import blake2b
from itertools import accumulate
from typing import Self

from drift_core.api import Digest
from drift_storage_packed.codecs import CODECS, BadFrameError

SKIPPABLE = struct.Struct("<II")
"""Magic number, and how many bytes follow."""

ABOUT_MAGIC, TABLE_MAGIC, SEEKABLE_MAGIC = 0x184D2A5D, 0x184D2A5E, 0x8F92EAB1

ABOUT = struct.Struct("<4sBB16sIQ200s")
"""Our name, version, algorithm, salt, the size of a frame's content and of the whole, its digest."""

NAME, VERSION = b"DRPK", 1

ENTRY = struct.Struct("<II")
"""Of the seek table: how many bytes a frame has, packed and unpacked."""

FOOTER = struct.Struct("<IBI")
"""Of the seek table: how many frames, what else an entry has (nothing), and the magic number."""

HASH_SIZE = 32


class DamagedIndexError(Exception):
    """The end of a packed blob is not the index that it was written with."""


def frame_count(size: int, frame_size: int) -> int:
    """Returns how many frames a blob of ``size`` bytes has."""
    return -(-size // frame_size)


def index_size(size: int, frame_size: int) -> int:
    """Returns how many bytes the index of a blob of ``size`` bytes has, which lie at the end of its packed form."""
    frames = frame_count(size, frame_size)
    return _about_size(frames) + SKIPPABLE.size + ENTRY.size * (frames + 1) + FOOTER.size


def _about_size(frames: int) -> int:
    return SKIPPABLE.size + ABOUT.size + 4 * frames + HASH_SIZE


class Index:
    """Where each frame of a packed blob lies; about 12 bytes a frame. ``frame_size`` is that of its content."""

    __slots__ = ("_algorithm", "_checks", "_offsets", "_size", "frame_size")

    def __init__(self, algorithm: str, size: int, frame_size: int, lengths: "array[int]", checks: "array[int]") -> None:
        self.frame_size = frame_size
        self._algorithm = algorithm
        self._size = size
        self._offsets = array("Q", accumulate(lengths, initial=0))
        self._checks = checks

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self._checks)

    @property
    def data_size(self) -> int:
        """How many bytes all frames have, packed: the index follows."""
        return self._offsets[-1]

    @property
    def memory(self) -> int:
        """About how many bytes this takes."""
        return 200 + 12 * self.frames

    def offset(self, frame: int) -> int:
        """Returns where a frame begins in the packed blob."""
        return self._offsets[frame]

    def length(self, frame: int) -> int:
        """Returns how many bytes a frame has, packed."""
        return self._offsets[frame + 1] - self._offsets[frame]

    def unpack(self, frame: int, packed: bytes) -> bytes:
        """Returns what a frame holds; blocks. Raises `BadFrameError` for anything but the bytes that were packed."""
        if zlib.crc32(packed) != self._checks[frame]:
            raise BadFrameError
        size = min(self.frame_size, self._size - frame * self.frame_size)
        piece = CODECS[self._algorithm].unpack(packed, size)
        if len(piece) != size:
            raise BadFrameError
        return piece

    @classmethod
    def parse(cls, raw: bytes, digest: Digest, algorithm: str, size: int, frame_size: int) -> Self:
        """Reads an index of the blob ``digest``; all else is what is known of it.

        Raises:
            DamagedIndexError: it is not one, or that of something else.
        """
        frames = frame_count(size, frame_size)
        about = _about_size(frames)
        if len(raw) != index_size(size, frame_size) or _hash(raw, about) != raw[about - HASH_SIZE : about]:
            raise DamagedIndexError
        name, version, number, _, *rest = ABOUT.unpack_from(raw, SKIPPABLE.size)
        expected = [frame_size, size, digest.encode().ljust(200, b"\0")]
        if (name, version, number) != (NAME, VERSION, CODECS[algorithm].number) or rest != expected:
            raise DamagedIndexError
        checks = _numbers(raw[about - HASH_SIZE - 4 * frames : about - HASH_SIZE])
        entries = _numbers(raw[about + SKIPPABLE.size : -FOOTER.size])
        return cls(algorithm, size, frame_size, entries[: 2 * frames : 2], checks)


class IndexWriter:
    """Collects what the index says while frames are written, in order."""

    def __init__(self, digest: Digest, algorithm: str, frame_size: int) -> None:
        self._about = (digest.encode(), CODECS[algorithm].number, frame_size)
        self._entries = array("I")
        self._checks = array("I")
        self._size = 0

    def add(self, packed: bytes, size: int) -> None:
        """Takes a frame that was written, and the size of its content."""
        self._entries.extend((len(packed), size))
        self._checks.append(zlib.crc32(packed))
        self._size += size

    def finish(self) -> bytes:
        """Returns the index, which is never the same twice."""
        digest, number, frame_size = self._about
        about = ABOUT.pack(NAME, VERSION, number, os.urandom(16), frame_size, self._size, digest)
        checks = _written(self._checks)
        frames = len(self._checks)
        head = SKIPPABLE.pack(ABOUT_MAGIC, len(about) + len(checks) + HASH_SIZE) + about + checks
        # Of a skippable frame the format wants an entry, too, without content.
        entries = _written(self._entries) + ENTRY.pack(len(head) + HASH_SIZE, 0)
        table = (
            SKIPPABLE.pack(TABLE_MAGIC, len(entries) + FOOTER.size)
            + entries
            + FOOTER.pack(frames + 1, 0, SEEKABLE_MAGIC)
        )
        raw = head + bytes(HASH_SIZE) + table
        return head + _hash(raw, len(head) + HASH_SIZE) + table


def _hash(raw: bytes, about: int) -> bytes:
    """Returns the hash of an index, without the place where it is written."""
    state = blake2b(raw[: about - HASH_SIZE], digest_size=HASH_SIZE)
    state.update(raw[about:])
    return state.digest()


def _numbers(raw: bytes) -> "array[int]":
    numbers = array("I", raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _written(numbers: "array[int]") -> bytes:
    return _numbers(numbers.tobytes()).tobytes()


def spans(index: Index, start: int, stop: int) -> tuple[range, int, int]:
    """Returns the frames that hold ``[start, stop)`` of a blob, and where the bytes of them begin and end, packed."""
    frames = range(start // index.frame_size, frame_count(stop, index.frame_size))
    return frames, index.offset(frames.start), index.offset(frames.stop)
