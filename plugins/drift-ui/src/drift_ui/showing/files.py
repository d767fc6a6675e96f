"""The page of a layer: its files, folder by folder."""

from collections.abc import Sequence

from drift_core.api import Digest, LocalRegistry, pages
from drift_ui.layers import Entry, Layers
from drift_ui.showing.places import LAYER, layer_path, may_pull, repository_path, with_query

SHOWN = 1000
"""Files of one folder that are shown."""

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""Names that say what is gone (image specification, "Whiteouts")."""


class Files:
    """Lists a layer without unpacking it."""

    def __init__(self, registry: LocalRegistry, layers: Layers) -> None:
        self._registry = registry
        self._layers = layers

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page(LAYER, "Layer", self.show, needs=may_pull)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        name, digest = asked.path["name"], Digest.parse(asked.path["digest"])
        under = asked.query.get("under", "").strip("/")
        listing = await self._layers.listing(self._registry.on_behalf(asked.identity), name, digest)
        here = layer_path(name, str(digest))
        facts: list[tuple[str, pages.Cell]] = [
            ("Repository", pages.Link(name, repository_path(name))),
            ("Digest", pages.Copied(str(digest))),
            ("Files", len(listing.entries)),
            ("Folder", f"/{under}"),
        ]
        if listing.cut:
            facts.append(("Not all", pages.State(listing.cut, "warning")))
        rows = _folders(here, under, listing.entries) + _files(under, listing.entries)
        if under:
            above = under.rpartition("/")[0]
            rows.insert(0, (pages.Link("..", with_query(here, under=above)), "directory", None, None, None, None))
        columns = ("Name", "Kind", "Size", "Mode", "Owner", "Leads to")
        title = f"/{under}" + (f" (the first {SHOWN} of {len(rows)})" if len(rows) > SHOWN else "")
        return (pages.Facts("", facts), pages.Table(title, columns, rows[:SHOWN], "There is nothing here."))


def _inside(under: str, path: str) -> str | None:
    """Returns the path within a folder, None for what is elsewhere."""
    if not under:
        return path if path != "." else None
    return path[len(under) + 1 :] if path.startswith(f"{under}/") else None


def _folders(here: str, under: str, entries: Sequence[Entry]) -> list[Sequence[pages.Cell]]:
    names: dict[str, Entry | None] = {}
    for entry in entries:
        inside = _inside(under, entry.path)
        if inside and "/" in inside:
            names.setdefault(inside.partition("/")[0], None)
        elif inside and entry.kind == "directory":
            names[inside] = entry
    prefix = f"{under}/" if under else ""
    return [
        (
            pages.Link(f"{name}/", with_query(here, under=prefix + name)),
            "directory",
            None,
            None if entry is None else entry.mode,
            None if entry is None else entry.owner,
            None,
        )
        for name, entry in sorted(names.items())
    ]


def _files(under: str, entries: Sequence[Entry]) -> list[Sequence[pages.Cell]]:
    found = [(inside, entry) for entry in entries if (inside := _inside(under, entry.path)) and "/" not in inside]
    return [
        (_named(name), _kind(name, entry), pages.Size(entry.size), entry.mode, entry.owner, entry.target or None)
        for name, entry in sorted(found, key=lambda one: one[0])
        if entry.kind != "directory"
    ]


def _named(name: str) -> str:
    return name.removeprefix(WHITEOUT) if name.startswith(WHITEOUT) and name != OPAQUE else name


def _kind(name: str, entry: Entry) -> pages.Cell:
    if name == OPAQUE:
        return pages.State("hides all that was here", "warning")
    return pages.State("removed", "warning") if name.startswith(WHITEOUT) else entry.kind
