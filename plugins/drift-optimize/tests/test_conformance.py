"""The kit's rules of every plugin, and those of every optimizer for each form."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from drift_optimize import plugin
from drift_optimize.config import OptimizationConfig
from drift_optimize.optimization import Optimization
from drift_optimize.optimizer import open_optimizer
from drift_optimize.plugin import OptimizerName
from drift_optimize.results import stats

from drift_core.api import Driver, Optimizer, Services
from drift_core.conformance import OptimizerSuite, PluginSuite, open_records, services
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
        config = OptimizationConfig()
        async with (
            open_optimizer("gzip", config) as gzip,
            open_optimizer("zstd", config) as zstd,
            open_records("optimize", "drift_optimize.migrations") as records,
        ):
            yield services("optimize", records=records, optimizers={"gzip": gzip, "zstd": zstd})

    @pytest.fixture
    def configs(self) -> tuple[OptimizationConfig, OptimizationConfig]:
        return OptimizationConfig(enabled=True), OptimizationConfig(enabled=True, forms=("zstd",), zstd_level=3)

    @pytest.fixture
    def use(self) -> Use:
        async def sum_up(feature: Optimization) -> None:
            assert (await feature.records.read(stats)).total_layers == 0

        return sum_up


class _Form(OptimizerSuite):
    """Of a form."""

    form: OptimizerName

    @pytest.fixture
    async def optimizer(self) -> AsyncIterator[Optimizer]:
        async with open_optimizer(self.form, OptimizationConfig(min_gain=0)) as optimizer:
            yield optimizer


class TestGzip(_Form):
    form = "gzip"


@pytest.mark.soak
class TestZstd(_Form):
    form = "zstd"


class TestZstdChunked(_Form):
    form = "zstd-chunked"


@pytest.mark.soak
class TestEStargz(_Form):
    form = "estargz"
