"""Follows a tar while it passes: which bytes are headers, and which are the content of which file.

Formats: POSIX.1-2017 pax, "pax Interchange Format" and "ustar Interchange Format"; GNU tar's manual,
"Basic Tar Format".
A table of contents is read by clients in place of the tar. Whatever two readers of tar could understand in two ways is
refused here, so that the table and the tar never say different things.
"""

import time
import zlib
from typing import Protocol

from drift_optimize.forms.refusal import Refused

BLOCK = 512
_LONGEST = 1 << 20
"""Most bytes of an extended header."""

_EMPTY = bytes(BLOCK)
_META = b"xgLK"
_WITHOUT_CONTENT = b"123456"
_KINDS = {
    b"0": "reg",
    b"\0": "reg",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}
_XATTR = "SCHILY.xattr."
_TIMES = range(-62_135_596_800, 253_402_300_800)
"""Seconds since the epoch in the years 1 to 9999, which RFC 3339 can write."""


def ambiguous(reason: str) -> Refused:
    """Returns the refusal of a table of contents."""
    return Refused("unsupported", f"no table of contents can be made: {reason}")


class Reader(Protocol):
    """Told of everything in a tar, byte for byte and in order."""

    def raw(self, data: bytes) -> None:
        """Bytes that are no file's content."""
        ...

    def begin(self, entry: "Entry") -> None:
        """An entry's headers have ended, its content follows."""
        ...

    def content(self, data: bytes) -> None:
        """Bytes of the entry's content."""
        ...

    def end(self) -> None:
        """The entry's content has ended."""
        ...


class Entry:
    """One entry; its parts are read only where they are asked for. All of them raise `Refused`."""

    def __init__(self, header: bytes, pax: dict[str, bytes], name: bytes | None, link: bytes | None) -> None:
        self._header, self._pax = header, pax
        self._long_name, self._long_link = name, link
        self.physical = 0 if header[156:157] in _WITHOUT_CONTENT else self.size

    @property
    def size(self) -> int:
        """Bytes of content that the header claims."""
        return self._decimal("size", 124, 136)

    @property
    def kind(self) -> str:
        """The name that tables of contents have for it."""
        flag = self._header[156:157]
        if flag == b"\0" and self.name.endswith("/"):
            return "dir"
        try:
            return _KINDS[flag]
        except KeyError:
            raise ambiguous(f"an entry has the type {flag!r}") from None

    @property
    def name(self) -> str:
        """The whole name."""
        if self._long_name is not None and "path" in self._pax:
            raise ambiguous("an entry has two names")
        if (name := self._long_name or self._pax.get("path")) is None:
            name = self._header[:100].partition(b"\0")[0]
            if self._is_ustar and (prefix := self._header[345:500].partition(b"\0")[0]):
                name = prefix + b"/" + name
        return _text(name)

    @property
    def link(self) -> str:
        """What a link points to."""
        if self._long_link is not None and "linkpath" in self._pax:
            raise ambiguous("an entry has two targets")
        return _text(self._long_link or self._pax.get("linkpath") or self._header[157:257].partition(b"\0")[0])

    @property
    def mode(self) -> int:
        """The bits of the header."""
        return number(self._header[100:108])

    @property
    def uid(self) -> int:
        """The owner."""
        return self._decimal("uid", 108, 116)

    @property
    def gid(self) -> int:
        """The group."""
        return self._decimal("gid", 116, 124)

    @property
    def user(self) -> str:
        """The owner's name."""
        return self._owner("uname", 265, 297)

    @property
    def group(self) -> str:
        """The group's name."""
        return self._owner("gname", 297, 329)

    @property
    def device(self) -> tuple[int, int]:
        """The major and the minor number."""
        if not self._has_magic:
            return 0, 0
        return number(self._header[329:337]), number(self._header[337:345])

    @property
    def xattrs(self) -> dict[str, bytes]:
        """Extended attributes."""
        return {key[len(_XATTR) :]: value for key, value in self._pax.items() if key.startswith(_XATTR)}

    def modified(self) -> tuple[int, int]:
        """Returns seconds since the epoch, and nanoseconds."""
        return self._time("mtime") or (number(self._header[136:148]), 0)

    def accessed(self) -> tuple[int, int] | None:
        """See `modified`; None where it is not recorded."""
        return self._time("atime") or self._gnu_time(345)

    def changed(self) -> tuple[int, int] | None:
        """See `modified`; None where it is not recorded."""
        return self._time("ctime") or self._gnu_time(357)

    def check(self) -> None:
        """Raises `Refused` where it could be read in two ways."""
        if any(key.startswith("GNU.sparse.") for key in self._pax):
            raise ambiguous("a file is sparse")
        if "hdrcharset" in self._pax:
            raise ambiguous("names may be in another character set")
        kind = self.kind
        if not self.name:
            raise ambiguous("an entry has no name")
        if kind == "reg" and self.name.endswith("/"):
            raise ambiguous("a file is named as a folder")
        if self.size != (self.physical if kind == "reg" else 0):
            raise ambiguous("an entry that is no file has content")
        if self._is_gnu and any(self._header[369:500]):
            raise ambiguous("a header has parts that only GNU tar knows")
        if self._header[508:512] == b"tar\0":
            raise ambiguous("a header is star's own")

    @property
    def _has_magic(self) -> bool:
        return self._is_ustar or self._is_gnu

    @property
    def _is_ustar(self) -> bool:
        return self._header[257:263] == b"ustar\0"

    @property
    def _is_gnu(self) -> bool:
        return self._header[257:265] == b"ustar  \0"

    def _decimal(self, key: str, start: int, stop: int) -> int:
        if value := self._pax.get(key):
            if not value.isdigit():
                raise ambiguous(f"{key} is no number")
            return int(value)
        return number(self._header[start:stop])

    def _owner(self, key: str, start: int, stop: int) -> str:
        if value := self._pax.get(key):
            return _text(value)
        return _text(self._header[start:stop].partition(b"\0")[0]) if self._has_magic else ""

    def _time(self, key: str) -> tuple[int, int] | None:
        if not (value := self._pax.get(key)):
            return None
        whole, _, part = value.partition(b".")
        sign = whole[:1] == b"-"
        if not whole[sign:].isdigit() or (part and not part.isdigit()):
            raise ambiguous(f"{key} is no time")
        seconds, nanoseconds = int(whole), int(part[:9].ljust(9, b"0"))
        # A negative time counts both parts backwards.
        return (seconds - 1, 1_000_000_000 - nanoseconds) if sign and nanoseconds else (seconds, nanoseconds)

    def _gnu_time(self, start: int) -> tuple[int, int] | None:
        field = self._header[start : start + 12]
        return (number(field), 0) if self._is_gnu and field[0] else None


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ambiguous("a name is not UTF-8") from None
    if "\0" in text:
        raise ambiguous("a name has a zero byte")
    return text


