"""Writes entries as a pax archive in one form, so that the same tree is the same bytes."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from drift_optimize.squash.reading import BLOCK, DEVICES, DIRECTORY, REGULAR, Header, Reader, Segments
from drift_optimize.squash.refusals import Unsquashable, shown

CHUNK = 1 << 20
_NAME, _PREFIX, _WORD, _LONG = 100, 155, 8**7, 8**11
_MAX_DEVICE = 8**7 - 1


class Writer:
    """One archive that is written in order; ``size`` is in bytes, of what was written so far."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._state = hashlib.sha256()
        self.size = 0
        self.entries = 0

    @property
    def digest(self) -> str:
        """``sha256:`` and hex, of all that was written."""
        return f"sha256:{self._state.hexdigest()}"

    def add(self, header: Header, content: Reader | None = None) -> None:
        """Writes an entry; ``content`` is where its bytes are, for a regular file that has any."""
        sparse = b"" if header.segments is None else _map(header.segments, header.size)
        for block in _headers(header, len(sparse)):
            self._write(block)
        self._write(sparse)
        if content is not None:
            for piece in content.content(header.data, header.stored, CHUNK):
                self._write(piece)
            self._write(bytes(-header.stored % BLOCK))
        self.entries += 1

    def end(self) -> None:
        """Writes the end of the archive."""
        self._write(bytes(2 * BLOCK))

    def _write(self, piece: bytes) -> None:
        self._out.write(piece)
        self._state.update(piece)
        self.size += len(piece)


def _map(segments: Segments, size: int) -> bytes:
    """The map of a sparse file as it stands before the content; GNU's tar finds the end of the file in it."""
    pairs = [*segments, (size, 0)]
    text = b"%d\n" % len(pairs) + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    return text + bytes(-len(text) % BLOCK)


def _headers(header: Header, sparse: int) -> Iterator[bytes]:
    """Yields the extended header where one is needed, and the header; ``sparse`` is the size of the map in bytes."""
    records = dict(header.records)
    name, prefix = header.name, b""
    stored = header.stored + sparse if header.kind == REGULAR else 0
    if header.segments is not None:
        records[b"GNU.sparse.major"], records[b"GNU.sparse.minor"] = b"1", b"0"
        records[b"GNU.sparse.name"], records[b"GNU.sparse.realsize"] = name, b"%d" % header.size
        # What a reader sees that knows nothing of sparse files: not the name of what would be wrong content.
        folder, slash, base = name.rpartition(b"/")
        name = (folder + slash + b"GNUSparseFile.0/" + base)[:_NAME].rstrip(b"/")
    elif (split := _split(name)) is not None:
        prefix, name = split
    else:
        records[b"path"], name = name, name[:_NAME]
    texts = (
        (b"linkpath", header.target, _NAME),
        (b"uname", header.uname, 31),
        (b"gname", header.gname, 31),
    )
    records.update((key, value) for key, value, limit in texts if len(value) > limit)
    for key, number, limit in ((b"uid", header.uid, _WORD), (b"gid", header.gid, _WORD), (b"size", stored, _LONG)):
        if number >= limit:
            records[key] = b"%d" % number
    seconds = int(header.mtime) if header.mtime.isdigit() and len(header.mtime) <= len(str(_LONG)) else _LONG
    if seconds >= _LONG:
        records[b"mtime"], seconds = header.mtime, 0
    if records:
        yield from _extended(records)
    if header.kind in DEVICES and max(header.major, header.minor) > _MAX_DEVICE:
        raise Unsquashable(f"the device {shown(header.name)} has numbers that no tar holds")
    numbers = (header.uid if header.uid < _WORD else 0, header.gid if header.gid < _WORD else 0)
    yield _block(header, name, prefix, numbers, stored if stored < _LONG else 0, seconds)


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Returns a name as the prefix and name of a header, or None where it does not fit."""
    if len(name) <= _NAME:
        return b"", name
    place = name.rfind(b"/", 0, min(_PREFIX + 1, len(name) - 1))
    if place <= 0 or len(name) - place - 1 > _NAME:
        return None
    return name[:place], name[place + 1 :]


def _extended(records: dict[bytes, bytes]) -> Iterator[bytes]:
    texts = (records.get(key, b"") for key in (b"path", b"GNU.sparse.name", b"linkpath", b"uname", b"gname"))
    if any(not _is_utf8(text) for text in texts):
        records = {**records, b"hdrcharset": b"BINARY"}
    # The character set stands before what it is that of.
    keys = sorted(records, key=lambda key: (key != b"hdrcharset", key))
    payload = b"".join(_record(key, records[key]) for key in keys)
    extended = Header(b"PaxHeaders.0/entry", b"x")
    yield _block(extended, extended.name, b"", (0, 0), len(payload), 0)
    yield payload + bytes(-len(payload) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    # One digit more can be what makes it one digit longer.
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _block(header: Header, name: bytes, prefix: bytes, owner: tuple[int, int], stored: int, seconds: int) -> bytes:
    fields = [name.ljust(_NAME, b"\0")]
    fields += [b"%07o\0" % number for number in (header.mode, *owner)]
    fields += [b"%011o\0" % number for number in (stored, seconds)]
    fields += [b" " * 8, header.kind, header.target[:_NAME].ljust(_NAME, b"\0"), b"ustar\x0000"]
    fields += [text[:31].ljust(32, b"\0") for text in (header.uname, header.gname)]
    fields += [b"%07o\0" % number for number in (header.major, header.minor)]
    block = b"".join([*fields, prefix.ljust(_PREFIX + 12, b"\0")])
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def directory(name: bytes) -> Header:
    """Returns the entry of a directory of which no layer says anything but that it is there."""
    header = Header(name, DIRECTORY)
    header.mode = 0o755
    return header


def mark(name: bytes) -> Header:
    """Returns the entry of a whiteout or opaque mark: an empty file whose name is all that matters."""
    return Header(name, REGULAR)
