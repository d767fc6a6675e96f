"""Reads the headers of a tar as the unpackers of images do, and damages of it as errors with a reason.

`tarfile` ends silently at a header that it cannot read, which would lose files. Where readers of tar differ, this one
does as Go's ``archive/tar``, which containerd, podman, Docker and umoci use. Formats: POSIX.1-2017 pax ("pax
Interchange Format"), and "Basic Tar Format" and "Storing Sparse Files" of the manual of GNU tar.
"""

import re
from collections.abc import Iterator
from struct import Struct
from typing import BinaryIO

from drift_optimize.squash.refusals import DamagedLayer, shown

BLOCK = 512
MAX_EXTENSION = 1 << 20
"""Bytes of one extended header or map of a sparse file; Go's limit is the same."""

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
DEVICES = (CHARACTER, BLOCK_DEVICE)
_KINDS = {
    **{kind: kind for kind in (REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)},
    b"\0": REGULAR,
    b"7": REGULAR,
    b"S": REGULAR,
}
_FIELDS = Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_GNU_SPARSE_MAP, _GNU_SPARSE_ENTRIES = 386, 4
_EXTENSION_ENTRIES = 21
_DIGITS = 18
"""Of a number that is below 2**63."""
_DECIMAL = re.compile(rb"-?[0-9]+(\.[0-9]*)?")
_OWN_RECORDS = {b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime", b"hdrcharset", b"charset"}

Segments = tuple[tuple[int, int], ...]
Records = dict[bytes, bytes]


class Header:
    """One entry: what its header and the extended headers before it say.

    ``name`` and ``target`` are bytes as they stand there; ``mtime`` is a decimal number of seconds, as text without
    needless digits; ``records`` are those of pax that have no attribute here, such as extended attributes. ``start``
    is where the first header of the entry begins, ``data`` where its content does, both in bytes from the start of the
    tar; ``stored`` is how many bytes of it are there. ``size`` is that of the file; ``segments`` of a sparse file are
    (start, length) of what is not a hole, in ascending order, and None for any other.
    """

    __slots__ = (
        "data",
        "gid",
        "gname",
        "kind",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "records",
        "segments",
        "size",
        "start",
        "stored",
        "target",
        "uid",
        "uname",
    )

    def __init__(self, name: bytes, kind: bytes) -> None:
        self.name = name
        self.kind = kind
        self.mode = self.uid = self.gid = self.size = self.stored = self.major = self.minor = 0
        self.mtime = b"0"
        self.target = self.uname = self.gname = b""
        self.records: Records = {}
        self.segments: Segments | None = None
        self.start = self.data = 0


class Reader:
    """The headers of one layer, in order by `headers` or one at a place by `header_at`; not for two threads at once.

    Every method raises `DamagedLayer`. ``layer`` is the number that errors name.
    """

    def __init__(self, stream: BinaryIO, layer: int) -> None:
        self._stream = stream
        self._layer = layer
        self.size = stream.seek(0, 2)

    def headers(self) -> Iterator[Header]:
        """Yields each entry up to the end of the archive; what stands behind that is padding, whatever it is."""
        place = 0
        while (header := self._entry(place)) is not None:
            yield header
            place = header.data + -(-header.stored // BLOCK) * BLOCK

    def header_at(self, start: int) -> Header:
        """Returns the entry that begins at ``start``, in bytes."""
        header = self._entry(start)
        if header is None:
            raise self._damaged("it changed while it was read")
        return header

    def content(self, start: int, length: int, chunk: int) -> Iterator[bytes]:
        """Yields ``length`` bytes from ``start`` in pieces of at most ``chunk`` bytes."""
        self._stream.seek(start)
        while length:
            piece = self._stream.read(min(chunk, length))
            if not piece:
                raise self._damaged("it became shorter while it was read")
            length -= len(piece)
            yield piece

    def _damaged(self, reason: str) -> DamagedLayer:
        return DamagedLayer(reason, self._layer)

    def _read(self, start: int, length: int) -> bytes:
        self._stream.seek(start)
        read = self._stream.read(length)
        if len(read) != length:
            raise self._damaged("the tar is cut short")
        return read

    def _entry(self, start: int) -> Header | None:
        records: Records = {}
        long_name = long_target = b""
        place = start
        while (block := self._block(place)) is not None:
            kind = block[156:157]
            if kind not in (b"x", b"g", b"L", b"K"):
                header = self._parsed(block, records, long_name, long_target)
                header.start, header.data = start, place + BLOCK
                self._measure(header, block, records)
                return header
            size = self._number(block[124:136], "size")
            if not 0 <= size <= MAX_EXTENSION:
                raise self._damaged(f"an extended header of {size} bytes")
            payload = self._read(place + BLOCK, size)
            place += BLOCK + -(-size // BLOCK) * BLOCK
            if kind == b"x":
                records = self._records(payload)
            elif kind == b"g":
                self._check_global(self._records(payload))
            elif kind == b"L":
                long_name = payload.partition(b"\0")[0]
            else:
                long_target = payload.partition(b"\0")[0]
        if place != start and (records or long_name or long_target):
            raise self._damaged("it ends behind an extended header")
        return None

    def _block(self, place: int) -> bytes | None:
        """The header at a place, checked by its sum, or None at the end of the archive."""
        if place >= self.size:
            return None
        block = self._read(place, BLOCK)
        if not any(block):
            # One block of zeros and nothing more is an end that some writers make.
            if place + BLOCK < self.size and any(self._read(place + BLOCK, BLOCK)):
                raise self._damaged("there is a block of zeros between its entries")
            return None
        said = self._number(block[148:156], "checksum")
        summed = block[:148] + b" " * 8 + block[156:]
        # Old writers took characters for signed numbers.
        if said not in (sum(summed), sum(memoryview(summed).cast("b"))):
            raise self._damaged(f"the header at byte {place} has a wrong checksum")
        return block

    def _check_global(self, records: Records) -> None:
        # Unpackers of images ignore global headers and tar does not.
        if unknown := records.keys() - {b"comment"}:
            raise self._damaged(f"a global extended header with {shown(min(unknown))}")

    def _number(self, field: bytes, name: str) -> int:
        """A field of digits, or of GNU's base 256."""
        if field[0] & 0x80:
            value = int.from_bytes(field) & ((1 << (8 * len(field) - 1)) - 1)
            return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
        digits = field.partition(b"\0")[0].strip(b" ") or b"0"
        if digits.strip(b"01234567"):
            raise self._damaged(f"the {name} of a header is no number")
        return int(digits, 8)

    def _records(self, payload: bytes) -> Records:
        """The records of an extended header, each ``LENGTH KEY=VALUE`` and a newline."""
        records: Records = {}
        place = 0
        while place < len(payload) and payload[place]:
            digits, space, _ = payload[place : place + 8].partition(b" ")
            stop = place + int(digits) if digits.isdigit() else 0
            key, equals, value = payload[place + len(digits) + 1 : stop - 1].partition(b"=")
            if not (space and equals and key) or stop > len(payload) or payload[stop - 1 : stop] != b"\n":
                raise self._damaged("an extended header is malformed")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                # Format 0.0 repeats them, in pairs; 0.1 has the same numbers in one record.
                records[b"GNU.sparse.map"] = records.get(b"GNU.sparse.map", b"") + value + b","
            elif b"\0" in value and key in _OWN_RECORDS:
                raise self._damaged("an extended header has a name with a zero byte")
            else:
                records[key] = value
            place = stop
        return records

    def _parsed(self, block: bytes, records: Records, long_name: bytes, long_target: bytes) -> Header:
        fields = _FIELDS.unpack(block)
        name, mode, uid, gid, _, mtime, _, flag, target, magic, uname, gname, major, minor, prefix, tail = fields
        kind = _KINDS.get(flag)
        if kind is None:
            raise self._damaged(f"an entry of the unknown type {flag!r}")
        name = name.partition(b"\0")[0]
        if magic[:6] == b"ustar\0":
            prefix = prefix[: 131 if tail[8:] == b"tar\0" else 155].partition(b"\0")[0]
            name = prefix + b"/" + name if prefix else name
        header = Header(long_name or records.get(b"path") or name, kind)
        if flag == b"\0" and header.name.endswith(b"/"):
            header.kind = DIRECTORY
        header.target = long_target or records.get(b"linkpath") or target.partition(b"\0")[0]
        header.mode = self._number(mode, "mode") & 0o7777
        header.uid = self._decimal(records, b"uid") if records.get(b"uid") else self._number(uid, "owner")
        header.gid = self._decimal(records, b"gid") if records.get(b"gid") else self._number(gid, "group")
        header.mtime = self._time(records[b"mtime"]) if records.get(b"mtime") else b"%d" % self._number(mtime, "time")
        if magic[:5] == b"ustar":
            header.uname = records.get(b"uname") or uname.partition(b"\0")[0]
            header.gname = records.get(b"gname") or gname.partition(b"\0")[0]
            if header.kind in DEVICES:
                header.major, header.minor = self._number(major, "device"), self._number(minor, "device")
        header.records = {
            key: value for key, value in records.items() if key not in _OWN_RECORDS and key[:11] != b"GNU.sparse."
        }
        if min(header.uid, header.gid, header.major, header.minor) < 0:
            raise self._damaged(f"{shown(header.name)} has a negative owner or device")
        return header

    def _decimal(self, records: Records, key: bytes) -> int:
        value = records.get(key, b"")
        if not value.isdigit() or len(value) > _DIGITS:
            raise self._damaged(f"the {key.decode()} of an extended header is no number")
        return int(value)

    def _time(self, value: bytes) -> bytes:
        if len(value) > 2 * _DIGITS or _DECIMAL.fullmatch(value) is None:
            raise self._damaged("the mtime of an extended header is no number")
        whole, _, fraction = value.partition(b".")
        sign, digits, fraction = whole[:1] == b"-", whole.lstrip(b"-0") or b"0", fraction.rstrip(b"0")
        text = digits + b"." + fraction if fraction else digits
        return b"-" + text if sign and text != b"0" else text

    def _measure(self, header: Header, block: bytes, records: Records) -> None:
        """Says where the content is, and of which size; other kinds have none, whatever their size says."""
        if header.kind != REGULAR:
            return
        size = self._decimal(records, b"size") if records.get(b"size") else self._number(block[124:136], "size")
        header.size = header.stored = size
        if size < 0:
            raise self._damaged(f"{shown(header.name)} has a negative size")
        if block[156:157] == b"S":
            self._read_old_map(header, block)
        elif records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
            self._name_sparse(header, records, b"GNU.sparse.realsize")
            self._read_map_before_content(header)
        elif b"GNU.sparse.map" in records or b"GNU.sparse.major" in records:
            self._name_sparse(header, records, b"GNU.sparse.size")
            self._set_map(header, records.get(b"GNU.sparse.map", b"").strip(b",").split(b","))
        if header.data + header.stored > self.size:
            raise self._damaged(f"the tar is cut short in {shown(header.name)}")

    def _name_sparse(self, header: Header, records: Records, size: bytes) -> None:
        header.name = records.get(b"GNU.sparse.name") or header.name
        header.size = self._decimal(records, size if size in records else b"GNU.sparse.realsize")

    def _set_map(self, header: Header, numbers: list[bytes]) -> None:
        numbers = [number for number in numbers if number]
        if len(numbers) % 2 or not all(number.isdigit() and len(number) <= _DIGITS for number in numbers):
            raise self._damaged(f"the map of the sparse file {shown(header.name)} is malformed")
        values = [int(number) for number in numbers]
        self._set_segments(header, list(zip(values[::2], values[1::2], strict=True)))

    def _set_segments(self, header: Header, segments: list[tuple[int, int]]) -> None:
        end = 0
        for start, length in segments:
            if start < end or length < 0:
                raise self._damaged(f"the map of the sparse file {shown(header.name)} is not in order")
            end = start + length
        if not end <= header.size < 10**_DIGITS or sum(length for _, length in segments) != header.stored:
            raise self._damaged(f"the map of the sparse file {shown(header.name)} is not that of its content")
        header.segments = tuple(segment for segment in segments if segment[1])
        if any(length % BLOCK for _, length in header.segments[:-1]):
            # GNU's tar looks for each piece at the start of a block, others right behind the one before.
            raise self._damaged(f"the map of the sparse file {shown(header.name)} has pieces that are no whole blocks")

    def _read_map_before_content(self, header: Header) -> None:
        """Format 1.0: a count and pairs, a decimal number on each line, padded to whole blocks."""
        text, wanted = b"", 1
        while text.count(b"\n") < wanted:
            if len(text) >= min(header.stored, MAX_EXTENSION):
                raise self._damaged(f"the map of the sparse file {shown(header.name)} is malformed")
            text += self._read(header.data + len(text), BLOCK)
            first, newline, _ = text.partition(b"\n")
            if newline:
                wanted = 1 + 2 * int(first) if first.isdigit() and len(first) < _DIGITS // 2 else MAX_EXTENSION
        header.data += len(text)
        header.stored -= len(text)
        if header.stored < 0:
            raise self._damaged(f"the map of the sparse file {shown(header.name)} is malformed")
        self._set_map(header, text.split(b"\n")[1:wanted])

    def _read_old_map(self, header: Header, block: bytes) -> None:
        """GNU's old format: pairs of numbers in the header, and in blocks behind it while a flag says so."""
        header.size = self._number(block[483:495], "size")
        pairs = self._pairs(block, _GNU_SPARSE_MAP, _GNU_SPARSE_ENTRIES)
        more = block[482]
        while more:
            if len(pairs) * 24 > MAX_EXTENSION:
                raise self._damaged(f"the map of the sparse file {shown(header.name)} is too long")
            block = self._read(header.data, BLOCK)
            header.data += BLOCK
            pairs += self._pairs(block, 0, _EXTENSION_ENTRIES)
            more = block[504]
        self._set_segments(header, pairs)

    def _pairs(self, block: bytes, start: int, count: int) -> list[tuple[int, int]]:
        pairs: list[tuple[int, int]] = []
        for place in range(start, start + count * 24, 24):
            if not block[place]:
                break
            start_field, length_field = block[place : place + 12], block[place + 12 : place + 24]
            pairs.append((self._number(start_field, "map"), self._number(length_field, "map")))
        return pairs