def number(field: bytes) -> int:
    """Returns the number of a header's field, octal or in GNU's base 256. Raises `Refused`."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40 or value >= 1 << 63:
            raise ambiguous("a number is negative or too large")
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ambiguous("a number is not octal")
    return int(digits, 8)


def timestamp(seconds: int, nanoseconds: int = 0) -> str:
    """Returns the time in UTC as RFC 3339 has it. Raises `Refused` outside the years 1 to 9999."""
    if seconds not in _TIMES:
        raise ambiguous("a time is outside the years that can be written")
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{fraction}Z"


class Tape:
    """Takes a tar block by block and tells a `Reader` what it is. ``entries`` counts those that have begun."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._step = self._header
        self._waiting = bytearray()
        self._wanted = BLOCK
        self._left = 0
        self._zeros = 0
        self._meta = b""
        self._pax: dict[str, bytes] = {}
        self._name: bytes | None = None
        self._link: bytes | None = None
        self._entry: Entry | None = None
        self._extended = False
        self.entries = 0

    def feed(self, block: bytes) -> None:
        """Takes the next bytes, of any size. Raises `Refused` for what is no tar, and what the reader raises."""
        place = 0
        while place < len(block):
            place = self._step(block, place)

    def finish(self) -> None:
        """Raises `Refused` where the tar was cut."""
        if self._waiting or self._left or self._step == self._content or self._extended or self._is_pending:
            raise ambiguous("the tar ends within an entry")

    @property
    def _is_pending(self) -> bool:
        return bool(self._pax) or self._name is not None or self._link is not None

    def _gather(self, block: bytes, place: int) -> tuple[bytes | None, int]:
        """Returns as many bytes as are wanted, or None until there are."""
        have = len(self._waiting)
        part = block[place : place + self._wanted - have]
        place += len(part)
        if have + len(part) < self._wanted:
            self._waiting += part
            return None, place
        whole = bytes(self._waiting) + part if have else part
        self._waiting.clear()
        return whole, place

    def _header(self, block: bytes, place: int) -> int:
        header, place = self._gather(block, place)
        if header is None:
            return place
        if header == _EMPTY:
            self._reader.raw(header)
            self._zeros += 1
            if self._zeros == 2:  # noqa: PLR2004
                self._step = self._rest
            return place
        if self._zeros:
            raise ambiguous("something follows a block of zeros")
        _check_sum(header)
        self._reader.raw(header)
        flag = header[156:157]
        if flag in _META:
            self._begin_meta(flag, number(header[124:136]))
        else:
            self._extended = flag == b"S" and bool(header[482])
            self._entry = Entry(header, self._pax, self._name, self._link)
            self._pax, self._name, self._link = {}, None, None
            self._step = self._sparse if self._extended else self._header
            if not self._extended:
                self._begin()
        return place

    def _begin_meta(self, flag: bytes, size: int) -> None:
        if size > _LONGEST:
            raise ambiguous("an extended header is too long")
        if flag == b"g":
            # It may change every entry that follows, and readers differ in whether it does.
            raise ambiguous("a header is for all entries")
        self._meta, self._left = flag, size
        self._wanted = -(-size // BLOCK) * BLOCK
        self._step = self._metadata if size else self._header
        if not size:
            self._wanted = BLOCK

    def _metadata(self, block: bytes, place: int) -> int:
        data, place = self._gather(block, place)
        if data is None:
            return place
        self._reader.raw(data)
        content, self._left, self._wanted = data[: self._left], 0, BLOCK
        self._step = self._header
        match self._meta:
            case b"x":
                if self._pax:
                    raise ambiguous("an entry has two extended headers")
                self._pax = records(content)
            case b"L":
                self._name = content.partition(b"\0")[0]
            case _:
                self._link = content.partition(b"\0")[0]
        return place

    def _sparse(self, block: bytes, place: int) -> int:
        more, place = self._gather(block, place)
        if more is not None:
            self._reader.raw(more)
            self._extended = bool(more[504])
            if not self._extended:
                self._begin()
        return place

    def _begin(self) -> None:
        assert self._entry is not None  # noqa: S101
        self.entries += 1
        self._reader.begin(self._entry)
        self._left = self._entry.physical
        if self._left:
            self._step = self._content
        else:
            self._end()

    def _content(self, block: bytes, place: int) -> int:
        part = block[place : place + self._left]
        self._left -= len(part)
        self._reader.content(part)
        if not self._left:
            self._end()
        return place + len(part)

    def _end(self) -> None:
        assert self._entry is not None  # noqa: S101
        self._reader.end()
        self._left = -self._entry.physical % BLOCK
        self._step = self._padding if self._left else self._header
        self._entry = None

    def _padding(self, block: bytes, place: int) -> int:
        part = block[place : place + self._left]
        self._left -= len(part)
        self._reader.raw(part)
        if not self._left:
            self._step = self._header
        return place + len(part)

    def _rest(self, block: bytes, place: int) -> int:
        self._reader.raw(block[place:])
        return len(block)


def _check_sum(header: bytes) -> None:
    written = number(header[148:156])
    plain = _total(header[:148]) + _total(header[156:256]) + _total(header[256:]) + 8 * 32
    if written != plain:
        # Some old writers summed bytes as if they were signed.
        signed = plain - 256 * sum(byte > 127 for byte in header[:148] + header[156:])  # noqa: PLR2004
        if written != signed:
            raise ambiguous("a header's checksum is wrong: this is no tar")


def _total(part: bytes) -> int:
    """Returns the sum of at most 257 bytes: the lower half of their Adler-32 (RFC 1950), which is ten times as fast."""
    return zlib.adler32(part, 0) & 0xFFFF


def records(content: bytes) -> dict[str, bytes]:
    """Returns the records of a pax header. Raises `Refused`."""
    found: dict[str, bytes] = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 7 or not len(length) + 1 < int(length) <= len(content):  # noqa: PLR2004
            raise ambiguous("an extended header is broken")
        record, content = content[len(length) + 1 : int(length)], content[int(length) :]
        key, equals, value = record.partition(b"=")
        if not equals or not key or record[-1:] != b"\n":
            raise ambiguous("an extended header is broken")
        found[_text(key)] = value[:-1]
    return found


class Names:
    """The names of a tar's entries. Raises `Refused` for the second of a name: which of the two counts is not clear."""

    MOST = 1_000_000

    def __init__(self) -> None:
        # Of a million names the hashes fit into memory, the names would not; hash() of Python is secret to the process,
        # so that nobody can make two names that meet.
        self._seen: set[int] = set()

    def add(self, name: str) -> None:
        """Takes the next name. Raises `Refused`."""
        key = hash(cleaned(name))
        if key in self._seen:
            raise ambiguous("two entries have the same name")
        if len(self._seen) == self.MOST:
            raise Refused("large", f"the tar has more than {self.MOST} entries")
        self._seen.add(key)

    def __contains__(self, name: str) -> bool:
        return hash(cleaned(name)) in self._seen


def cleaned(name: str) -> str:
    """Returns the shortest name for the same path below the root."""
    kept: list[str] = []
    for part in name.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in {"", "."}:
            kept.append(part)
    return "/".join(kept)
