"""The kit's rules of collectors and of plugins."""

from contextlib import AbstractAsyncContextManager

import pytest
from drift_gc import plugin
from drift_gc.collector import OnlineCollector, open_collector
from drift_gc.config import CollectorConfig

from drift_core.api import Collector
from drift_core.conformance import CollectorSuite, ModuleSuite, services
from drift_core.conformance.reference.collector import MemoryContents
from drift_core.conformance.suites.collector import OpenCollector, collected, garbage
from drift_core.conformance.suites.plugin import Use


class TestCollector(CollectorSuite):
    @pytest.fixture
    def open_collector(self) -> OpenCollector:
        def opened(grace: float) -> AbstractAsyncContextManager[Collector]:
            config = CollectorConfig(grace_period_hours=grace / 3600, max_share=1.0, removals_per_second=0)
            return open_collector(config, services("gc"))

        return opened


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    def configs(self) -> tuple[CollectorConfig, CollectorConfig]:
        full = CollectorConfig(
            interval_hours=1,
            grace_period_hours=0,
            dry_run=True,
            dry_first=False,
            max_blobs_per_run=10,
            max_share=1.0,
            min_removals=0,
            removals_per_second=0.5,
        )
        return CollectorConfig(), full

    @pytest.fixture
    def use(self) -> Use:
        async def collect(collector: OnlineCollector) -> None:
            contents = MemoryContents()
            garbage(contents, 1, ago=30 * 86400)
            assert len(await collected(collector, contents, dry_run=False)) == 1

        return collect
