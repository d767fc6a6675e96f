"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import pytest
from drift_quota import plugin
from drift_quota.config import QuotaConfig
from drift_quota.quota import Quota

from drift_core.api import Change, Denied, Services
from drift_core.conformance import ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("quota", "drift_quota.migrations") as records:
            yield services("quota", records=records)

    @pytest.fixture
    def configs(self) -> tuple[QuotaConfig, QuotaConfig]:
        limits = {"organizations": {"acme": "1KB", "other": 5}, "repositories": {"*": 100}}
        return (
            QuotaConfig(enabled=True, default_organization="1KB"),
            QuotaConfig(enabled=True, default_repository="1.5GiB", **limits),  # type: ignore[arg-type]
        )

    @pytest.fixture
    def use(self) -> Use:
        async def account_and_ask(quota: Quota) -> None:
            repository = f"acme/{uuid4().hex}"
            await quota.records.write(partial(quota.account, repository=repository, size=50))
            with pytest.raises(Denied):
                await quota.admit(Change(action="blob.push", repository=repository, size=5000))
            await quota.admit(Change(action="blob.push", repository=repository, size=10))
            await quota.records.write(partial(quota.account, repository=repository, size=-50))

        return account_and_ask
