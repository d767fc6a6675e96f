"""zstd:chunked: zstd with a frame of its own for each file, and at its end two tables that say where they are.

The format is that of containers/storage, ``pkg/chunked/internal/minimal/compression.go``: the first table has what a
client needs to make the files, the second, by github.com/vbatts/tar-split, what it needs to make the same tar again.
Both lie in frames that other readers of zstd skip.
"""

import base64
import hashlib
import json
import os
import struct
from typing import Any

from drift_optimize.forms.output import Output
from drift_optimize.forms.plain import Packer, zstd_packer
from drift_optimize.forms.refusal import Refused
from drift_optimize.forms.tape import Entry, Names, Tape, ambiguous, timestamp

PREFIX = "io.github.containers.zstd-chunked."
MANIFEST_CHECKSUM = f"{PREFIX}manifest-checksum"
MANIFEST_POSITION = f"{PREFIX}manifest-position"
TARSPLIT_POSITION = f"{PREFIX}tarsplit-position"

_SKIPPABLE = b"\x50\x2a\x4d\x18"
_MAGIC = b"GNUlInUx"
_KIND_CRFS = 1
_AT_ONCE = 1 << 20
"""Bytes up to which a part is packed in one go."""

_LARGEST_TABLE = 150 << 20
"""Bytes of a table, unpacked: clients read no larger one."""

_FILE, _SEGMENT = 1, 2


class _Table:
    """A table that is packed into a file while it grows."""

    def __init__(self, descriptor: int, level: int) -> None:
        self._descriptor = descriptor
        self._output = Output(descriptor)
        self._packer: Packer = zstd_packer(level, 0)
        self.unpacked = 0

    def write(self, data: bytes) -> None:
        self.unpacked += len(data)
        if self.unpacked > _LARGEST_TABLE:
            raise Refused("large", "the table of contents would be larger than clients read")
        self._output.write(self._packer.compress(data))

    def close(self) -> tuple[str, int]:
        """Returns the digest and the size of what was written."""
        self._output.write(self._packer.flush())
        self._output.flush()
        return self._output.digest, self._output.size

    def copy(self, output: Output) -> None:
        """Appends the packed table as a frame that is skipped (RFC 8878 section 3.1.2)."""
        output.write(_SKIPPABLE + struct.pack("<I", self._output.size))
        place = 0
        while chunk := os.pread(self._descriptor, _AT_ONCE, place):
            output.write(chunk)
            place += len(chunk)


