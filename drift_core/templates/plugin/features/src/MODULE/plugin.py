"""What this plugin offers. It is imported at every start: whatever is heavy is imported where the driver is opened."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

from drift_core.api import Driver, Feature, Services, hookimpl

from ${module}.config import ${prefix}Config


def open_driver(config: ${prefix}Config, services: Services) -> AbstractAsyncContextManager[Feature]:
    """Opens the feature; ``services.log`` already names this plugin."""
    from ${module}.feature import open_feature

    return open_feature(config, services)


@hookimpl
def drift_features() -> Iterable[Driver[Feature]]:
    """Offers the feature, which is on wherever this plugin is enabled."""
    return [Driver("${name}", ${prefix}Config, open_driver)]
