"""The kit's rules of every plugin."""

import pytest
from drift_metrics import plugin
from drift_metrics.config import MetricsConfig
from drift_metrics.page import Page

from drift_core.conformance import ModuleSuite
from drift_core.conformance.suites.plugin import Use


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self) -> tuple[MetricsConfig, MetricsConfig]:
        return MetricsConfig(), MetricsConfig(endpoint="/internal/metrics", public=True)

    @pytest.fixture
    def use(self) -> Use:
        async def one_route(page: Page) -> None:
            (route,) = page.routes()
            assert route.paths in ({"/metrics"}, {"/internal/metrics"})

        return one_route
