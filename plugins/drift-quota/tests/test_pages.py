"""The page of the console, asked directly: its values, and the right of the route."""

from typing import Any

from drift_quota.ledger import append, count, mark_complete
from sqlalchemy import Connection

from drift_core.api import EVERYTHING, Identity, SupportsPages, pages

from .conftest import OpenQuota, link

ASKED = pages.Asked(Identity("ann", "test"), {}, {}, {}, "registry.example")


async def test_who_holds_how_much(open_feature: OpenQuota) -> None:
    keys = {"organizations": {"team": 100}, "repositories": {"team/app": 90, "other/small": 100}}
    async with open_feature(**keys) as quota:
        assert isinstance(quota, SupportsPages)
        (page,) = quota.pages()
        assert (page.path, page.menu, page.acts) == ("/quota", "Quotas", {})

        def fill(db: Connection) -> None:
            for name, size in (("team/app", 81), ("team/tool", 25), ("other/small", 10), ("other/free", 5)):
                link(db, name, size)
                append(db, name, size)
                count(db, name)

        await quota.records.write(fill)
        figures, organizations, repositories = await page.show(ASKED)
        assert isinstance(figures, pages.Figures)
        assert [one.value for one in figures.figures] == [pages.State("not all is counted yet", "warning"), 1]
        assert isinstance(organizations, pages.Table)
        assert organizations.rows == [
            ("team", pages.Size(106), pages.Size(100), pages.State("106%", "bad")),
            ("other", pages.Size(15), "none", None),
        ]
        assert isinstance(repositories, pages.Table)
        assert repositories.rows == [
            ("team/app", pages.Size(81), pages.Size(90), pages.State("90%", "warning")),
            ("team/tool", pages.Size(25), "none", None),
            ("other/small", pages.Size(10), pages.Size(100), pages.State("10%", "good")),
            ("other/free", pages.Size(5), "none", None),
        ]
        await quota.records.write(mark_complete)
        figures, *_ = await page.show(ASKED)
        assert isinstance(figures, pages.Figures)
        assert figures.figures[0].value == pages.State("complete", "good")


async def test_it_needs_what_the_route_needs(open_feature: OpenQuota) -> None:
    async with open_feature() as quota:
        (page,), (route,) = quota.pages(), quota.routes()
        options: dict[str, Any] = route.opt
        assert page.needs == options.get("scope", EVERYTHING)
        assert not options.get("public")
