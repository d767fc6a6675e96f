"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Optimizer, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Optimizer]:
    """Opens the driver; ``services.log`` already names this plugin."""
    from ${module}.driver import open_optimizer

    return open_optimizer(config, services)


@hookimpl
def drift_optimizers() -> Iterable[Driver[Optimizer]]:
    """Offers the driver ``${name}``: ``[optimization] enabled = true``."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
