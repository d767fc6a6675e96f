"""The page of the search."""

from collections.abc import Sequence
from typing import Any

from drift_core.api import RegistryError, pages
from drift_ui.finding import Finding
from drift_ui.querying import FILTERS, read_query
from drift_ui.showing.places import manifest_path, repository_path, short

HELP = (
    "Words find repositories, also mistyped ones. Filters narrow it down: repo:team/ tag:v1 digest:sha256:ab layer:ab "
    "label:key=value signed:yes size>1GB size<10MB pushed<7d pushed>4w"
)


class Searching:
    """Finds only what who asks may pull."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page("/search", "Search", self.show, "Search", needs=None)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        text = asked.query.get("q", "")
        known = [*FILTERS, *await self._finding.suggestions(asked.identity)]
        field = pages.Field("q", "Search for", value=text[:500], choices=known, hint=HELP)
        form = pages.Form("", "Search", (field,))
        try:
            query = read_query(text)
        except RegistryError as error:
            return (form, pages.Facts("", [("That is no search", pages.State(error.message, "bad"))]))
        if query.is_empty:
            return (form,)
        repositories, images = await self._finding.search(asked.identity, query)
        blocks: list[pages.Block] = [form] if query.asks_images else [form, _repositories(repositories)]
        blocks.append(_images(images.rows))
        return [*blocks, pages.Text("There are more: narrow it down.")] if images.more else blocks


def _repositories(found: Sequence[Any]) -> pages.Block:
    rows = [
        (
            pages.Link(row.name, repository_path(row.name)),
            row.images,
            pages.Size(row.size),
            row.pulls,
            pages.Moment(row.updated_at) if row.updated_at else None,
        )
        for row in found
    ]
    columns = ("Repository", "Tags", "Size", "Pulls", "Updated")
    return pages.Table("Repositories", columns, rows, "No repository is called like this.")


def _images(found: Sequence[Any]) -> pages.Block:
    rows = [
        (
            pages.Link(f"{row.repository}:{row.tag}", manifest_path(row.repository, row.tag)),
            short(row.digest),
            pages.Size(row.size),
            row.platforms or row.kind or None,
            row.pulls,
            pages.Moment(row.pushed_at),
            pages.State("verified", "good") if row.verified else None,
        )
        for row in found
    ]
    columns = ("Image", "Digest", "Size", "Platforms", "Pulls", "Pushed", "Signature")
    return pages.Table("Images", columns, rows, "No image is like this.")
