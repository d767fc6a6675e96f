"""The store keeps the rules of every store."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from drift_core.api import BlobStore
from drift_core.conformance import StorageSuite, services
from drift_core.conformance.suites.storage import Reopen

from ${module}.config import ${prefix}Config
from ${module}.store import open_store


class Test${prefix}(StorageSuite):
    """What else is true of this store belongs here, too."""

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Reopen:
        """Opens the same place once more, as a second worker does, which may be another process."""
        return partial(open_store, ${prefix}Config(str(tmp_path)), services())

    @pytest.fixture
    async def store(self, reopen: Reopen) -> AsyncIterator[BlobStore]:
        """A store that is opened, and empty."""
        async with reopen() as store:
            yield store
