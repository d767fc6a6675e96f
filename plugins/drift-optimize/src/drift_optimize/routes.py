"""The routes below ``/admin/optimize``: have images worked on, and see what came of it."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from msgspec import Struct

from drift_optimize import jobs, results
from drift_optimize.jobs import Job, State
from drift_optimize.lineage import Standing

if TYPE_CHECKING:
    from drift_optimize.optimization import Optimization

MOST = 500
"""Most jobs of one answer."""

PATH = "/admin/optimize"


class Wanted(Struct, forbid_unknown_fields=True):
    """The body of a wish: a manifest by tag or digest; without a reference every tag of the repository."""

    repository: str
    reference: str | None = None


class Asked(Struct, frozen=True):
    """The jobs that were made of a wish."""

    jobs: Sequence[int]


class Status(Struct, frozen=True):
    """The policy, how many jobs wait and are worked on, and the newest jobs."""

    policy: dict[str, Any]
    pending: int
    optimizing: int
    jobs: Sequence[Job]


def routes_over(feature: "Optimization") -> Sequence[Any]:
    """Returns the handlers, which need the scope ``registry:*:*``."""

    @post(PATH, status_code=202, answers=Asked)
    async def ask(data: Wanted) -> Response[bytes]:
        """Makes images jobs that are due now."""
        return _json(Asked(await feature.ask_for(data.repository, data.reference)), 202)

    @get(f"{PATH}/status", answers=Status)
    async def status(
        wanted: Annotated[State | None, Parameter(query="state")] = None,
        before: int | None = None,
        limit: Annotated[int, Parameter(ge=1, le=MOST)] = 50,
    ) -> Response[bytes]:
        """Answers the policy and a page of jobs, the newest first; the next one is that ``before`` its last id."""
        counts = await feature.records.read(jobs.open_counts)
        page = await feature.records.read(partial(jobs.latest, state=wanted, before=before, limit=limit))
        return _json(Status(feature.policy(), counts["pending"], counts["optimizing"], page))

    @get(f"{PATH}/stats", answers=results.Stats)
    async def stats() -> Response[bytes]:
        """Answers the sums over all layers that were looked at."""
        return _json(await feature.records.read(results.stats))

    @get(f"{PATH}/bases", answers=list[Standing])
    async def bases(repository: str, reference: str) -> Response[bytes]:
        """Answers on which base the image of each platform stands, and which bases have moved on since."""
        return _json(await feature.standing(repository, reference))

    @get(f"{PATH}/jobs/{{job:int}}", answers=Job)
    async def one(job: int) -> Response[bytes]:
        """Answers one job."""
        found = await feature.records.read(partial(jobs.find, job=job))
        if found is None:
            raise NotFoundException(f"there is no job {job}")
        return _json(found)

    @delete(f"{PATH}/jobs/{{job:int}}", status_code=204)
    async def cancel(job: int) -> None:
        """Cancels a job that has not ended; one that is worked on stops within seconds."""
        if not await feature.records.write(partial(jobs.cancel, job=job)):
            raise NotFoundException(f"there is no job {job} that has not ended")

    return [ask, status, stats, bases, one, cancel]


def _json(answer: object, status: int = 200) -> Response[bytes]:
    headers = {"cache-control": "no-store"}
    content = msgspec.json.encode(answer, enc_hook=str)
    return Response(content, status_code=status, media_type="application/json", headers=headers)
