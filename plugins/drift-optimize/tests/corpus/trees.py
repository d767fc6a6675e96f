"""What layers unpack to, by a model that is slow, simple and has nothing in common with what it judges."""

import hashlib
import io
import os
import posixpath
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import lru_cache

XATTR = "SCHILY.xattr."
KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}


@dataclass(frozen=True)
class Entry:
    """What is at a path; ``group`` has every name of a file that has several, ``mtime`` is in seconds since 1970."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: Decimal
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()
    group: tuple[bytes, ...] = ()


IMPLIED = Entry("directory", 0o755, 0, 0, Decimal(0))
"""A directory that is there only because something is in it."""
Tree = dict[bytes, Entry]


@dataclass(eq=False)
class Inode:
    entry: Entry


@dataclass(frozen=True)
class Change:
    path: bytes
    hard: bytes | None
    entry: Entry


def tree_of(layers: Iterable[bytes]) -> Tree:
    """Returns what is at each path when these tars are applied, the lowest first; the root is at ``b""``.

    Raises ValueError for what unpackers refuse or understand differently.
    """
    inodes: dict[bytes, Inode] = {}
    for layer in layers:
        _apply(inodes, layer)
    groups: dict[Inode, list[bytes]] = {}
    for path in sorted(inodes):
        groups.setdefault(inodes[path], []).append(path)
    return {
        path: replace(inode.entry, group=tuple(found) if len(found) > 1 else ())
        for inode, found in groups.items()
        for path in found
    }


def _apply(inodes: dict[bytes, Inode], layer: bytes) -> None:
    changes = changes_of(layer)
    hiding = [change for change in changes if posixpath.basename(change.path).startswith(b".wh.")]
    for change in hiding:
        folder, name = posixpath.split(change.path)
        if name == b".wh..wh..opq":
            for path in [path for path in inodes if path.startswith(folder + b"/" if folder else b"") and path]:
                del inodes[path]
        else:
            _remove(inodes, posixpath.join(folder, name.removeprefix(b".wh.")))
    for change in changes:
        if change not in hiding:
            _make(inodes, change)


def _make(inodes: dict[bytes, Inode], change: Change) -> None:
    inode = Inode(change.entry)
    if change.hard is not None:
        inode = inodes[change.hard]
    parent = posixpath.dirname(change.path)
    while parent:
        if inodes.setdefault(parent, Inode(IMPLIED)).entry.kind != "directory":
            raise ValueError(f"{change.path!r} lies below {parent!r}")
        parent = posixpath.dirname(parent)
    there = inodes.get(change.path)
    if there is None or (there.entry.kind, inode.entry.kind) != ("directory", "directory"):
        _remove(inodes, change.path)
    inodes[change.path] = inode


def _remove(inodes: dict[bytes, Inode], path: bytes) -> None:
    removed = inodes.pop(path, None)
    if removed is not None and removed.entry.kind == "directory":
        for below in [below for below in inodes if below.startswith(path + b"/")]:
            del inodes[below]


@lru_cache(maxsize=64)
def changes_of(layer: bytes) -> tuple[Change, ...]:
    """Returns what a tar says, in its order, read by `tarfile`."""
    if not layer:
        return ()
    with tarfile.open(fileobj=io.BytesIO(layer), mode="r:", errors="surrogateescape") as tar:
        return tuple(_change(tar, member) for member in tar)


def _change(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Change:
    path = posixpath.normpath(posixpath.join("/", member.name)).strip("/")
    xattrs = {
        key.removeprefix(XATTR): value.encode(errors="surrogateescape")
        for key, value in member.pax_headers.items()
        if key.startswith(XATTR)
    }
    time = member.pax_headers.get("mtime")
    entry = Entry(
        kind=KINDS.get(member.type, "file"),
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime=Decimal(time) if time else Decimal(int(member.mtime)),
        target=os.fsencode(member.linkname) if member.issym() else b"",
        device=(member.devmajor, member.devminor) if member.isdev() and not member.isfifo() else (0, 0),
        xattrs=tuple(sorted(xattrs.items())),
    )
    if member.isreg():
        content = tar.extractfile(member)
        assert content is not None
        entry = replace(entry, size=member.size, sha256=hashlib.file_digest(content, "sha256").hexdigest())  # type: ignore[arg-type]
    hard = os.fsencode(posixpath.normpath(posixpath.join("/", member.linkname)).strip("/")) if member.islnk() else None
    return Change(os.fsencode(path), hard, entry)


def difference(one: Mapping[bytes, Entry], other: Mapping[bytes, Entry]) -> list[str]:
    """Returns a line for each path that is not the same in both."""
    lines: list[str] = []
    for path in sorted(one.keys() | other.keys()):
        a, b = one.get(path), other.get(path)
        if a is None or b is None:
            lines.append(f"{path!r}: only in the {'second' if a is None else 'first'}: {a or b}")
        elif a != b:
            parts = [field.name for field in fields(Entry) if getattr(a, field.name) != getattr(b, field.name)]
            lines.append(f"{path!r}: " + ", ".join(f"{key} {getattr(a, key)!r} / {getattr(b, key)!r}" for key in parts))
    return lines


def assert_same_tree(one: Mapping[bytes, Entry], other: Mapping[bytes, Entry]) -> None:
    """Fails with what differs, the first 20 paths of it."""
    lines = difference(one, other)
    assert not lines, "\n".join([f"{len(lines)} paths differ", *lines[:20]])
