"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_ui import plugin
from drift_ui.config import UiConfig
from drift_ui.ui import Ui

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
        async with open_records("ui", "drift_ui.migrations") as records:
            yield services("ui", records=records)

    @pytest.fixture
    def configs(self) -> tuple[UiConfig, UiConfig]:
        return UiConfig(), UiConfig(count_pulls=False, session_hours=1, registry_host="registry.example.org")

    @pytest.fixture
    def use(self) -> Use:
        async def count(ui: Ui) -> None:
            assert await ui.following.resize() == 0

        return count


@pytest.mark.parametrize("host", ["", "a b", "http://registry", "registry/path", "registry:port", '"><script>'])
def test_hosts_that_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="registry_host"):
        UiConfig(registry_host=host)


@pytest.mark.parametrize("host", ["registry.example.org", "registry:5000", "[::1]:5000", "127.0.0.1"])
def test_hosts_that_commands_can_name(host: str) -> None:
    assert UiConfig(registry_host=host).registry_host == host
