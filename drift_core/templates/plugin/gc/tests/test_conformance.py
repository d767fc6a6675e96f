"""The driver keeps the rules of every collector."""

from contextlib import AbstractAsyncContextManager

import pytest
from drift_core.api import Collector
from drift_core.conformance import CollectorSuite, services
from drift_core.conformance.suites.collector import OpenCollector

from ${module}.collector import open_collector
from ${module}.config import ${prefix}Config


class Test${prefix}(CollectorSuite):
    """What else is true of this collector belongs here, too."""

    @pytest.fixture
    def open_collector(self) -> OpenCollector:
        """Opens the collector with a time of grace in seconds."""

        def opened(grace: float) -> AbstractAsyncContextManager[Collector]:
            return open_collector(${prefix}Config(grace / 3600), services("${name}"))

        return opened
