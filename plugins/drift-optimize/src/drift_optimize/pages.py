"""The pages of the console: what is worked on, what came of it, and what is saved."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, get_args
from urllib.parse import urlencode

from drift_core.api import RegistryError, pages
from drift_optimize import jobs, results
from drift_optimize.jobs import Job, State

if TYPE_CHECKING:
    from drift_optimize.optimization import Optimization

SHOWN: Final = 50
"""Jobs of a page."""

PATH: Final = "/optimization"
STATES: Final = tuple(get_args(State))
KINDS: Final[Mapping[State, Literal["good", "bad"]]] = {"optimized": "good", "failed": "bad"}


class JobUnknown(RegistryError):
    """There is no such job, or it has ended."""

    code, status, text = "JOB_UNKNOWN", 404, "there is no such job"


def pages_over(feature: "Optimization") -> Sequence[pages.Page]:
    """Returns the pages, which need what the routes need: everything."""
    every, one = _Jobs(feature), _Job(feature)
    return [
        pages.Page(
            PATH,
            "Optimization",
            every.show,
            "Optimization",
            acts={"start": pages.Act(every.start), "sums": pages.Act(every.sums)},
            live=every.live,
        ),
        pages.Page(f"{PATH}/jobs/{{job}}", "Job", one.show, acts={"cancel": pages.Act(one.cancel)}, live=one.live),
    ]


class _Jobs:
    def __init__(self, feature: "Optimization") -> None:
        self._feature = feature

    async def live(self, asked: pages.Asked) -> Sequence[pages.Told]:
        records, query = self._feature.records, asked.query
        state, before = _state(query.get("state", "")), pages.number(query.get("before", ""))
        counts = await records.read(jobs.open_counts)
        page = await records.read(partial(jobs.latest, state=state, before=before, limit=SHOWN + 1))
        shown = page[:SHOWN]
        more = None
        if len(page) > SHOWN:
            further = {"before": str(shown[-1].id)} | ({"state": state} if state else {})
            more = pages.Link("Older jobs", f"{PATH}?{urlencode(further)}")
        figures = (
            pages.Figure("Waiting", counts["pending"]),
            pages.Figure("Worked on", counts["optimizing"]),
            pages.Figure("Saved by the jobs below", pages.Size(max(0, sum(job.saved for job in shown)))),
        )
        columns = ("Job", "Repository", "Tags", "State", "Asked", "Ended", "Saved", "")
        table = pages.Table("Jobs", columns, list(map(_row, shown)), "Nothing was asked for yet.", more)
        return (pages.Figures(figures), table)

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        state = _state(asked.query.get("state", ""))
        filters = (pages.Field("state", "State", "choice", state or "", ("", *STATES)),)
        return (
            pages.Form("Show jobs of one state", "Show", filters),
            pages.Form("What is saved in all", "Add up all layers", act="sums"),
            pages.Form("Work on images now", "Start", _START, "start"),
            pages.Facts("Policy", [(name, _said(value)) for name, value in sorted(self._feature.policy().items())]),
        )

    async def sums(self, _: pages.Asked) -> pages.Done:
        """Every layer that was ever looked at is read for these, so that somebody has to ask."""
        found = await self._feature.records.read(results.stats)
        kinds = sorted(found.optimization_results.items())
        rows = [(kind, sums["count"], pages.Size(max(0, sums["total_savings"]))) for kind, sums in kinds]
        figures = (
            pages.Figure("Layers", found.total_layers, f"of which {found.optimized_layers} have another form"),
            pages.Figure("Their bytes", pages.Size(found.total_original_size)),
            pages.Figure("Saved", pages.Size(max(0, found.total_savings)), f"ratio {found.compression_ratio:g}"),
        )
        table = pages.Table("By kind", ("Kind", "Layers", "Saved"), rows)
        return pages.Done("All layers are added up.", found=(pages.Figures(figures), table))

    async def start(self, asked: pages.Asked) -> pages.Done:
        repository, reference = asked.form.get("repository", "").strip(), asked.form.get("reference", "").strip()
        made = await self._feature.ask_for(repository, reference or None)
        return pages.Done(f"{len(made)} images of {repository} are worked on as soon as somebody is free.")


_START: Final = (
    pages.Field("repository", "Repository", required=True),
    pages.Field("reference", "Tag or digest", hint="every tag unless one is named"),
)


class _Job:
    def __init__(self, feature: "Optimization") -> None:
        self._feature = feature

    async def live(self, asked: pages.Asked) -> Sequence[pages.Told]:
        job = await self._find(asked)
        began = None if job.began_at is None else pages.Moment(job.began_at)
        ended = None if job.ended_at is None else pages.Moment(job.ended_at)
        rows: list[tuple[str, pages.Cell]] = [
            ("Repository", job.repository),
            ("Manifest", pages.Copied(job.digest)),
            ("Tags", job.tag),
            ("State", _word(job.state)),
            ("Asked", pages.Moment(job.created_at)),
            ("Began", began),
            ("Ended", ended),
            ("Attempts", job.attempts),
            ("Read", pages.Size(job.bytes_done)),
            ("To be read", pages.Size(job.bytes_total)),
            ("Saved", pages.Size(max(0, job.saved))),
            ("Why", job.message or None),
        ]
        return (pages.Facts(f"Job {job.id}", rows),)

    async def show(self, asked: pages.Asked) -> Sequence[pages.Block]:
        going = (await self._find(asked)).state in jobs.OPEN
        return (pages.Form("Cancel this job", "Cancel", act="cancel", danger=True),) if going else ()

    async def cancel(self, asked: pages.Asked) -> pages.Done:
        job = await self._find(asked)
        if not await self._feature.records.write(partial(jobs.cancel, job=job.id)):
            raise JobUnknown(f"the job {job.id} has ended already")
        return pages.Done(f"The job {job.id} is cancelled; one that is worked on stops within seconds.")

    async def _find(self, asked: pages.Asked) -> Job:
        number = pages.number(asked.path["job"])
        job = None if number is None else await self._feature.records.read(partial(jobs.find, job=number))
        if job is None:
            raise JobUnknown
        return job


def _row(job: Job) -> Sequence[pages.Cell]:
    return (
        pages.Link(str(job.id), f"{PATH}/jobs/{job.id}"),
        job.repository,
        job.tag,
        _word(job.state),
        pages.Moment(job.created_at),
        None if job.ended_at is None else pages.Moment(job.ended_at),
        pages.Size(max(0, job.saved)),
        job.message or None,
    )


def _word(state: State) -> pages.State:
    return pages.State(state, KINDS.get(state, "neutral"))


def _state(text: str) -> State | None:
    return next((state for state in STATES if state == text), None)


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
