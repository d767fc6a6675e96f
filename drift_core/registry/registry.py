"""The registry of one worker, put together from its parts."""

from drift_core.metadata.database import Database
from drift_core.protocols import BlobStore
from drift_core.registry.blobs import Blobs
from drift_core.registry.changes import Changes
from drift_core.registry.listing import Listing
from drift_core.registry.manifests import Manifests
from drift_core.registry.rules import Rules
from drift_core.registry.uploads import Uploads


class Registry:
    """Everything that a transport-independent caller can ask of the registry."""

    def __init__(self, database: Database, store: BlobStore, rules: Rules, changes: Changes) -> None:
        self.rules = rules
        self.changes = changes
        self.blobs = Blobs(database, store, changes)
        self.uploads = Uploads(database, store, rules, changes)
        self.manifests = Manifests(database, rules, changes)
        self.listing = Listing(database)
        self._database = database
        self._store = store

    async def check(self) -> None:
        """Proves that storage and database work now. Raises `Unavailable`."""
        await self._store.check()
        await self._database.check()
