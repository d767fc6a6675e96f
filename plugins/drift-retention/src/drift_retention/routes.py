"""The route ``/api/retention/explain``: which rule keeps or drops each tag."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from litestar import Response, get
from litestar.params import Parameter
from msgspec import Struct

from drift_retention.explaining import TagUnknown, explain
from drift_retention.judging import Finding, Judged

if TYPE_CHECKING:
    from drift_retention.retention import Retention

MOST: Final = 1000
"""Most tags of one answer."""

Repository = Annotated[str, Parameter(max_length=255, pattern=r"^[a-z0-9._/-]+$")]
Tag = Annotated[str | None, Parameter(max_length=128)]


class Explained(Struct, frozen=True):
    """Whether a tag is kept, what every rule says of it, and in ``reason`` what keeps it, or that nothing does."""

    tag: str
    digest: str
    kept: bool
    findings: Sequence[Finding]
    reason: str


class Explanation(Struct, frozen=True):
    """How many tags a repository has and how many a run would drop now, and a page of them by name.

    ``last`` is that of the next page, None where there is none.
    """

    repository: str
    total: int
    dropped: int
    tags: list[Explained]
    last: str | None


def routes_over(retention: "Retention") -> Sequence[Any]:
    """Returns the handler, which needs what the page of the console needs: the scope ``registry:*:*``."""

    @get("/api/retention/explain", answers=Explanation)
    async def explained(
        repository: Repository,
        tag: Tag = None,
        limit: Annotated[int, Parameter(ge=1, le=MOST)] = 100,
        last: Annotated[str, Parameter(max_length=128)] = "",
    ) -> Response[bytes]:
        """Says for each tag of a repository, or for one, whether it is kept, and what every rule says; drops nothing.

        A page has ``limit`` tags behind the tag ``last``. A repository of more than ten thousand is refused.
        """
        every = await explain(retention, repository)
        if tag is not None and not any(one.tag == tag for one in every):
            raise TagUnknown(name=repository, tag=tag)
        wanted = [one for one in every if (one.tag > last if tag is None else one.tag == tag)]
        page = [_explained(one) for one in wanted[:limit]]
        dropped = sum(not one.kept for one in every)
        found = Explanation(repository, len(every), dropped, page, page[-1].tag if len(wanted) > limit else None)
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(found), media_type="application/json", headers=headers)

    return [explained]


def _explained(judged: Judged) -> Explained:
    return Explained(judged.tag, str(judged.digest), judged.kept, judged.findings, judged.reason)
