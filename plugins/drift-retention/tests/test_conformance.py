"""The kit's rules of every plugin."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_retention import plugin
from drift_retention.config import Policy, RetentionConfig, Rule
from drift_retention.retention import Retention

from drift_core.api import Services
from drift_core.conformance import ModuleSuite, open_records, services
from drift_core.conformance.suites.plugin import Use

from .shelf import DAY, Shelf, tag


class TestPlugin(ModuleSuite):
    offers = plugin

    @pytest.fixture
    async def services(self) -> AsyncIterator[Services]:  # type: ignore[override]
        async with open_records("retention", "drift_retention.migrations") as records:
            yield services("retention", records=records)

    @pytest.fixture
    def configs(self) -> tuple[RetentionConfig, RetentionConfig]:
        rules = (Rule(pattern="a|b", semver=">=1", newest=2, pushed_within="3d", pulled_within="4w"), Rule(highest=1))
        policy = Policy(repositories=("*",), keep=rules)
        return (
            RetentionConfig(enabled=True, keep=(Rule(newest=1),)),
            RetentionConfig(enabled=True, policies=(policy,), keep=(Rule(newest=1),), protected=("latest",)),
        )

    @pytest.fixture
    def use(self) -> Use:
        async def judge(retention: Retention) -> None:
            now = time.time()
            shelf: Any = Shelf({"app": [tag("a", now - 20 * DAY), tag("latest", now)]})
            assert {one.tag: one.kept for one in await retention.judge(shelf, "app")} == {"a": False, "latest": True}

        return judge
