"""The page of the console: how it stands with each target, and what was put aside."""

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from drift_core.api import pages
from drift_webhooks.queue import aside, retry
from drift_webhooks.routes import statuses

if TYPE_CHECKING:
    from drift_webhooks.webhooks import Webhooks

SHOWN = 100
"""Events put aside that are listed; the command has more."""


def pages_over(webhooks: "Webhooks") -> Sequence[pages.Page]:
    """Returns the page, which needs what the routes need: everything."""

    async def live(_: pages.Asked) -> Sequence[pages.Told]:
        targets: list[Sequence[pages.Cell]] = []
        for one in await statuses(webhooks):
            told = ", ".join(one.actions)
            targets.append((one.name, one.url, told, one.signed, one.waiting, one.aside, one.problem))
        found = await webhooks.records.read(partial(aside, most=SHOWN))
        rows = [(one.target, one.event_id, one.attempts, pages.Moment(one.aside_at), one.problem) for one in found]
        columns = ("Target", "URL", "Told of", "Signed", "Waiting", "Aside", "Last problem")
        return (
            pages.Table("Targets", columns, targets, "No target is configured."),
            pages.Table("Put aside", ("Target", "Event", "Attempts", "Since", "Problem"), rows, "Everybody was told."),
        )

    async def show(_: pages.Asked) -> Sequence[pages.Block]:
        some = await webhooks.records.read(partial(aside, most=1))
        return (pages.Form("Send what was put aside again", "Send again", act="retry"),) if some else ()

    async def send_again(_: pages.Asked) -> pages.Done:
        number = await webhooks.records.write(partial(retry, target=None, event_id=None, now=time.time()))
        return pages.Done(f"{number} events are sent again.")

    return [pages.Page("/webhooks", "Webhooks", show, "Webhooks", acts={"retry": pages.Act(send_again)}, live=live)]
