"""Offers the optimizers, the feature that runs them, and its commands; imports nothing heavy until one is needed."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Literal

import click

from drift_core.api import Driver, Feature, Optimizer, Services, deferred, hookimpl
from drift_optimize.config import OptimizationConfig

OptimizerName = Literal["gzip", "zstd", "zstd-chunked", "estargz"]

OPTIMIZERS: tuple[OptimizerName, ...] = ("gzip", "zstd", "zstd-chunked", "estargz")


def open_form(
    name: OptimizerName, config: OptimizationConfig, services: Services
) -> AbstractAsyncContextManager[Optimizer]:
    """Opens an optimizer; it starts a process for each layer, and nothing before."""
    from drift_optimize.optimizer import open_optimizer

    del services
    return open_optimizer(name, config)


def open_feature(config: OptimizationConfig, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; the import is here so that one that is not enabled costs nothing."""
    from drift_optimize.optimization import open_optimization

    return open_optimization(config, services)


@hookimpl
def drift_optimizers() -> Iterable[Driver[Optimizer]]:
    """Offers the forms of layers."""
    return [Driver(name, OptimizationConfig, partial(open_form, name)) for name in OPTIMIZERS]


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers what runs them."""
    return [Driver("optimization", OptimizationConfig, open_feature, "drift_optimize.migrations")]


@hookimpl
def drift_commands() -> Iterable[click.Command]:
    """Offers ``drift optimize``."""
    summary = "Make better forms of images beside those that were pushed."
    return [deferred("optimize", summary, "drift_optimize.commands:optimize")]
