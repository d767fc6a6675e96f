"""eStargz with its table of contents outside: gzip with a member for each file, so that a client can read one at once.

The format is that of stargz-snapshotter, ``estargz/externaltoc`` and ``docs/smaller-estargz.md``. With the table
outside the layer its tar stays the same; clients find the table in the image whose tag ends in ``-esgztoc``, in a layer
annotated with the digest of this one.
"""

import base64
import hashlib
import json
import os
from typing import Any

from drift_optimize.forms.output import Output
from drift_optimize.forms.plain import Packer, gzip_packer
from drift_optimize.forms.refusal import Refused
from drift_optimize.forms.tape import BLOCK, Entry, Names, Tape, ambiguous, cleaned, timestamp

TOC_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
UNPACKED_SIZE = "io.containers.estargz.uncompressed-size"
LAYER_DIGEST = "containerd.io/snapshot/stargz/layer.digest"
TOC_NAME = "stargz.index.json"
CHUNK = 4 << 20
"""Bytes of a file after which a new member begins."""

_PIECE = 256 * 1024
_LARGEST_TABLE = 512 << 20
_FOOTER = (
    # An empty member (RFC 1952 section 2.3) with an extra field that says where the table is: elsewhere.
    b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x15\x00SG\x11\x00STARGZEXTERNALTOC\x01\x00\x00\xff\xff" + bytes(8)
)


class EStargz:
    """Writes the form; a `Reader` of the tar that it is given. ``table`` is the file for the table, ``spare`` any."""

    def __init__(self, output: Output, level: int, table: int, spare: int) -> None:
        self._output, self._level = output, level
        self._tape = Tape(self)
        self._names = Names()
        self._member: Packer | None = None
        self._entry: dict[str, Any] = {}
        self._file = self._chunk = hashlib.sha256()
        self._parts: list[dict[str, Any]] = []
        self._left = self._in_chunk = self._tar = 0
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._json, self._spare = Output(spare), spare
        self.table = Output(table)
        self._json.write(b'{"version":1,"entries":[')

    def add(self, block: bytes) -> None:
        """Takes the next block of the tar. Raises `Refused`."""
        self._tar += len(block)
        self._tape.feed(block)

    @property
    def entries(self) -> int:
        """How many the tar has so far."""
        return self._tape.entries

    def raw(self, data: bytes) -> None:
        """See `Reader`."""
        self._write(data)

    def begin(self, entry: Entry) -> None:
        """See `Reader`."""
        self._entry = self._described(entry)
        self._parts = [self._entry]
        self._file, self._left = hashlib.sha256(), entry.physical
        if self._left:
            self._begin_chunk(0)

    def content(self, data: bytes) -> None:
        """See `Reader`."""
        self._file.update(data)
        while data:
            if not self._in_chunk:
                self._parts.append({"name": self._entry["name"], "type": "chunk"})
                self._begin_chunk(self._entry["size"] - self._left)
            part, data = data[: self._in_chunk], data[self._in_chunk :]
            self._chunk.update(part)
            self._write(part)
            self._in_chunk -= len(part)
            self._left -= len(part)
            if not self._in_chunk:
                self._parts[-1]["chunkDigest"] = f"sha256:{self._chunk.hexdigest()}"

    def end(self) -> None:
        """See `Reader`."""
        if self._entry["type"] == "reg":
            self._entry["digest"] = f"sha256:{self._file.hexdigest()}"
        before = b"," if self._tape.entries > 1 else b""
        rows = b",".join(json.dumps(part, separators=(",", ":")).encode() for part in self._parts)
        self._json.write(before + rows)
        if self._json.size > _LARGEST_TABLE:
            raise Refused("large", "the table of contents is too large")

    def finish(self) -> dict[str, str]:
        """Writes the end and the table, and returns the annotations. Raises `Refused`."""
        self._tape.finish()
        self._end_member()
        self._output.write(_FOOTER)
        self._json.write(b"]}")
        self._json.flush()
        self._write_table()
        return {TOC_DIGEST: self._json.digest, UNPACKED_SIZE: str(self._tar)}

    def _write_table(self) -> None:
        """A tar of one file in one member: the JSON must be read again, since its size comes first."""
        packer = gzip_packer(self._level)
        size, place = self._json.size, 0
        self.table.write(packer.compress(_header(TOC_NAME, size)))
        while chunk := os.pread(self._spare, _PIECE, place):
            self.table.write(packer.compress(chunk))
            place += len(chunk)
        self.table.write(packer.compress(bytes(-size % BLOCK + 2 * BLOCK)))
        self.table.write(packer.flush())
        self.table.flush()

    def _begin_chunk(self, place: int) -> None:
        self._end_member()
        part = self._parts[-1]
        self._in_chunk = min(CHUNK, self._left)
        part["offset"] = self._output.size
        if place:
            part["chunkOffset"] = place
        if self._in_chunk == CHUNK:
            part["chunkSize"] = CHUNK
        self._chunk = hashlib.sha256()

    def _write(self, data: bytes) -> None:
        if self._member is None:
            self._member = gzip_packer(self._level)
        self._output.write(self._member.compress(data))

    def _end_member(self) -> None:
        if self._member is not None:
            self._output.write(self._member.flush())
            self._member = None

    def _described(self, entry: Entry) -> dict[str, Any]:
        entry.check()
        if cleaned(entry.name) == TOC_NAME:
            raise ambiguous("the tar has one already")
        if entry.kind == "hardlink" and entry.link not in self._names:
            raise ambiguous("a hard link's target does not come before it")
        self._names.add(entry.name)
        seconds, nanoseconds = entry.modified()
        seconds += nanoseconds >= 500_000_000  # noqa: PLR2004
        uid, gid, kind = entry.uid, entry.gid, entry.kind
        major, minor = entry.device if kind in {"char", "block"} else (0, 0)
        values: dict[str, Any] = {
            "size": entry.size,
            "modtime": timestamp(seconds) if seconds else "",
            "linkName": entry.link if kind in {"hardlink", "symlink"} else "",
            "mode": entry.mode,
            "uid": uid,
            "gid": gid,
            "userName": _news(self._users, uid, entry.user),
            "groupName": _news(self._groups, gid, entry.group),
            "devMajor": major,
            "devMinor": minor,
            "xattrs": {key: base64.b64encode(value).decode() for key, value in entry.xattrs.items()},
        }
        return {"name": entry.name, "type": kind, **{key: value for key, value in values.items() if value}}


def _news(known: dict[int, str], owner: int, name: str) -> str:
    """Returns the name where it is not that of the entry before with the same owner, else nothing."""
    if known.get(owner) == name:
        return ""
    known[owner] = name
    return name


def _header(name: str, size: int) -> bytes:
    """Returns the ustar header of a file without an owner, a mode or a time."""
    fields = (name.encode().ljust(100, b"\0"), b"0000000\0" * 3, b"%011o\0" % size, b"%011o\0" % 0)
    start = b"".join(fields)
    rest = (b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2).ljust(BLOCK - len(start) - 8, b"\0")
    return start + b"%06o\0 " % (sum(start) + sum(rest) + 8 * 32) + rest
