"""The route ``/api/quota``: who holds how much."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.params import Parameter

from drift_core.api import Records
from drift_quota.limits import Limits
from drift_quota.report import MOST, Report, report


def routes_over(records: Records, limits: Limits) -> Sequence[Any]:
    """Returns the handler, which needs the scope ``registry:*:*``."""

    @get("/api/quota", answers=Report)
    async def quota(limit: Annotated[int, Parameter(ge=1, le=MOST)] = MOST) -> Response[bytes]:
        """Answers the ``limit`` organizations and repositories that hold the most."""
        found = await records.read(partial(report, limits=limits, most=limit))
        headers = {"cache-control": "no-store"}
        return Response(msgspec.json.encode(found), media_type="application/json", headers=headers)

    return [quota]
