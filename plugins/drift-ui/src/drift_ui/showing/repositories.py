"""The list of repositories, and the page of one."""

import time
from collections.abc import Sequence
from typing import get_args

from drift_core.api import pages
from drift_ui.finding import Finding, Sort
from drift_ui.indexing import DAY
from drift_ui.showing.places import (
    REPOSITORIES,
    REPOSITORY,
    manifest_path,
    may_pull,
    repository_path,
    short,
    with_query,
)

DAYS = 30
NO_SUCH = "There is no repository that begins so, or none that you may see."


class Shelves:
    """Lists come page by page, in the order of an index."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding

    def own(self) -> list[pages.Page]:
        """Returns both."""
        return [
            pages.Page(REPOSITORIES, "Repositories", self.every, "Repositories", needs=None),
            pages.Page(REPOSITORY, "Repository", self.one, needs=may_pull),
        ]

    async def every(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """Shows a page of the list."""
        prefix, wanted = asked.query.get("begins", "")[:255].lower(), asked.query.get("sort", "")
        sort: Sort = next((known for known in get_args(Sort) if known == wanted), "name")
        page = await self._finding.repositories(asked.identity, sort, prefix, asked.query.get("after", ""))
        rows = [
            (
                pages.Link(row.name, repository_path(row.name)),
                row.images,
                pages.Size(row.size),
                row.pulls,
                pages.Moment(row.updated_at) if row.updated_at else None,
            )
            for row in page.rows
        ]
        columns = (
            _sorted("Name", "name", sort, prefix),
            "Tags",
            _sorted("Size", "size", sort, prefix),
            _sorted("Pulls", "pulls", sort, prefix),
            _sorted("Updated", "updated", sort, prefix),
        )
        fields = (
            pages.Field("begins", "Name begins with", value=prefix),
            pages.Field("sort", "Sort by", "choice", sort, get_args(Sort)),
        )
        more = None
        if page.after is not None:
            more = pages.Link("More", with_query(REPOSITORIES, begins=prefix, sort=sort, after=page.after))
        return (
            pages.Form("", "Show", fields),
            pages.Table("Repositories", columns, rows, NO_SUCH, more),
        )

    async def one(self, asked: pages.Asked) -> Sequence[pages.Block]:
        """Shows a repository, and a page of its tags."""
        name = asked.path["name"]
        known = await self._finding.repository(name)
        if known is None:
            return (
                pages.Text("There is no such repository, or it was made a moment ago: try again in a few seconds."),
            )
        rows, after = await self._finding.tags(name, asked.query.get("after", ""))
        tags = [
            (
                pages.Link(row.tag, manifest_path(name, row.tag)),
                short(row.digest),
                pages.Size(row.size),
                row.platforms or row.kind or None,
                row.pulls,
                pages.Moment(row.pushed_at),
                pages.State("verified", "good") if row.verified else None,
                pages.Copied(f"docker pull {asked.host}/{name}:{row.tag}", "docker pull"),
            )
            for row in rows
        ]
        columns = ("Tag", "Digest", "Size", "Platforms", "Pulls", "Pushed", "Signature", "Command")
        more = None if after is None else pages.Link("Older", with_query(repository_path(name), after=after))
        figures = (
            pages.Figure("Tags", known.images),
            pages.Figure("Size", pages.Size(known.size), "each blob once"),
            pages.Figure("Pulls", known.pulls),
            pages.Figure("Updated", pages.Moment(known.updated_at) if known.updated_at else None),
        )
        days = await self._finding.days(name, int(time.time()) // DAY - DAYS)
        pulls = pages.Series("Pulls", [(row.day * float(DAY), float(row.pulls)) for row in days])
        return (
            pages.Figures(figures),
            pages.Table("Tags", columns, tags, "It has no tags.", more),
            pages.Plot(f"Pulls of {DAYS} days", "pulls", (pulls,)),
        )


def _sorted(text: str, sort: Sort, now: Sort, prefix: str) -> pages.Link | str:
    """Returns the head of a column, which leads to the list in its order."""
    return text if sort == now else pages.Link(text, with_query(REPOSITORIES, begins=prefix, sort=sort))
