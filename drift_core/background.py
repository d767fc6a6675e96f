"""What goes on beside requests, in one process of all that share a database: expiry of uploads, delivery of events."""

import asyncio

import structlog

from drift_core.errors import RegistryError
from drift_core.metadata.lease import run_while_held
from drift_core.registry.delivery import Delivery
from drift_core.registry.uploads import Uploads
from drift_core.runtime import Runtime

LEASE = "background"

RESTART_SECONDS = 5.0
"""How long work that failed rests."""

EXPIRY_INTERVAL = 600.0
"""Seconds between two looks for uploads that have expired."""


async def work_in_background(runtime: Runtime, holder: str, subscriber_seconds: float) -> None:
    """Does the background work whenever ``holder``, a name of this process alone, has the lease; until cancelled.

    Work that fails begins again: no request is answered the worse for it.
    """
    log = structlog.get_logger("drift.background")

    async def work() -> None:
        delivery = Delivery(runtime.database, runtime.subscribers, subscriber_seconds, runtime.metrics)
        async with asyncio.TaskGroup() as group:
            group.create_task(_expire_uploads(runtime.registry.uploads))
            group.create_task(delivery.run())

    while True:
        try:
            await run_while_held(runtime.database, LEASE, holder, work)
        except Exception as error:
            log.exception("the background work failed and begins again", error=str(error))
            await asyncio.sleep(RESTART_SECONDS)


async def _expire_uploads(uploads: Uploads) -> None:
    log = structlog.get_logger("drift.uploads")
    while True:
        try:
            while expired := await uploads.expire():
                log.info("ended expired uploads", count=expired)
        except RegistryError as error:
            log.warning("cannot end expired uploads now", error=error.message)
        await asyncio.sleep(EXPIRY_INTERVAL)
