"""The page of the console: how far the reading has come, and what is in quarantine."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from drift_core.api import pages
from drift_scrub.passes import Pass, load

if TYPE_CHECKING:
    from drift_scrub.scrub import Scrub

SHOWN = 200
"""Blobs in quarantine that are listed; the command has all."""


def pages_over(scrub: "Scrub") -> Sequence[pages.Page]:
    """Returns the page, which needs what the commands need: everything."""

    async def rest(_: pages.Asked) -> Sequence[pages.Block]:
        return ()

    async def live(_: pages.Asked) -> Sequence[pages.Told]:
        current = await scrub.records.read(partial(load, name="current"))
        last = await scrub.records.read(partial(load, name="last"))
        rows: list[Sequence[pages.Cell]] = []
        more = False
        async for one in scrub.registry.quarantined():
            if len(rows) == SHOWN:
                more = True
                break
            rows.append((pages.Copied(str(one.digest), str(one.digest)[:19]), pages.Moment(one.since), one.reason))
        number = f"more than {SHOWN}" if more else len(rows)
        state = pages.State("damage was found", "bad") if rows else pages.State("nothing is damaged", "good")
        every = [_row(name, pass_) for name, pass_ in (("current", current), ("last complete", last)) if pass_]
        columns = ("Pass", "Began", "As of", "Blobs", "Read", "Damaged", "Unreadable")
        told = "Clients do not get these until somebody pushes them again. `drift scrub status` has all of them."
        return (
            pages.Figures((pages.Figure("In quarantine", number), pages.Figure("State", state))),
            pages.Table("Passes over what is stored", columns, every, "Nothing was read yet."),
            pages.Table("In quarantine", ("Blob", "Since", "Reason"), rows, "Nothing is in quarantine."),
            *((pages.Text(told),) if rows else ()),
        )

    return [pages.Page("/scrub", "Integrity", rest, "Integrity", live=live)]


def _row(name: str, pass_: Pass) -> Sequence[pages.Cell]:
    return (
        name,
        pages.Moment(pass_.began_at),
        pages.Moment(pass_.updated_at),
        pass_.checked,
        pages.Size(pass_.bytes_read),
        pass_.damaged,
        pass_.unreadable,
    )