class Chunked:
    """Writes the form; a `Reader` of the tar that it is given."""

    def __init__(self, output: Output, level: int, table: int, split: int) -> None:
        import zstandard  # noqa: PLC0415

        self._output = output
        self._packer = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
        self._tape = Tape(self)
        self._names = Names()
        self._table, self._split = _Table(table, level), _Table(split, level)
        self._raw = bytearray()
        self._segment = bytearray()
        self._position = 0
        self._described: dict[str, Any] = {}
        self._file = _File()
        self._table.write(b'{"version":1,"entries":[')

    def add(self, block: bytes) -> None:
        """Takes the next block of the tar. Raises `Refused`."""
        self._tape.feed(block)

    @property
    def entries(self) -> int:
        """How many the tar has so far."""
        return self._tape.entries

    def raw(self, data: bytes) -> None:
        """See `Reader`."""
        self._raw += data
        self._segment += data
        if len(self._raw) >= _AT_ONCE:
            self._write_raw()
        if len(self._segment) >= _AT_ONCE:
            self._write_segment()

    def begin(self, entry: Entry) -> None:
        """See `Reader`."""
        self._described = described(entry)
        self._names.add(entry.name)
        self._write_segment()
        if entry.physical:
            self._write_raw()
            self._file = _File(self._packer, self._output, entry.physical)

    def content(self, data: bytes) -> None:
        """See `Reader`."""
        self._file.write(data)

    def end(self) -> None:
        """See `Reader`."""
        entry, checksum = self._described, None
        if size := entry.get("size", 0):
            entry |= self._file.close()
            checksum = self._file.crc.to_bytes(8, "big")
        before = b"," if self._tape.entries > 1 else b""
        self._table.write(before + json.dumps(entry, separators=(",", ":")).encode())
        self._write_split(_FILE, checksum, {"name": entry["name"]} | ({"size": size} if size else {}))

    def finish(self) -> dict[str, str]:
        """Writes the tables, and returns the annotations. Raises `Refused`."""
        self._tape.finish()
        self._write_raw()
        self._write_segment()
        split_digest, split_size = self._split.close()
        self._table.write(b'],"tarSplitDigest":' + json.dumps(split_digest).encode() + b"}")
        digest, size = self._table.close()
        start = self._output.size + 8
        self._table.copy(self._output)
        split_start = self._output.size + 8
        self._split.copy(self._output)
        places = (start, size, self._table.unpacked, _KIND_CRFS, split_start, split_size, self._split.unpacked)
        footer = struct.pack("<7Q", *places) + _MAGIC
        self._output.write(_SKIPPABLE + struct.pack("<I", len(footer)) + footer)
        return {
            MANIFEST_CHECKSUM: digest,
            MANIFEST_POSITION: f"{start}:{size}:{self._table.unpacked}:{_KIND_CRFS}",
            TARSPLIT_POSITION: f"{split_start}:{split_size}:{self._split.unpacked}",
        }

    def _write_raw(self) -> None:
        if self._raw:
            self._output.write(self._packer.compress(bytes(self._raw)))
            self._raw.clear()

    def _write_segment(self) -> None:
        if self._segment:
            self._write_split(_SEGMENT, bytes(self._segment), {})
            self._segment.clear()

    def _write_split(self, kind: int, payload: bytes | None, name: dict[str, Any]) -> None:
        coded = None if payload is None else base64.b64encode(payload).decode()
        line = {"type": kind, **name, "payload": coded, "position": self._position}
        self._split.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._position += 1


class _File:
    """The content of one file, in a frame of its own."""

    def __init__(self, packer: Any = None, output: Output | None = None, size: int = 0) -> None:
        from fastcrc import crc64  # noqa: PLC0415

        self._packer, self._output, self._left = packer, output, size
        self._start = 0 if output is None else output.size
        self._stream: Packer | None = packer.compressobj(size=size) if size > _AT_ONCE else None
        self._waiting = bytearray()
        self._hash = hashlib.sha256()
        self._crc64 = crc64.go_iso
        self.crc = 0

    def write(self, data: bytes) -> None:
        assert self._output is not None  # noqa: S101
        self._hash.update(data)
        self.crc = self._crc64(data, self.crc)
        if self._stream is None:
            self._waiting += data
        else:
            self._output.write(self._stream.compress(data))

    def close(self) -> dict[str, Any]:
        """Returns where the content is, and its digest."""
        assert self._output is not None  # noqa: S101
        rest = self._packer.compress(bytes(self._waiting)) if self._stream is None else self._stream.flush()
        self._output.write(rest)
        digest = f"sha256:{self._hash.hexdigest()}"
        return {"digest": digest, "offset": self._start, "endOffset": self._output.size}


def described(entry: Entry) -> dict[str, Any]:
    """Returns the entry as the first table has it, without its place. Raises `Refused`."""
    entry.check()
    if entry.kind == "hardlink" and not entry.link:
        raise ambiguous("a hard link has no target")
    major, minor = entry.device
    numbers = {"mode": entry.mode, "size": entry.size, "uid": entry.uid, "gid": entry.gid}
    times = {"modtime": entry.modified(), "accesstime": entry.accessed(), "changetime": entry.changed()}
    values: dict[str, Any] = {
        "linkName": entry.link,
        **numbers,
        **{key: timestamp(*value) for key, value in times.items() if value is not None},
        "devMajor": major,
        "devMinor": minor,
        "xattrs": {key: base64.b64encode(value).decode() for key, value in entry.xattrs.items()},
    }
    return {"type": entry.kind, "name": entry.name, **{key: value for key, value in values.items() if value}}
