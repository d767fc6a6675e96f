"""The kit's rules of every plugin."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_scrub import plugin
from drift_scrub.config import ScrubConfig
from drift_scrub.passes import Pass
from drift_scrub.scrub import Scrub

from drift_core.api import Digest, Services
from drift_core.conformance import ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use

from .conftest import Shelf


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("scrub", "drift_scrub.migrations") as records:
            yield services("scrub", records=records)

    @pytest.fixture
    def configs(self) -> tuple[ScrubConfig, ScrubConfig]:
        return ScrubConfig(enabled=True), ScrubConfig(enabled=True, rate_mb_per_second=0.5, interval_days=1.5)

    @pytest.fixture
    def use(self) -> Use:
        async def find_damage(scrub: Scrub) -> None:
            shelf: Any = Shelf(b"a", b"b")
            shelf.stored[Digest.of(b"a")] = b"x"
            found = {one.digest: one.outcome async for one in scrub.check(shelf, Pass.new(), 0)}
            assert found == {Digest.of(b"a"): "damaged", Digest.of(b"b"): "whole"}

        return find_damage
