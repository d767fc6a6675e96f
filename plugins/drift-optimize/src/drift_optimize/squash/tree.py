"""The tree that layers make together, as an index: where each entry's header is, and nothing of its content.

The rules are those of the OCI image specification, "Image Layer Filesystem Changeset", section "Applying Changesets".
"""

from collections.abc import Iterable, Iterator

from drift_optimize.squash.reading import DIRECTORY, LINK, SYMLINK, Header
from drift_optimize.squash.refusals import AmbiguousLayers, DamagedLayer, shown

WHITEOUT = b".wh."
XATTR = b"SCHILY.xattr."
OPAQUE = b".wh..wh..opq"
MAX_ENTRIES = 1_000_000
"""Of all layers together, with the folders that they imply: a bound on memory."""
MAX_PATH = 4095
"""Bytes: PATH_MAX of Linux, without the end."""
IMPLIED = -1
"""The place of the header of a directory that has none."""


class Directory:
    """A directory; ``layer`` and ``start`` are where the entry is that describes it, ``born`` the layer that made it.

    ``hidden`` has the names of what layers below the squashed ones have in it and upper ones removed, and for each
    whether that was a directory.
    """

    __slots__ = ("born", "children", "hidden", "layer", "start")

    def __init__(self, layer: int, start: int) -> None:
        self.layer = self.born = layer
        self.start = start
        self.children: dict[bytes, Node] = {}
        self.hidden: dict[bytes, bool] | None = None


class File:
    """Anything else, under its first name.

    ``names`` counts those that it has now; ``uneven`` is True where the entry of one of them says another
    owner, mode, time or extended attribute, ``lost`` where one of its names is gone.
    """

    __slots__ = ("kind", "layer", "lost", "names", "stamp", "start", "uneven", "xattrs")

    def __init__(self, layer: int, start: int, kind: bytes, stamp: int, xattrs: int | None) -> None:
        self.layer = layer
        self.start = start
        self.kind = kind
        self.stamp = stamp
        self.xattrs = xattrs
        self.names = 1
        self.uneven = self.lost = False


class Link:
    """A further name of a file."""

    __slots__ = ("file", "layer", "start")

    def __init__(self, file: File, layer: int, start: int) -> None:
        self.file = file
        self.layer = layer
        self.start = start


Node = Directory | File | Link


class _Change:
    """What an entry of a layer does, as long as the layer is applied."""

    __slots__ = ("kind", "path", "stamp", "start", "target", "xattrs")

    def __init__(self, path: bytes, header: Header) -> None:
        self.path = path
        self.kind = header.kind
        self.start = header.start
        self.target = header.target if header.kind == LINK else b""
        self.stamp = hash((header.mode, header.uid, header.gid, header.mtime))
        xattrs = [record for record in header.records.items() if record[0].startswith(XATTR)]
        self.xattrs = hash(tuple(sorted(xattrs))) if xattrs else None


