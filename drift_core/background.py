"""What goes on beside requests: each node says that it is there, and one of all expires uploads and delivers events."""

import asyncio

import structlog

from drift_core.config import ClusterConfig, Config
from drift_core.errors import RegistryError, Unavailable
from drift_core.metadata.database import Database
from drift_core.metadata.lease import BACKGROUND, Lease, run_while_held
from drift_core.metadata.nodes import Node, announce, forget_nodes, has_gone
from drift_core.registry.delivery import Delivery
from drift_core.registry.uploads import Uploads
from drift_core.runtime import Runtime

RESTART_SECONDS = 5.0
"""How long work that failed rests."""

EXPIRY_INTERVAL = 600.0
"""Seconds between two looks for uploads that have expired."""

FORGET_INTERVAL = 60.0
"""Seconds between two looks for nodes that are gone."""


async def work_in_background(runtime: Runtime, node: Node, config: Config) -> None:
    """Says that ``node`` is there, and does the background work whenever it has the lease for it; until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(announce(runtime.database, node, config.cluster))
        group.create_task(_lead(runtime, node, config))


async def _lead(runtime: Runtime, node: Node, config: Config) -> None:
    """Leads whenever nobody else does. Work that fails begins again: no request is answered the worse for it."""
    log = structlog.get_logger("drift.background")
    metrics = runtime.metrics

    async def work(lease: Lease) -> None:
        seconds = config.plugins.subscriber_seconds
        delivery = Delivery(runtime.database, lease, runtime.subscribers, seconds, metrics)
        metrics.lease_changes.inc()
        with metrics.leader.track_inprogress():
            async with asyncio.TaskGroup() as group:
                group.create_task(_expire_uploads(runtime.registry.uploads, lease))
                group.create_task(_forget_nodes(runtime.database, lease, config.cluster))
                group.create_task(delivery.run())

    while True:
        try:
            await run_while_held(runtime.database, BACKGROUND, node.id, work)
        except Exception as error:
            log.exception("the background work failed and begins again", error=str(error))
            await asyncio.sleep(RESTART_SECONDS)


async def _expire_uploads(uploads: Uploads, lease: Lease) -> None:
    log = structlog.get_logger("drift.uploads")
    while True:
        try:
            while expired := await uploads.expire(lease):
                log.info("ended expired uploads", count=expired)
        except RegistryError as error:
            log.warning("cannot end expired uploads now", error=error.message)
        await asyncio.sleep(EXPIRY_INTERVAL)


async def _forget_nodes(database: Database, lease: Lease, cluster: ClusterConfig) -> None:
    log = structlog.get_logger("drift.node")
    timeout = cluster.health_check_timeout_seconds
    while True:
        try:
            if await database.read(lambda db: has_gone(db, timeout)):
                log.info("forgot nodes that are gone", count=await lease.write(lambda db: forget_nodes(db, timeout)))
        except Unavailable as error:
            log.warning("cannot forget nodes that are gone now", error=error.message)
        await asyncio.sleep(FORGET_INTERVAL)
