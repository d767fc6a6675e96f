"""The page of the console: who holds how much, and may hold."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from drift_core.api import pages
from drift_quota.report import Holder, report

if TYPE_CHECKING:
    from drift_quota.quota import Quota

SHOWN: Final = 100
"""Organizations, and repositories, that are listed: those that hold the most."""

WARNING: Final = 0.8
"""The share of a limit from which on it is to be looked at."""

COLUMNS: Final = ("Used", "Limit", "Share")


def pages_over(quota: "Quota") -> Sequence[pages.Page]:
    """Returns the page, which needs what the route needs: everything."""

    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        found = await quota.records.read(partial(report, limits=quota.limits, most=SHOWN))
        full = sum(one.share is not None and one.share >= 1 for one in (*found.organizations, *found.repositories))
        unknown = pages.State("not all is counted yet", "warning")
        counted = pages.State("complete", "good") if found.complete else unknown
        figures = (
            pages.Figure("Count", counted),
            pages.Figure("Full", full, f"of the {SHOWN} organizations and {SHOWN} repositories that hold the most"),
        )
        nothing = "Nothing is held yet."
        return (
            pages.Figures(figures),
            pages.Table("Organizations", ("Organization", *COLUMNS), list(map(_row, found.organizations)), nothing),
            pages.Table("Repositories", ("Repository", *COLUMNS), list(map(_row, found.repositories)), nothing),
        )

    return [pages.Page("/quota", "Quotas", show, "Quotas")]


def _row(holder: Holder) -> Sequence[pages.Cell]:
    if holder.limit is None:
        return holder.name, pages.Size(holder.used), "none", None
    return holder.name, pages.Size(holder.used), pages.Size(holder.limit), _share(holder.share)


def _share(share: float | None) -> pages.Cell:
    if share is None:
        return None
    if share >= 1:
        return pages.State(f"{share:.0%}", "bad")
    return pages.State(f"{share:.0%}", "warning" if share >= WARNING else "good")