class Tree:
    """A tree to which layers are applied, the lowest first; those below ``base`` are what the others stand on.

    Every method raises `DamagedLayer` or `AmbiguousLayers`; the tree is of no use afterwards.
    """

    def __init__(self, base: int) -> None:
        self.root = Directory(0, IMPLIED)
        self._base = base
        self._entries = 0
        self._layer = 0

    def apply(self, layer: int, headers: Iterable[Header]) -> None:
        """Applies the layer with this number: its whiteouts first, wherever they stand in it, then its entries."""
        self._layer = layer
        changes: list[_Change] = []
        marks: list[bytes] = []
        for header in headers:
            path = self._clean(header.name)
            folder, _, name = path.rpartition(b"/")
            if folder and (folder.startswith(WHITEOUT) or b"/" + WHITEOUT in b"/" + folder):
                raise DamagedLayer(f"{shown(path)} lies below a whiteout", layer)
            self._count()
            if name.startswith(WHITEOUT):
                marks.append(path)
            else:
                changes.append(_Change(path, header))
        self._hide(marks, changes)
        for change in changes:
            self._make(change)

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise DamagedLayer(f"there are more than {MAX_ENTRIES} entries", self._layer)

    def _clean(self, name: bytes) -> bytes:
        """A path without what does not matter; every unpacker takes an absolute one as below the root."""
        parts: list[bytes] = []
        if b"\0" in name or len(name) > MAX_PATH:
            raise DamagedLayer(f"{shown(name)} is longer than a path may be", self._layer)
        for part in name.split(b"/"):
            if part == b"..":
                if not parts:
                    raise DamagedLayer(f"{shown(name)} leads out of the image", self._layer)
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        return b"/".join(parts)

    def _hide(self, marks: list[bytes], changes: list[_Change]) -> None:
        folders: set[bytes] | None = None
        for path in marks:
            folder, _, name = path.rpartition(b"/")
            parent, obstacle = self._find(folder)
            if obstacle is not None and self._is_symlink(parent):
                if folders is None:
                    folders = {change.path for change in changes if change.kind == DIRECTORY}
                # A directory of this layer in the symlink's place has nothing below it that could be hidden.
                if obstacle not in folders:
                    raise self._through_symlink(path, obstacle)
            if name == OPAQUE:
                if isinstance(parent, Directory):
                    for child in list(parent.children):
                        self._remove(parent, child)
                continue
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise DamagedLayer(f"the whiteout {shown(path)} names nothing", self._layer)
            if isinstance(parent, Directory):
                self._remove(parent, hidden)

    def _find(self, path: bytes) -> tuple[Node | None, bytes | None]:
        """Returns what is at a path, and None; or what stands in the way and is no directory, and its path."""
        node: Node = self.root
        parts = path.split(b"/") if path else []
        for depth, part in enumerate(parts):
            if not isinstance(node, Directory):
                return node, b"/".join(parts[:depth])
            child = node.children.get(part)
            if child is None:
                return None, None
            node = child
        return node, path if path and not isinstance(node, Directory) else None

    def _is_symlink(self, node: Node | None) -> bool:
        if isinstance(node, Link):
            node = node.file
        return isinstance(node, File) and node.kind == SYMLINK

    def _through_symlink(self, path: bytes, symlink: bytes) -> AmbiguousLayers:
        # containerd and umoci follow it, within the image; what unpacks each layer into a folder of its own, as podman
        # and Docker do on overlayfs, makes a directory that takes its place.
        return AmbiguousLayers(
            f"{shown(path)} lies below the symlink {shown(symlink)}: some follow it, others replace it", self._layer
        )

    def _remove(self, parent: Directory, name: bytes) -> None:
        removed = parent.children.pop(name, None)
        if removed is None:
            return
        born = removed.born if isinstance(removed, Directory) else removed.layer
        if born < self._base <= self._layer:
            if parent.hidden is None:
                parent.hidden = {}
            # What the base has stays hidden, whatever upper layers make in its place and remove again.
            parent.hidden[name] = isinstance(removed, Directory)
        for node in _below(removed):
            if not isinstance(node, Directory):
                file = node.file if isinstance(node, Link) else node
                file.names -= 1
                file.lost = True

    def _make(self, change: _Change) -> None:
        if not change.path:
            if change.kind != DIRECTORY:
                raise DamagedLayer("the root is no directory", self._layer)
            self.root.layer, self.root.start = self._layer, change.start
            return
        file = self._target(change) if change.kind == LINK else None
        parent, name = self._parent(change.path)
        existing = parent.children.get(name)
        if isinstance(existing, Directory) and change.kind == DIRECTORY:
            existing.layer, existing.start = self._layer, change.start
            return
        self._remove(parent, name)
        if change.kind == DIRECTORY:
            parent.children[name] = Directory(self._layer, change.start)
        elif file is not None:
            parent.children[name] = Link(file, self._layer, change.start)
        else:
            parent.children[name] = File(self._layer, change.start, change.kind, change.stamp, change.xattrs)

    def _target(self, change: _Change) -> File:
        path = self._clean(change.target)
        node, obstacle = self._find(path)
        if obstacle is not None and obstacle != path and self._is_symlink(node):
            raise self._through_symlink(path, obstacle)
        below_itself = path == change.path or path.startswith(change.path + b"/")
        if node is None or isinstance(node, Directory) or obstacle != path or below_itself:
            raise DamagedLayer(f"the hardlink {shown(change.path)} leads to no file: {shown(path)}", self._layer)
        file = node.file if isinstance(node, Link) else node
        file.names += 1
        # Many writers give the entries of links no extended attributes: there is nothing to apply then.
        even = file.stamp == change.stamp and change.xattrs in (None, file.xattrs)
        file.uneven = file.uneven or not even
        return file

    def _parent(self, path: bytes) -> tuple[Directory, bytes]:
        """Returns the directory in which a path lies, made with all above it where they are missing, and its name."""
        *folders, name = path.split(b"/")
        parent = self.root
        for depth, folder in enumerate(folders, 1):
            child = parent.children.get(folder)
            if child is None:
                self._count()
                child = parent.children[folder] = Directory(self._layer, IMPLIED)
            if not isinstance(child, Directory):
                obstacle = b"/".join(folders[:depth])
                if self._is_symlink(child):
                    raise self._through_symlink(path, obstacle)
                raise DamagedLayer(f"{shown(path)} lies below a file: {shown(obstacle)}", self._layer)
            parent = child
        return parent, name


def _below(node: Node) -> Iterator[Node]:
    rest = [node]
    while rest:
        node = rest.pop()
        yield node
        if isinstance(node, Directory):
            rest += node.children.values()
