"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_bolt import plugin
from drift_bolt.bolt import Bolt
from drift_bolt.config import BoltConfig

from drift_core.api import Driver, Services
from drift_core.conformance import PluginSuite, open_records, services
from drift_core.conformance.suites.plugin import Use


class TestPlugin(PluginSuite):
    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_features()
        return driver

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("bolt", "drift_bolt.migrations") as records:
            yield services("bolt", records=records)

    @pytest.fixture
    def configs(self) -> tuple[BoltConfig, BoltConfig]:
        return BoltConfig(enabled=True), BoltConfig(enabled=True, enable_plugin_sandbox=False, max_plugin_size_mb=1)

    @pytest.fixture
    def use(self) -> Use:
        async def count(bolt: Bolt) -> None:
            from drift_bolt.figures import sums  # noqa: PLC0415 - needs SQLAlchemy

            assert (await bolt.records.read(sums)).profiles == 0

        return count


@pytest.mark.parametrize(
    "keys",
    [
        {"auto_update_profiles": True},
        {"registry_url": "http://example.org"},
        {"registry_url": "ftp://example.org"},
        {"registry_url": "https://user@example.org"},
        {"registry_url": "https://example.org/?a=b"},
        {"registry_url": "https://"},
        {"max_plugin_size_mb": 0, "x": 1},
    ],
)
def test_configurations_that_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        BoltConfig(**keys)


def test_this_machine_may_be_mirrored_without_tls() -> None:
    assert BoltConfig(registry_url="http://127.0.0.1:5000", auto_update_profiles=True).registry_url
    assert BoltConfig(registry_url="https://example.org/drift", auto_update_profiles=True).registry_url
