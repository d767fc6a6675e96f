"""Background work that only one process of all that share a database may do at a time, and nothing of it too late."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog
from msgspec import Struct
from sqlalchemy import Connection, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from drift_core.errors import Unavailable
from drift_core.metadata.clock import now
from drift_core.metadata.database import Database
from drift_core.metadata.tables import leases

T = TypeVar("T")

BACKGROUND = "background"
"""The lease for what is done beside requests; whoever has it is the leader."""

CANCEL_SECONDS = 1.0
"""Between two cancellations of work that does not end."""

RELEASE_SECONDS = 5.0
"""How long a process that ends waits for the database, to give the lease back."""


class Times(Struct, frozen=True):
    """Seconds after which a lease ends that is not renewed, and between two renewals, or two attempts to take it."""

    lasts: float
    renew: float


SEVERAL_NODES = Times(lasts=6.0, renew=2.0)

ONE_MACHINE = Times(lasts=30.0, renew=10.0)
"""Each renewal is a commit, which every cache of queries notices; whoever is started again has the lease at once."""


def take(db: Connection, name: str, holder: str, seconds: float) -> int | None:
    """Takes a lease for ``seconds`` and returns its epoch; None where another holder has it.

    The epoch grows each time that a lease is taken, so that whoever had it before can tell, even under the same name:
    the fencing token of M. Kleppmann, "How to do distributed locking".
    """
    row = upsert(leases).values(name=name, holder=holder, epoch=1, expires_at=now() + seconds)
    free = or_(leases.c.holder == holder, leases.c.expires_at < now())
    change = {"holder": holder, "epoch": leases.c.epoch + 1, "expires_at": now() + seconds}
    taken = row.on_conflict_do_update(index_elements=["name"], set_=change, where=free).returning(leases.c.epoch)
    epoch: int | None = db.execute(taken).scalar()
    return epoch


def may_be_taken(db: Connection, name: str, holder: str) -> bool:
    """Says whether `take` would succeed now, without a change that others would notice."""
    other = select(leases.c.name).where(leases.c.name == name, leases.c.holder != holder, leases.c.expires_at >= now())
    return db.execute(other).first() is None


def renew(db: Connection, name: str, epoch: int, seconds: float) -> bool:
    """Makes a lease last for ``seconds`` from now; False where somebody else has taken it since."""
    mine = (leases.c.name == name) & (leases.c.epoch == epoch)
    return db.execute(update(leases).where(mine).values(expires_at=now() + seconds)).rowcount > 0


def release(db: Connection, name: str, holder: str) -> None:
    """Gives a lease back, so that another need not wait for its end. The row stays, since its epoch must only grow."""
    db.execute(update(leases).where(leases.c.name == name, leases.c.holder == holder).values(expires_at=0.0))


def is_held(db: Connection, name: str, epoch: int) -> bool:
    """Says whether nobody has taken a lease since, and holds that off until the end of this transaction."""
    # Of PostgreSQL; a change of SQLite is alone anyway. Who takes the lease waits for this lock, and this for theirs.
    query = select(leases.c.name).where(leases.c.name == name, leases.c.epoch == epoch).with_for_update(read=True)
    return db.execute(query).first() is not None


class Lease:
    """A lease that was taken. Its holder makes every change by it: none is committed after somebody else took it.

    That holds however long the holder was stopped, and whatever clocks say. What it does outside of the database may
    happen after that, beside the next holder: it must be harmless to do twice.
    """

    def __init__(self, database: Database, name: str, epoch: int) -> None:
        self._database = database
        self.name = name
        self.epoch = epoch
        self.lost = asyncio.get_running_loop().create_future()
        """Done when a change found out that somebody else has taken the lease."""

    async def write(self, change: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Returns ``change(connection)`` like `Database.write`; raises `Unavailable` where the lease is lost."""
        held = True

        def fenced(db: Connection) -> T:
            nonlocal held
            held = is_held(db, self.name, self.epoch)
            if not held:
                raise Unavailable("another process has the lease now", lease=self.name, epoch=self.epoch)
            return change(db)

        try:
            return await self._database.write(fenced, durable=durable)
        finally:
            if not held and not self.lost.done():
                self.lost.set_result(None)


async def run_while_held(database: Database, name: str, holder: str, work: Callable[[Lease], Awaitable[None]]) -> None:
    """Runs ``work`` whenever ``holder`` has the lease ``name``, until cancelled; cancels it when the lease is lost.

    ``holder`` is unique to a process, or to those of one start that follow each other: the next has the lease at once.
    An exception of ``work`` comes out here.
    """
    log = structlog.get_logger("drift.lease", lease=name, holder=holder)
    times = SEVERAL_NODES if database.several_nodes else ONE_MACHINE
    try:
        while True:
            asked, epoch = time.monotonic(), None
            try:
                if await database.read(lambda db: may_be_taken(db, name, holder)):
                    epoch = await database.write(lambda db: take(db, name, holder, times.lasts))
            except Unavailable as error:
                log.warning("cannot take the lease now", error=error.message)
            if epoch is None:
                await asyncio.sleep(times.renew)
            else:
                log.info("the lease is taken", epoch=epoch)
                await _run_until_lost(database, Lease(database, name, epoch), times, asked + times.lasts, work)
                log.warning("the lease is lost", epoch=epoch)
    finally:
        # A change that was cancelled while it took the lease may still be committed.
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await database.write(lambda db: release(db, name, holder))


async def _run_until_lost(
    database: Database, lease: Lease, times: Times, ends: float, work: Callable[[Lease], Awaitable[None]]
) -> None:
    log = structlog.get_logger("drift.lease", lease=lease.name, epoch=lease.epoch)
    task = asyncio.ensure_future(work(lease))
    try:
        # Others take over at the end of the lease: to stop one renewal earlier leaves hardly a moment for two.
        while ends - times.renew > time.monotonic():
            await asyncio.wait([task, lease.lost], timeout=times.renew, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            if lease.lost.done():
                break
            asked = time.monotonic()
            try:
                # No longer than it takes to end the work in time: a database may keep us waiting.
                async with asyncio.timeout(ends - times.renew - asked):
                    held = await database.write(lambda db: renew(db, lease.name, lease.epoch, times.lasts))
                ends = asked + times.lasts if held else 0.0
            except Unavailable as error:
                log.warning("cannot renew the lease now", error=error.message)
            except TimeoutError:
                log.warning("cannot renew the lease in time")
    finally:
        await _cancel(task)


async def _cancel(task: "asyncio.Future[None]") -> None:
    # A plugin within it may swallow a cancellation, but not for ever.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
