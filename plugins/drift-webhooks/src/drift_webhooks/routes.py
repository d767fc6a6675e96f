"""The routes below ``/admin/webhooks``: what waits, what was put aside, and another try of that."""

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from litestar import get, post
from litestar.params import Parameter
from msgspec import Struct

from drift_webhooks.config import Target
from drift_webhooks.queue import MOST, Aside, aside, counted, retry

if TYPE_CHECKING:
    from drift_webhooks.webhooks import Webhooks


class Status(Struct, frozen=True):
    """A target, how many events wait for it and were put aside, and why the last one that it did not take."""

    name: str
    url: str
    signed: bool
    actions: Sequence[str]
    repositories: Sequence[str]
    waiting: int
    aside: int
    problem: str


class Retried(Struct, frozen=True):
    """How many events are sent again."""

    events: int


async def statuses(webhooks: "Webhooks") -> list[Status]:
    """Returns how it stands with each target. Raises `Unavailable`."""
    targets = webhooks.config.targets
    every = await webhooks.records.read(partial(counted, targets=list(targets)))
    return [_status(targets[one.target], one.target, one.waiting, one.aside, one.problem) for one in every]


def _status(target: Target, name: str, waiting: int, aside: int, problem: str) -> Status:
    signed = target.secret is not None
    return Status(name, target.url, signed, target.actions, target.repositories, waiting, aside, problem)


def routes_over(webhooks: "Webhooks") -> Sequence[Any]:
    """Returns the handlers, all of which need the scope ``registry:*:*``."""

    @get("/admin/webhooks")
    async def status() -> list[Status]:
        """Says how it stands with each target."""
        return await statuses(webhooks)

    @get("/admin/webhooks/aside")
    async def put_aside(
        target: str | None = None, limit: Annotated[int, Parameter(ge=1, le=MOST)] = MOST
    ) -> list[Aside]:
        """Lists the events of which targets could not be told, the newest first."""
        return await webhooks.records.read(partial(aside, target=target, most=limit))

    @post("/admin/webhooks/retry", status_code=200)
    async def again(target: str | None = None, event: int | None = None) -> Retried:
        """Sends what was put aside again: of all targets or one, all events or one."""
        change = partial(retry, target=target, event_id=event, now=time.time())
        return Retried(await webhooks.records.write(change))

    return [status, put_aside, again]
