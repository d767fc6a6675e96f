"""The page that compares two images: their layers, configurations and files."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from drift_core.api import Access, Audit, Digest, LocalRegistry, RegistryError, Scope, pages
from drift_ui.documents import Document, ImageConfig, read_config, read_document
from drift_ui.layers import Entry, Layers
from drift_ui.permitting import check
from drift_ui.showing.places import manifest_path, read_named, short

SHOWN = 500
MOST_LAYERS = 40
"""Layers of each image whose files are listed."""

MOST_FILES = 100_000
"""Files of each image that are compared."""


class NoImage(RegistryError):
    """What was typed names no image."""

    code, status, text = "MANIFEST_UNKNOWN", 400, "write an image as repository:tag or repository@digest"


class Side(Struct, frozen=True):
    """One of both images; of an index it is the first manifest of a platform."""

    name: str
    digest: Digest
    document: Document
    config: ImageConfig


class Comparing:
    """Both have to be what who asks may pull."""

    def __init__(self, registry: LocalRegistry, layers: Layers, access: Access, audit: Audit) -> None:
        self._registry = registry
        self._layers = layers
        self._access = access
        self._audit = audit

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page("/compare", "Compare images", self.show, "Compare", needs=None)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        left, right = asked.query.get("left", "")[:600], asked.query.get("right", "")[:600]
        hint = "repository:tag or repository@digest"
        fields = (
            pages.Field("left", "This image", value=left, hint=hint, required=True),
            pages.Field("right", "With this one", value=right, hint=hint, required=True),
            pages.Field("files", "Compare the files, too", "checkbox", asked.query.get("files", "")),
        )
        form = pages.Form("", "Compare", fields)
        if not left or not right:
            return (form,)
        one, other = await self._side(asked, left), await self._side(asked, right)
        blocks: list[pages.Block] = [form, _sides(one, other), *_layers(one, other), _settings(one, other)]
        if asked.query.get("files"):
            blocks.append(await self._files(asked, one, other))
        return blocks

    async def _side(self, asked: pages.Asked, text: str) -> Side:
        name, at, reference = text.strip().partition("@")
        if not at:
            name, _, reference = text.strip().rpartition(":")
        if not name or not reference:
            raise NoImage
        await check(self._access, self._audit, asked.identity, Scope("repository", name, "pull"))
        registry = self._registry.on_behalf(asked.identity)
        digest, document = await read_named(registry, name, reference)
        child = next((one for one in document.children if one.platform), None)
        if child is not None:
            digest = Digest.parse(child.digest)
            document = await read_document(registry, name, digest)
        return Side(name, digest, document, await read_config(registry, name, document))

    async def _files(self, asked: pages.Asked, one: Side, other: Side) -> pages.Block:
        left, right = await self._tree(asked, one, other), await self._tree(asked, other, one)
        rows, count = await asyncio.to_thread(_differences, left, right)
        columns = ("File", "What", "Size of this one", "Size of the other")
        said = [f"the first {SHOWN} of {count:,} differences"] if count > SHOWN else []
        if MOST_FILES in (len(left), len(right)):
            said.append(f"of the first {MOST_FILES:,} files of each")
        title = "Files" + (f" ({', '.join(said)})" if said else "")
        return pages.Table(title, columns, rows, "The files of both have the same names, sizes and modes.")

    async def _tree(self, asked: pages.Asked, side: Side, other: Side) -> dict[str, Entry]:
        """Returns the files that an image adds with those layers that the other one has not, the last of each name."""
        registry = self._registry.on_behalf(asked.identity)
        shared = {layer.digest for layer in other.document.layers}
        found: dict[str, Entry] = {}
        for layer in [layer for layer in side.document.layers if layer.digest not in shared][:MOST_LAYERS]:
            listing = await self._layers.listing(registry, side.name, Digest.parse(layer.digest))
            found |= {entry.path: entry for entry in listing.entries if entry.kind != "directory"}
            if len(found) >= MOST_FILES:
                return dict(islice(found.items(), MOST_FILES))
        return found


def _sides(one: Side, other: Side) -> pages.Block:
    rows = [
        (
            pages.Link(side.name, manifest_path(side.name, str(side.digest))),
            short(str(side.digest)),
            side.config.platform or None,
            len(side.document.layers),
            pages.Size(side.document.size),
            side.config.created or None,
        )
        for side in (one, other)
    ]
    return pages.Table("Both", ("Image", "Digest", "Platform", "Layers", "Size", "Created"), rows)


def _layers(one: Side, other: Side) -> Sequence[pages.Block]:
    sizes = {layer.digest: layer.size for side in (one, other) for layer in side.document.layers}
    left, right = ([layer.digest for layer in side.document.layers] for side in (one, other))
    rows = [
        (short(digest), pages.Size(sizes[digest]), _where(digest in left, digest in right))
        for digest in dict.fromkeys([*left, *right])
    ]
    shared = sum(sizes[digest] for digest in set(left) & set(right))
    own = [sum(sizes[digest] for digest in set(side) - set(others)) for side, others in ((left, right), (right, left))]
    figures = (
        pages.Figure("In both", pages.Size(shared)),
        pages.Figure("Only in this one", pages.Size(own[0])),
        pages.Figure("Only in the other", pages.Size(own[1])),
    )
    return (pages.Figures(figures), pages.Table("Layers", ("Layer", "Size", "Where"), rows[:SHOWN]))


def _where(left: bool, right: bool) -> pages.State:
    if left and right:
        return pages.State("both")
    return pages.State("only this one", "warning") if left else pages.State("only the other", "warning")


def _settings(one: Side, other: Side) -> pages.Block:
    left, right = _said(one), _said(other)
    names = sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))
    rows = [(name, left.get(name), right.get(name)) for name in names[:SHOWN]]
    columns = ("Setting", "This one", "The other")
    return pages.Table("Configuration", columns, rows, "Both are configured alike.")


def _said(side: Side) -> Mapping[str, Any]:
    facts = {"Platform": side.config.platform, "Author": side.config.author, **dict(side.config.settings)}
    labels = {f"Label {name}": value for name, value in side.config.labels.items()}
    return {name: value for name, value in (facts | labels).items() if value}


def _differences(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> tuple[list[Sequence[pages.Cell]], int]:
    """Returns the first differences, by path, and how many there are."""
    rows: list[Sequence[pages.Cell]] = []
    count = 0
    for path in sorted(left.keys() | right.keys()):
        row = _difference(path, left, right)
        if row is not None:
            count += 1
            rows += [row] if count <= SHOWN else []
    return rows, count


def _difference(path: str, left: Mapping[str, Entry], right: Mapping[str, Entry]) -> Sequence[pages.Cell] | None:
    one, other = left.get(path), right.get(path)
    sizes = (None if one is None else pages.Size(one.size), None if other is None else pages.Size(other.size))
    if one is None or other is None:
        return (path, _where(one is not None, other is not None), *sizes)
    if (one.kind, one.size, one.mode, one.target) == (other.kind, other.size, other.mode, other.target):
        return None
    return (path, pages.State("differs", "warning"), *sizes)
