"""A database with the plugin's tables, and the feature over it as a server opens it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from drift_retention.config import RetentionConfig
from drift_retention.retention import Retention, open_retention
from msgspec import convert

from drift_core.api import Records
from drift_core.conformance import open_records, services

OpenRetention = Callable[..., AbstractAsyncContextManager[Retention]]


@pytest.fixture
async def records(database_url: str | None) -> AsyncIterator[Records]:
    async with open_records("retention", "drift_retention.migrations", database_url) as records:
        yield records


@pytest.fixture
def open_feature(records: Records) -> OpenRetention:
    """Returns a function that opens the feature by keys of ``[retention]``."""

    def opened(**keys: Any) -> AbstractAsyncContextManager[Retention]:
        config = convert({"enabled": True, **keys}, RetentionConfig)
        return open_retention(config, services("retention", records=records))

    return opened
