"""The plugin keeps the rules of every plugin."""

import pytest
from drift_http_granian import plugin
from drift_http_granian.config import GranianConfig

from drift_core.conformance import ModuleSuite


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self) -> tuple[GranianConfig, GranianConfig]:
        return GranianConfig(), GranianConfig(backlog=1, http="2", header_read_timeout=0.5, max_header_bytes=8192)
