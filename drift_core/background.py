"""What goes on beside requests: each node says that it is there, and one of all does the rest.

That is to expire uploads, deliver events, collect garbage, purge the trash, and do the work of features.
"""

import asyncio
from collections import Counter
from typing import get_args

import structlog

from drift_core.config import ClusterConfig, Config
from drift_core.errors import RegistryError, Unavailable
from drift_core.metadata.cluster import Status
from drift_core.metadata.database import Database
from drift_core.metadata.lease import BACKGROUND, Lease, run_while_held
from drift_core.metadata.nodes import Node, announce, forget_nodes, has_gone
from drift_core.metadata.runs import seconds_since_last
from drift_core.model import PLUGIN, Identity
from drift_core.protocols.collection import SupportsSchedule
from drift_core.registry.delivery import Delivery
from drift_core.registry.local import Local
from drift_core.registry.uploads import Uploads
from drift_core.runtime import NamedWork, Runtime

RESTART_SECONDS = 5.0
"""How long work that failed rests."""

EXPIRY_INTERVAL = 600.0
"""Seconds between two looks for uploads that have expired."""

PURGE_INTERVAL = 60.0
"""Seconds between two looks for what cannot be restored any more, at most."""

PURGE_SHARE = 0.1
"""Of the time, for which a purge works: requests find the database and the disk free for the remainder."""

SCHEDULE_INTERVAL = 60.0
"""Seconds between two looks whether a collection is due, at most."""

FORGET_INTERVAL = 60.0
"""Seconds between two looks for nodes that are gone."""


STATE_INTERVAL = 5.0
"""Seconds between two looks at the nodes and at what waits, for the metrics."""


async def work_in_background(runtime: Runtime, node: Node, config: Config) -> None:
    """Says that ``node`` is there, and does the background work whenever it has the lease for it; until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(announce(runtime.database, node, config.cluster))
        group.create_task(_lead(runtime, node, config))


async def _lead(runtime: Runtime, node: Node, config: Config) -> None:
    """Leads whenever nobody else does. Work that fails begins again: no request is answered the worse for it."""
    log = structlog.get_logger("drift.background")
    metrics = runtime.metrics
    collector: object = runtime.registry.collecting.collector

    async def work(lease: Lease) -> None:
        seconds = config.plugins.subscriber_seconds
        delivery = Delivery(runtime.database, lease, runtime.subscribers, seconds, metrics)
        metrics.lease_changes.inc()
        with metrics.leader.track_inprogress():
            async with asyncio.TaskGroup() as group:
                group.create_task(_expire_uploads(runtime.registry.uploads, lease))
                group.create_task(_forget_nodes(runtime.database, lease, config.cluster))
                group.create_task(delivery.run())
                group.create_task(_purge(runtime, lease))
                group.create_task(_tell_state(runtime, config.cluster))
                if isinstance(collector, SupportsSchedule):
                    group.create_task(_collect(runtime, lease, collector))
                for one in runtime.works:
                    group.create_task(_work(runtime, one))

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


async def _purge(runtime: Runtime, lease: Lease) -> None:
    log = structlog.get_logger("drift.trash")
    while True:
        try:
            if count := await runtime.registry.trash.purge(lease.write, share=PURGE_SHARE):
                log.info("purged what cannot be restored any more", count=count)
        except RegistryError as error:
            log.warning("cannot purge now", error=error.message)
        await asyncio.sleep(min(PURGE_INTERVAL, runtime.registry.rules.lease / 2))


async def _collect(runtime: Runtime, lease: Lease, collector: SupportsSchedule) -> None:
    log = structlog.get_logger("drift.collection")
    while True:
        try:
            since = await runtime.database.read(seconds_since_last)
            if since is None or since >= collector.interval:
                dry_run = collector.dry_run or (collector.dry_first and since is None)
                async for _ in runtime.registry.collecting.run("schedule", None, dry_run=dry_run, write=lease.write):
                    pass
        except RegistryError as error:
            log.warning("a collection ended early", error=error.message)
        except Exception as error:
            log.exception("a collection failed", error=str(error))
        await asyncio.sleep(min(SCHEDULE_INTERVAL, collector.interval))


async def _work(runtime: Runtime, work: NamedWork) -> None:
    """Fails open: work that fails, or ends, begins again."""
    log = structlog.get_logger("drift.background", plugin=work.plugin)
    identity = Identity(work.plugin, PLUGIN)
    registry = Local(runtime.registry, runtime.database, identity, runtime.signing.is_verified)
    # Known as 0 before the first of them: else nobody sees it begin.
    failures = runtime.metrics.work_failures.labels(work.plugin)
    while True:
        try:
            await work.feature.work(registry)
        except Exception as error:
            failures.inc()
            log.exception("work of a plugin failed and begins again", error=str(error))
        await asyncio.sleep(RESTART_SECONDS)


async def _tell_state(runtime: Runtime, cluster: ClusterConfig) -> None:
    """Sets the metrics of what all nodes share; those of who does not lead are 0, so that they may be added up."""
    log, metrics = structlog.get_logger("drift.node"), runtime.metrics
    nodes = {status: metrics.nodes.labels(status) for status in get_args(Status)}
    waiting = {one.name: metrics.events_waiting.labels(one.name) for one in runtime.subscribers}
    try:
        while True:
            try:
                state = await runtime.registry.cluster(cluster)
                counts = Counter(node.status for node in state.nodes)
                for status, gauge in nodes.items():
                    gauge.set(counts[status])
                for name, gauge in waiting.items():
                    gauge.set(state.lag.get(name, 0))
            except Unavailable as error:
                log.warning("cannot tell the state of the cluster now", error=error.message)
            await asyncio.sleep(STATE_INTERVAL)
    finally:
        for gauge in (*nodes.values(), *waiting.values()):
            gauge.set(0)


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
