"""Background work that only one process of all that share a database may do at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from drift_core.errors import Unavailable
from drift_core.metadata.database import Database
from drift_core.metadata.outbox import hold_lease, release_lease

LEASE_SECONDS = 30.0
"""How long others wait for a holder that says nothing any more."""

CANCEL_SECONDS = 1.0
"""Between two cancellations of work that does not end."""

RENEW_SECONDS = 10.0
"""Between two renewals, and between two attempts; each is a commit, which every cache of queries notices."""


async def run_while_held(database: Database, name: str, holder: str, work: Callable[[], Awaitable[None]]) -> None:
    """Runs ``work`` whenever ``holder`` has the lease ``name``, until cancelled; cancels it when the lease is lost.

    ``holder`` is unique to a process, or to those of one start that follow each other: the next has the lease at once.
    """
    log = structlog.get_logger("drift.lease", lease=name, holder=holder)
    held_until, task = 0.0, None
    try:
        while True:
            asked = time.monotonic()
            try:
                # No longer than it takes to end the work in time: a database may keep us waiting.
                async with asyncio.timeout(None if task is None else held_until - RENEW_SECONDS - asked):
                    held = await database.write(lambda db: hold_lease(db, name, holder, LEASE_SECONDS))
                held_until = asked + LEASE_SECONDS if held else 0.0
            except Unavailable as error:
                log.warning("cannot renew the lease now", error=error.message)
            except TimeoutError:
                log.warning("cannot renew the lease in time")
            if task is None and held_until > asked:
                task = asyncio.ensure_future(work())
            # Others take over at the end of the lease: to stop one renewal earlier leaves no moment for two.
            elif task is not None and held_until - RENEW_SECONDS < time.monotonic():
                log.warning("the lease is lost")
                await _cancel(task)
                task = None
            if task is None:
                await asyncio.sleep(RENEW_SECONDS)
            else:
                await asyncio.wait([task], timeout=RENEW_SECONDS)
                if task.done():
                    await task
    finally:
        if task is not None:
            await _cancel(task)
            with suppress(Unavailable):
                await database.write(lambda db: release_lease(db, name, holder))


async def _cancel(task: "asyncio.Future[None]") -> None:
    # A plugin within it may swallow a cancellation, but not for ever.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
