"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator

import pytest
from drift_webhooks import plugin
from drift_webhooks.config import Target, WebhooksConfig
from drift_webhooks.queue import counted
from drift_webhooks.webhooks import Webhooks

from drift_core.api import Event, Services
from drift_core.conformance import ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("webhooks", "drift_webhooks.migrations") as records:
            yield services("webhooks", records=records)

    @pytest.fixture
    def configs(self) -> tuple[WebhooksConfig, WebhooksConfig]:
        target = Target(url="https://ci.example.com/hook")
        return (
            WebhooksConfig(enabled=True, targets={"ci": target}),
            WebhooksConfig(enabled=True, source="registry", keep_days=1.5, targets={"other": target}),
        )

    @pytest.fixture
    def use(self) -> Use:
        async def keep_an_event(feature: Webhooks) -> None:
            await feature.on_event(Event(id=1, at=0.0, action="manifest.push", repository="team/app"))
            (state,) = await feature.records.read(lambda db: counted(db, feature.config.targets))
            assert state.waiting == 1

        return keep_an_event
