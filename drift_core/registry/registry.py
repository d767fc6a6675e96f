"""The registry of one worker, put together from its parts."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from drift_core.config import ClusterConfig
from drift_core.metadata.cluster import ClusterState, cluster_state
from drift_core.metadata.database import Database
from drift_core.metrics import Metrics
from drift_core.protocols.collection import Collector, SupportsRoots
from drift_core.protocols.storage import BlobStore
from drift_core.registry.blobs import Blobs
from drift_core.registry.changes import Changes
from drift_core.registry.collecting import Collecting
from drift_core.registry.listing import Listing
from drift_core.registry.manifests import Manifests
from drift_core.registry.rules import Rules
from drift_core.registry.trash import Trash
from drift_core.registry.uploads import Uploads

T = TypeVar("T")


class Registry:
    """Everything that a transport-independent caller can ask of the registry."""

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        rules: Rules,
        changes: Changes,
        metrics: Metrics,
        collector: Collector | None = None,
        collector_settings: dict[str, Any] | None = None,
        roots: Sequence[SupportsRoots] = (),
    ) -> None:
        self.rules = rules
        self.changes = changes
        self.blobs = Blobs(database, store, rules, changes, metrics)
        self.uploads = Uploads(database, store, rules, changes, metrics)
        self.manifests = Manifests(database, rules, changes, metrics)
        self.listing = Listing(database)
        self.trash = Trash(database, store, rules, changes, metrics)
        self.collecting = Collecting(database, rules, changes, collector, collector_settings or {}, roots, metrics)
        self.several_nodes = database.several_nodes
        self._database = database
        self._store = store
        self._metrics = metrics
        self._proof: asyncio.Future[None] | None = None

    async def write(self, change: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Makes a change of a command, which holds no lease; see `Database.write`."""
        return await self._database.write(change, durable=durable)

    async def look(self) -> None:
        """Makes what follows count every change that was committed before, on any node. Raises `Unavailable`."""
        await self._database.look()

    async def cluster(self, settings: ClusterConfig) -> ClusterState:
        """Returns which nodes share the database, who leads, and what waits. Raises `Unavailable`."""
        timeout = settings.health_check_timeout_seconds
        return await self._database.read(lambda db: cluster_state(db, timeout))

    async def check(self) -> None:
        """Proves that storage and database work now; whoever asks meanwhile shares the proof. Raises `Unavailable`."""
        if self._proof is None:
            self._proof = asyncio.ensure_future(self._prove())
            self._proof.add_done_callback(self._proved)
        await asyncio.shield(self._proof)

    async def _prove(self) -> None:
        await self._metrics.storage.of("check", self._store.check())
        await self._database.check()

    def _proved(self, proof: asyncio.Future[None]) -> None:
        self._proof = None
        if not proof.cancelled():
            proof.exception()  # everybody who asked may have left
