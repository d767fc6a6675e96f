"""The page of the console, asked directly: which rule keeps or drops each tag, and nothing is dropped by it."""

import time
from functools import partial
from typing import Any

import pytest
from drift_retention import explaining
from drift_retention import pages as ours
from drift_retention.explaining import RepositoryUnknown
from drift_retention.retention import Retention
from drift_retention.runs import Run, save

from drift_core.api import EVERYTHING, Denied, Identity, SupportsPages, SupportsRegistry, pages

from .conftest import OpenRetention
from .shelf import DAY, Shelf, tag


def asked(**query: str) -> pages.Asked:
    return pages.Asked(Identity("ann", "test"), {}, query, {}, "registry.example")


def used(retention: Retention, *ages: int) -> tuple[pages.Page, Any]:
    """Lends a registry with tags that are so many days old, and returns the page with it."""
    shelf: Any = Shelf({"app": [tag(f"t{age}", time.time() - age * DAY) for age in ages]})
    assert isinstance(retention, SupportsRegistry)
    assert isinstance(retention, SupportsPages)
    retention.use(shelf)
    (page,) = retention.pages()
    return page, shelf


async def test_which_rule_keeps_or_drops_each_tag(open_feature: OpenRetention) -> None:
    async with open_feature(keep=[{"newest": 1}], min_age_days=2, protected=["t30"]) as retention:
        page, shelf = used(retention, 1, 10, 20, 30)
        assert (page.path, page.menu, page.needs, page.acts) == ("/retention", "Retention", EVERYTHING, {})
        assert page.live is not None
        (runs,), (form,) = await page.live(asked()), await page.show(asked())
        assert isinstance(runs, pages.Table)
        assert isinstance(form, pages.Form)
        assert (runs.rows, form.act) == ([], None), "it asks by its query, and changes nothing"

        _, figures, table = await page.show(asked(repository=" app "))
        assert isinstance(figures, pages.Figures)
        assert [one.value for one in figures.figures] == [4, 2, 4]
        assert isinstance(table, pages.Table)
        verdicts = [(row[0], row[1]) for row in table.rows if row[0] is not None]
        kept, dropped = pages.State("kept", "good"), pages.State("dropped", "bad")
        assert verdicts == [("t10", dropped), ("t20", dropped), ("t1", kept), ("t30", kept)]
        said = {str(row[2]): str(row[3]) for row in table.rows[-3:]}
        assert said["protected"] == "t30: keeps it"
        assert not said["keep[0] newest=1"].endswith("keeps it")
        assert shelf.names("app") == {"t1", "t10", "t20", "t30"}

        *_, table = await page.show(asked(repository="app", tag="t20"))
        assert isinstance(table, pages.Table)
        assert {row[0] for row in table.rows} == {"t20", None}


async def test_the_last_runs(open_feature: OpenRetention) -> None:
    async with open_feature(keep=[{"newest": 1}]) as retention:
        page, _ = used(retention)
        run = Run(began_at=1.0, ended_at=2.0, repositories=3, tags=4, dropped=5, refused=6, failed=7)
        await retention.records.write(partial(save, run=run, dry_run=True))
        assert page.live is not None
        (runs,) = await page.live(asked())
        assert isinstance(runs, pages.Table)
        assert runs.rows == [("dry run", pages.Moment(1.0), pages.Moment(2.0), 3, 4, 5, 6, 7)]


async def test_what_is_not_judged_while_somebody_waits(
    open_feature: OpenRetention, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_feature(keep=[{"newest": 1}]) as retention:
        page, _ = used(retention, 10, 20)
        with pytest.raises(RepositoryUnknown):
            await page.show(asked(repository="none"))
        monkeypatch.setattr(explaining, "MOST", 1)
        with pytest.raises(Denied, match="drift retention explain"):
            await page.show(asked(repository="app"))
        monkeypatch.setattr(explaining, "MOST", 2)
        monkeypatch.setattr(ours, "SHOWN", 1)
        *_, figures, table = await page.show(asked(repository="app"))
        assert isinstance(figures, pages.Figures)
        assert isinstance(table, pages.Table)
        assert (figures.figures[2].value, {row[0] for row in table.rows} - {None}) == (1, {"t20"})
