"""The configuration: the original's table as it is, a schedule from either of its keys, and what stops the start."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from drift_optimize.config import OptimizationConfig
from drift_optimize.optimization import Optimization
from drift_optimize.optimizer import open_optimizer
from drift_optimize.plugin import OPTIMIZERS
from drift_optimize.schedule import next_after
from msgspec import ValidationError, convert

from drift_core.api import Optimizer, Services, StartError
from drift_core.config import load
from drift_core.conformance import services
from tests.faults.inspection import refused
from tests.server import Server
from tests.tools import ROOT

CONTRACT = {
    "enabled": False,
    "background_optimization": True,
    "optimization_schedule_cron": "0 2 * * *",
    "enable_compression_optimization": True,
    "enable_layer_deduplication": True,
    "enable_layer_squashing": False,
    "enable_base_image_optimization": False,
    "preferred_compression": "gzip",
    "min_layer_size_mb": 10,
    "max_optimization_time_seconds": 300,
    "preserve_original": True,
    "optimization_workers": 2,
}
"""The original's keys and defaults."""

NOON = 1_700_000_000.0 // 86_400 * 86_400 + 12 * 3600
"""A noon, in seconds since the epoch."""


def config(**keys: Any) -> OptimizationConfig:
    return convert(keys, OptimizationConfig)


def test_the_defaults_are_the_original_s() -> None:
    assert {key: getattr(OptimizationConfig(), key) for key in CONTRACT} == CONTRACT
    assert config(**CONTRACT) == OptimizationConfig()


def test_the_original_s_table_loads() -> None:
    loaded = load(ROOT / "examples/original.toml", {}, []).section("optimization", OptimizationConfig)
    assert loaded == OptimizationConfig(enabled=loaded.enabled, preferred_compression=loaded.preferred_compression)


@pytest.mark.parametrize(
    ("keys", "schedule"),
    [
        ({}, "scheduled"),
        ({"optimization_schedule_cron": None}, "background"),
        ({"optimization_schedule": "immediate"}, "immediate"),
        ({"optimization_schedule": "background"}, "background"),
        ({"optimization_schedule": "immediate", "optimization_schedule_cron": None}, "immediate"),
        ({"background_optimization": False}, None),
        ({"background_optimization": False, "optimization_schedule": "immediate"}, None),
    ],
)
def test_when_work_begins(keys: dict[str, Any], schedule: str | None) -> None:
    assert config(**keys).schedule == schedule


@pytest.mark.parametrize(
    ("keys", "forms"),
    [
        ({}, ("gzip",)),
        ({"preferred_compression": "zstd"}, ("zstd",)),
        ({"preferred_compression": "lz4"}, ()),
        ({"preferred_compression": "brotli"}, ()),
        ({"preferred_compression": "uncompressed"}, ()),
        ({"preferred_compression": "lz4", "forms": ["zstd-chunked"]}, ("zstd-chunked",)),
        ({"forms": []}, ()),
        ({"forms": ["zstd", "mine"], "enable_compression_optimization": False}, ()),
    ],
)
def test_which_forms_are_made(keys: dict[str, Any], forms: tuple[str, ...]) -> None:
    assert config(**keys).wanted_forms == forms


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"optimization_schedule_cron": "every day"}, "'every day' is no cron expression"),
        ({"optimization_schedule_cron": "0 2 * *"}, "is no cron expression"),
        ({"optimization_schedule_cron": "0 24 * * *"}, "is no cron expression"),
        ({"optimization_schedule_cron": "0 0 31 2 *"}, "is no cron expression"),
        ({"optimization_schedule_cron": ""}, "is no cron expression"),
        (
            {"optimization_schedule": "scheduled", "optimization_schedule_cron": None},
            "scheduled needs optimization_schedule_cron",
        ),
        ({"optimization_schedule": "sometimes"}, "sometimes"),
        ({"preferred_compression": "xz"}, "xz"),
        ({"min_gain": 1}, "min_gain"),
        ({"gzip_level": 10}, "gzip_level"),
        ({"zstd_level": 20}, "zstd_level"),
        ({"optimization_workers": 0}, "optimization_workers"),
        ({"max_optimization_time_seconds": 0}, "max_optimization_time_seconds"),
        ({"publish": []}, "publish"),
        ({"publish": ["tags"]}, "publish"),
        ({"repositories": []}, "repositories"),
        ({"max_memory_mb": 10}, "max_memory_mb"),
        ({"max_scratch_mb": 0}, "max_scratch_mb"),
        ({"form": ["zstd"]}, "form"),
    ],
)
def test_what_makes_no_sense_is_an_error(keys: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**keys)


@pytest.mark.parametrize(
    ("expression", "hours"),
    [("0 2 * * *", 14), ("0 12 * * *", 24), ("30 12 * * *", 0.5), ("*/20 * * * *", 1 / 3), ("0 0,18 * * *", 6)],
)
def test_the_next_moment_of_an_expression(expression: str, hours: float) -> None:
    """In UTC, and always behind the moment from which it is counted."""
    assert next_after(expression, NOON) == NOON + hours * 3600
    assert next_after(expression, NOON + 0.5) == pytest.approx(NOON + hours * 3600)


def opened(lent: Services, **keys: Any) -> Optimization:
    return Optimization(config(enabled=True, **keys), lent)


async def test_a_form_that_nobody_makes_stops_the_start() -> None:
    async with open_optimizer("zstd", OptimizationConfig()) as zstd:
        optimizers: dict[str, Optimizer] = {"zstd": zstd, "mine": zstd}
        lent = services("optimize", optimizers=MappingProxyType(optimizers))
        assert opened(lent, forms=["mine", "zstd"]).config.wanted_forms == ("mine", "zstd")
    again = services("optimize", optimizers=optimizers)
    with pytest.raises(StartError, match=r"no optimizer 'zstdd' is installed; there are mine, zstd"):
        opened(again, forms=["zstdd"])
    with pytest.raises(StartError, match="no optimizer 'gzip' is installed; there are none"):
        opened(services("optimize"))


def test_the_server_says_which_form_it_does_not_know(tmp_path: Path) -> None:
    message = refused(Server(tmp_path, "optimization.enabled=true", 'optimization.forms=["zstd", "zstdchunked"]'))
    assert "no optimizer 'zstdchunked' is installed" in message
    assert all(name in message for name in OPTIMIZERS)
