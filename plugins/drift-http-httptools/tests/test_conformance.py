"""The plugin keeps the rules of every plugin."""

import pytest
from drift_http_httptools import plugin
from drift_http_httptools.config import HttpConfig

from drift_core.conformance import ModuleSuite


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self) -> tuple[HttpConfig, HttpConfig]:
        return HttpConfig(), HttpConfig(backlog=1, header_read_timeout=0.5, max_header_bytes=8192)
