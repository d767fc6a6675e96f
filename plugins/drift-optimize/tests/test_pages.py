"""The pages of the console, asked directly: jobs, savings, a start and a cancellation, and the rights of the routes."""

from functools import partial
from typing import Any

import pytest
from drift_optimize import jobs, results
from drift_optimize import pages as ours
from drift_optimize.config import OptimizationConfig
from drift_optimize.optimization import Optimization
from drift_optimize.pages import JobUnknown

from drift_core.api import EVERYTHING, Digest, Identity, ManifestUnknown, Records, SupportsPages, Tag, pages
from drift_core.conformance import services


class Shelf:
    """A registry of three tags, of which two name the same image."""

    def __init__(self) -> None:
        self.named = {"v1": Digest.of(b"1"), "latest": Digest.of(b"1"), "v2": Digest.of(b"2")}

    async def tagged(self, repository: str, tags: Any) -> dict[str, Digest]:
        return {tag: self.named[tag] for tag in tags if tag in self.named and repository == "team/app"}

    async def tags(self, repository: str) -> Any:
        for name, digest in sorted(self.named.items() if repository == "team/app" else ()):
            yield Tag(name, digest, 0.0, 0.0, None)


@pytest.fixture
def feature(records: Records) -> Optimization:
    config = OptimizationConfig(enabled=True, forms=())
    feature = Optimization(config, services("optimize", records=records))
    shelf: Any = Shelf()
    feature.use(shelf)
    assert isinstance(feature, SupportsPages)
    return feature


def asked(path: str = "", form: dict[str, str] | None = None, **query: str) -> pages.Asked:
    return pages.Asked(Identity("ann", "test"), {"job": path}, query, form or {}, "registry.example")


async def shown(page: pages.Page, question: pages.Asked) -> tuple[list[Any], pages.Table]:
    assert page.live is not None
    blocks = await page.live(question)
    (table,) = [one for one in blocks if isinstance(one, pages.Table) and one.title == "Jobs"]
    (figures,) = [one for one in blocks[:1] if isinstance(one, pages.Figures)]
    return [one.value for one in figures.figures], table


async def test_images_are_worked_on_and_cancelled(feature: Optimization) -> None:
    page, one = feature.pages()
    start, cancel = page.acts["start"], one.acts["cancel"]
    done = await start.do(asked(form={"repository": "team/app", "reference": ""}))
    assert done.message.startswith("2 images of team/app")
    await start.do(asked(form={"repository": "team/app", "reference": "v1"}))
    figures, table = await shown(page, asked())
    assert figures == [2, 0, pages.Size(0)]
    assert [row[1:4] for row in table.rows] == [
        ("team/app", "v2", pages.State("pending")),
        ("team/app", "latest v1", pages.State("pending")),
    ]
    link = table.rows[0][0]
    assert isinstance(link, pages.Link)
    number = link.text
    assert link.path == f"/optimization/jobs/{number}"
    assert one.live is not None
    (facts,), (form,) = await one.live(asked(number)), await one.show(asked(number))
    assert isinstance(facts, pages.Facts)
    assert isinstance(form, pages.Form)
    assert (dict(facts.rows)["Manifest"], form.act, form.danger) == (pages.Copied(Digest.of(b"2")), "cancel", True)
    assert "cancelled" in (await cancel.do(asked(number))).message
    assert await one.show(asked(number)) == (), "there is nothing left to cancel"
    (facts,) = await one.live(asked(number))
    assert isinstance(facts, pages.Facts)
    assert dict(facts.rows)["State"] == pages.State("cancelled")
    with pytest.raises(JobUnknown, match="has ended"):
        await cancel.do(asked(number))
    for wrong in ("0", "x", "9" * 30):
        with pytest.raises(JobUnknown):
            await one.show(asked(wrong))
        with pytest.raises(JobUnknown):
            await one.live(asked(wrong))
    for repository, reference in (("none", ""), ("team/app", "v3")):
        with pytest.raises(ManifestUnknown):
            await start.do(asked(form={"repository": repository, "reference": reference}))


async def test_jobs_by_state_and_page(feature: Optimization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "SHOWN", 2)
    page, _ = feature.pages()
    for number in range(5):
        await feature.ask("team/app", Digest.of(b"%d" % number), f"v{number}")
    job = await feature.records.write(partial(jobs.take, now=1.0))
    assert job is not None
    await feature.records.write(partial(jobs.end, job=job.id, state="optimized", message="", saved=7))
    figures, table = await shown(page, asked())
    assert (figures[0], len(table.rows)) == (4, 2)
    assert table.more is not None
    before = table.more.path.partition("before=")[2]
    _, table = await shown(page, asked(before=before))
    assert [row[2] for row in table.rows] == ["v2", "v1"]
    figures, table = await shown(page, asked(state="optimized"))
    assert ([row[2:4] for row in table.rows], table.more) == ([("v0", pages.State("optimized", "good"))], None)
    assert figures[2] == pages.Size(7)


async def test_all_layers_are_added_up_only_when_somebody_asks(
    feature: Optimization, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = results.Stats(
        total_layers=9,
        optimized_layers=4,
        total_original_size=1000,
        total_optimized_size=600,
        total_savings=400,
        compression_ratio=0.5,
        optimization_results={"compression": {"count": 4, "total_savings": 400}},
    )
    read: list[int] = []
    monkeypatch.setattr(results, "stats", lambda _: read.append(1) or sums)
    page, _ = feature.pages()
    await page.show(asked())
    assert read == [], "it reads every row"
    found = (await page.acts["sums"].do(asked())).found
    (table,) = [one for one in found if isinstance(one, pages.Table) and one.title == "By kind"]
    assert (table.rows, read) == ([("compression", 4, pages.Size(400))], [1])


@pytest.mark.filterwarnings("ignore:Deprecated 'query' parameter")
@pytest.mark.parametrize(
    ("path", "act", "method", "route"),
    [
        ("/optimization", None, "GET", "/admin/optimize/status"),
        ("/optimization", "sums", "GET", "/admin/optimize/stats"),
        ("/optimization", "start", "POST", "/admin/optimize"),
        ("/optimization/jobs/{job}", None, "GET", "/admin/optimize/jobs/{job:int}"),
        ("/optimization/jobs/{job}", "cancel", "DELETE", "/admin/optimize/jobs/{job:int}"),
    ],
)
async def test_each_needs_what_its_route_needs(
    feature: Optimization, path: str, act: str | None, method: str, route: str
) -> None:
    (page,) = [one for one in feature.pages() if one.path == path]
    (handler,) = [one for one in feature.routes() if route in one.paths and method in one.http_methods]
    assert (page if act is None else page.acts[act]).needs == handler.opt.get("scope", EVERYTHING)
    assert not handler.opt.get("public")
