"""Makes tars entry by entry, in every format, with what `tarfile` writes and with what only other writers do."""

import io
import os
import tarfile
from collections.abc import Mapping
from typing import Any, Literal, Self

Form = Literal[0, 1, 2]
USTAR: Form = 0
GNU: Form = 1
PAX: Form = 2
"""As `tarfile` numbers them."""
TIME = 1_600_000_000
"""When everything was changed that says nothing else, in seconds since 1970."""


class Tar:
    """A tar of which each method adds one entry and returns the tar; names are text, or bytes of any kind."""

    def __init__(self, form: Form = PAX) -> None:
        self._form = form
        self._parts: list[bytes] = []

    def file(self, name: str | bytes, content: bytes = b"", **more: Any) -> Self:
        return self._add(name, tarfile.REGTYPE, {"mode": 0o644, **more}, content)

    def dir(self, name: str | bytes, **more: Any) -> Self:
        return self._add(name, tarfile.DIRTYPE, {"mode": 0o755, **more})

    def link(self, name: str | bytes, target: str | bytes, **more: Any) -> Self:
        return self._add(name, tarfile.LNKTYPE, {"mode": 0o644, "linkname": _text(target), **more})

    def symlink(self, name: str | bytes, target: str | bytes, **more: Any) -> Self:
        return self._add(name, tarfile.SYMTYPE, {"mode": 0o777, "linkname": _text(target), **more})

    def fifo(self, name: str | bytes, **more: Any) -> Self:
        return self._add(name, tarfile.FIFOTYPE, {"mode": 0o600, **more})

    def device(self, name: str | bytes, kind: bytes, major: int, minor: int, **more: Any) -> Self:
        return self._add(name, kind, {"mode": 0o666, "devmajor": major, "devminor": minor, **more})

    def gone(self, path: str) -> Self:
        """Hides a path of lower layers."""
        folder, slash, name = path.rpartition("/")
        return self.file(f"{folder}{slash}.wh.{name}", mode=0)

    def opaque(self, folder: str) -> Self:
        """Hides what lower layers have in a folder."""
        return self.file(f"{folder}/.wh..wh..opq", mode=0)

    def raw(self, part: bytes) -> Self:
        self._parts.append(part)
        return self

    def end(self, blocks: int = 2) -> bytes:
        """The whole tar; a tar may end without the blocks of zeros, and may have more of them."""
        return b"".join(self._parts) + bytes(512 * blocks)

    def _add(self, name: str | bytes, kind: bytes, more: Mapping[str, Any], content: bytes = b"") -> Self:
        member = tarfile.TarInfo(_text(name))
        member.type, member.size, member.mtime = kind, len(content), TIME
        xattrs: Mapping[str, bytes] = more.get("xattrs", {})
        records = {f"SCHILY.xattr.{key}": value.decode(errors="surrogateescape") for key, value in xattrs.items()}
        member.pax_headers = {**records, **more.get("pax", {})}
        for key, value in more.items():
            if key not in ("xattrs", "pax"):
                setattr(member, key, value)
        return self.raw(member.tobuf(self._form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512))


def _text(name: str | bytes) -> str:
    return os.fsdecode(name) if isinstance(name, bytes) else name


def header(name: bytes, kind: bytes, size: int, more: Mapping[int, bytes] | None = None, magic: bytes = b"") -> bytes:
    """One block as old writers made it; ``more`` overwrites what is at places of it, before the sum is made."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"%011o\0" % TIME
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    for place, value in (more or {}).items():
        block[place : place + len(value)] = value
    block[148:156] = b"%06o\0 " % sum(block)
    assert len(block) == 512
    return bytes(block)


def extended(records: list[tuple[bytes, bytes]], kind: bytes = b"x") -> bytes:
    """An extended header of pax with these records, in this order, doubles and all."""
    payload = io.BytesIO()
    for key, value in records:
        line = b" %s=%s\n" % (key, value)
        length = next(size for size in range(len(line), len(line) + 9) if size == len(line) + len(str(size)))
        payload.write(b"%d%s" % (length, line))
    text = payload.getvalue()
    return header(b"PaxHeaders/x", kind, len(text), magic=b"ustar\x0000") + text + bytes(-len(text) % 512)


Pieces = list[tuple[int, bytes]]


def sparse_old(name: bytes, size: int, pieces: Pieces) -> bytes:
    """GNU's old sparse format, with more blocks of the map where four pairs do not do."""
    pieces = [*pieces, (size, b"")]

    def pairs(some: Pieces) -> bytes:
        return b"".join(b"%011o\0%011o\0" % (start, len(piece)) for start, piece in some)

    more = {386: pairs(pieces[:4]), 483: b"%011o\0" % size}
    rest = [pieces[place : place + 21] for place in range(4, len(pieces), 21)]
    more[482] = bytes([bool(rest)])
    blocks = [header(name, b"S", sum(len(piece) for _, piece in pieces), more, b"ustar  \0")]
    for place, some in enumerate(rest, 1):
        blocks.append(pairs(some).ljust(504, b"\0") + bytes([place < len(rest)]) + bytes(7))
    return b"".join(blocks) + _joined(pieces)


def sparse_pax(name: bytes, size: int, pieces: Pieces, version: str) -> bytes:
    """The sparse formats 0.0, 0.1 and 1.0 of pax."""
    pieces = [*pieces, (size, b"")]
    numbers = [number for start, piece in pieces for number in (start, len(piece))]
    major, minor = version.encode().split(b".")
    records = [(b"GNU.sparse.major", major), (b"GNU.sparse.minor", minor), (b"GNU.sparse.name", name)]
    content = _joined(pieces)
    stored = sum(len(piece) for _, piece in pieces)
    if version == "1.0":
        table = b"".join(b"%d\n" % number for number in [len(pieces), *numbers])
        table += bytes(-len(table) % 512)
        records.append((b"GNU.sparse.realsize", b"%d" % size))
        content, stored = table + content, stored + len(table)
    else:
        records = [] if version == "0.0" else records[2:]
        records += [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(pieces))]
        if version == "0.1":
            records.append((b"GNU.sparse.map", b",".join(b"%d" % number for number in numbers)))
        else:
            for start, piece in pieces:
                records += [(b"GNU.sparse.offset", b"%d" % start), (b"GNU.sparse.numbytes", b"%d" % len(piece))]
    shown = name if version == "0.0" else b"GNUSparseFile.1/x"
    return extended(records) + header(shown, b"0", stored, magic=b"ustar\x0000") + content


def _joined(pieces: Pieces) -> bytes:
    content = b"".join(piece for _, piece in pieces)
    return content + bytes(-len(content) % 512)
