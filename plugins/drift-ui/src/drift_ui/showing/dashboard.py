"""The first page: what there is, and what happened last."""

import time
from collections.abc import Awaitable, Callable, Sequence

from drift_core.api import EVERYTHING, Access, pages
from drift_ui.finding import Finding
from drift_ui.indexing import DAY
from drift_ui.showing.places import REPOSITORIES, manifest_path, repository_path, short

SHOWN = 15
DAYS = 30


class Dashboard:
    """Sums, and the figures of plugins, are shown to whoever may do everything: they are of all repositories."""

    def __init__(
        self, finding: Finding, access: Access, figures: Callable[[], Awaitable[Sequence[pages.Figure]]]
    ) -> None:
        self._finding = finding
        self._access = access
        self._more = figures

    def own(self) -> list[pages.Page]:
        """Returns the one page."""
        return [pages.Page("/", "Dashboard", self.show, "Dashboard", needs=None)]

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """See `Page`."""
        whole = (await self._access.verdicts(asked.identity, [EVERYTHING]))[0]
        blocks: list[pages.Block] = [await self._figures()] if whole else []
        rows = [
            (
                pages.Link(row.repository, repository_path(row.repository)),
                pages.Link(row.tag, manifest_path(row.repository, row.tag)),
                short(row.digest),
                pages.Size(row.size),
                pages.Moment(row.pushed_at),
                row.pushed_by or None,
            )
            for row in await self._finding.newest(asked.identity, SHOWN)
        ]
        columns = ("Repository", "Tag", "Digest", "Size", "Pushed", "By")
        image = f"{asked.host}/NAME:TAG"
        empty = f"Nothing was pushed yet. Push an image: docker tag IMAGE {image} && docker push {image}"
        more = pages.Link("All repositories", REPOSITORIES)
        blocks.append(pages.Table("Recent activity", columns, rows, empty, more))
        return [*blocks, *(await self._plots() if whole else ())]

    async def _figures(self) -> pages.Figures:
        sums = await self._finding.totals()
        values = (0, 0, 0, 0) if sums is None else (sums.repositories, sums.images, sums.size, sums.pulls)
        return pages.Figures(
            (
                pages.Figure("Repositories", values[0]),
                pages.Figure("Images", values[1], "tags"),
                pages.Figure("Storage", pages.Size(values[2]), "each repository by itself"),
                pages.Figure("Pulls", values[3], "of manifests, since the console counts them"),
                *await self._more(),
            )
        )

    async def _plots(self) -> Sequence[pages.Block]:
        rows = await self._finding.days("", int(time.time()) // DAY - DAYS)
        sizes = [(row.day * float(DAY), float(row.size)) for row in rows if row.size]
        return (
            pages.Plot(
                f"Pulls and pushes of {DAYS} days",
                "",
                (
                    pages.Series("Pulls", [(row.day * float(DAY), float(row.pulls)) for row in rows]),
                    pages.Series("Pushes", [(row.day * float(DAY), float(row.pushes)) for row in rows]),
                ),
            ),
            pages.Plot("Storage", "bytes", (pages.Series("Stored", sizes),)),
        )
