"""The page of the console: the last runs, and for a repository which rule keeps or drops each tag."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from drift_core.api import pages
from drift_retention.explaining import explain
from drift_retention.judging import Judged
from drift_retention.runs import Run, load

if TYPE_CHECKING:
    from drift_retention.retention import Retention

SHOWN: Final = 200
"""Tags that are listed: those that would be dropped come first."""


def pages_over(retention: "Retention") -> Sequence[pages.Page]:
    """Returns the page, which needs what the commands need: everything."""

    async def live(_: pages.Asked) -> Sequence[pages.Told]:
        runs = [
            _run(name, run)
            for name, dry_run in (("dropping", False), ("dry run", True))
            if (run := await retention.records.read(partial(load, dry_run=dry_run))) is not None
        ]
        columns = ("Run", "Began", "Ended", "Repositories", "Tags", "Dropped", "May not be deleted", "Failed")
        return (pages.Table("Last runs", columns, runs, "It has not run yet."),)

    async def show(asked: pages.Asked) -> Sequence[pages.Block]:
        repository, tag = asked.query.get("repository", "").strip(), asked.query.get("tag", "").strip()
        fields = (
            pages.Field("repository", "Repository", value=repository, required=True),
            pages.Field("tag", "Tag", value=tag, hint="all of them unless one is named"),
        )
        form = pages.Form("Which rule keeps or drops each tag, now", "Explain", fields)
        return [form, *(await _explain(retention, repository, tag))] if repository else [form]

    return [pages.Page("/retention", "Retention", show, "Retention", live=live)]


async def _explain(retention: "Retention", repository: str, tag: str) -> Sequence[pages.Block]:
    every = await explain(retention, repository)
    dropped = sum(not one.kept for one in every)
    wanted = [one for one in every if tag in ("", one.tag)]
    wanted.sort(key=lambda one: one.kept)
    figures = (
        pages.Figure("Tags", len(every)),
        pages.Figure("Would be dropped", dropped),
        pages.Figure("Shown below", min(len(wanted), SHOWN), f"of {len(wanted)}"),
    )
    rows = [row for one in wanted[:SHOWN] for row in _rows(one)]
    return (
        pages.Figures(figures),
        pages.Table(f"Tags of {repository}", ("Tag", "", "Rule", "Says"), rows, "There is no such tag."),
    )


def _rows(judged: Judged) -> Sequence[Sequence[pages.Cell]]:
    verdict = pages.State("kept", "good") if judged.kept else pages.State("dropped", "bad")
    rows: list[Sequence[pages.Cell]] = []
    for finding in judged.findings:
        named = (None, None) if rows else (judged.tag, verdict)
        rows.append((*named, finding.rule, f"{finding.reason}: keeps it" if finding.keeps else finding.reason))
    return rows


def _run(name: str, run: Run) -> Sequence[pages.Cell]:
    moments = (pages.Moment(run.began_at), pages.Moment(run.ended_at))
    return (name, *moments, run.repositories, run.tags, run.dropped, run.refused, run.failed)
