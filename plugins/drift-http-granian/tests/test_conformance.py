"""The plugin keeps the rules of every plugin."""

from typing import Any

import pytest
from drift_http_granian import plugin
from drift_http_granian.config import GranianConfig

from drift_core.api import Driver
from drift_core.conformance import PluginSuite


class TestPlugin(PluginSuite):
    @pytest.fixture
    def module(self) -> str:
        return plugin.__name__

    @pytest.fixture
    def driver(self) -> Driver[Any]:
        (driver,) = plugin.drift_transports()
        return driver

    @pytest.fixture
    def configs(self) -> tuple[GranianConfig, GranianConfig]:
        return GranianConfig(), GranianConfig(backlog=1, http="2", header_read_timeout=0.5, max_header_bytes=8192)
