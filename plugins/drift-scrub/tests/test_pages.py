"""The page of the console, asked directly: its values, its bound, and who may see it."""

from functools import partial
from typing import Any

from drift_scrub import pages as ours
from drift_scrub.passes import Pass, finish

from drift_core.api import EVERYTHING, Digest, Identity, SupportsPages, SupportsRegistry, pages

from .conftest import OpenScrub, Shelf

ASKED = pages.Asked(Identity("ann", "test"), {}, {}, {}, "registry.example")


async def test_what_is_in_quarantine(open_feature: OpenScrub, monkeypatch: Any) -> None:
    monkeypatch.setattr(ours, "SHOWN", 2)
    shelf: Any = Shelf()
    async with open_feature() as scrub:
        assert isinstance(scrub, SupportsPages)
        assert isinstance(scrub, SupportsRegistry)
        scrub.use(shelf)
        (page,) = scrub.pages()
        assert page.live is not None
        assert (page.path, page.menu, page.needs, page.acts) == ("/scrub", "Integrity", EVERYTHING, {})
        figures, passes, table = await page.live(ASKED)
        assert isinstance(figures, pages.Figures)
        assert [one.value for one in figures.figures] == [0, pages.State("nothing is damaged", "good")]
        assert isinstance(passes, pages.Table)
        assert isinstance(table, pages.Table)
        assert (passes.rows, table.rows) == ([], [])

        digests = [Digest.of(b"%d" % number) for number in range(3)]
        for digest in digests[:2]:
            await shelf.quarantine(digest, "its bytes are others")
        done = Pass(began_at=7.0, updated_at=8.0, checked=5, bytes_read=50, damaged=2, unreadable=1)
        await scrub.records.write(partial(finish, pass_=done))
        figures, passes, table, _ = await page.live(ASKED)
        assert isinstance(figures, pages.Figures)
        assert [one.value for one in figures.figures] == [2, pages.State("damage was found", "bad")]
        assert isinstance(passes, pages.Table)
        ((name, began, _, *numbers),) = passes.rows
        assert (name, began, numbers) == ("last complete", pages.Moment(7.0), [5, pages.Size(50), 2, 1])
        assert isinstance(table, pages.Table)
        expected = [
            (pages.Copied(digest, digest[:19]), pages.Moment(0.0), "its bytes are others")
            for digest in sorted(digests[:2])
        ]
        assert table.rows == expected

        await shelf.quarantine(digests[2], "it is gone")
        figures, _, table, _ = await page.live(ASKED)
        assert isinstance(figures, pages.Figures)
        assert isinstance(table, pages.Table)
        assert (figures.figures[0].value, len(table.rows)) == ("more than 2", 2)
