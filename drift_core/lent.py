"""The registry as a feature keeps it that is lent one."""

from drift_core.errors import Unavailable
from drift_core.protocols.registry import LocalRegistry


class UsesRegistry:
    """A feature that inherits this has the power `SupportsRegistry`, and the registry as ``registry``."""

    _registry: LocalRegistry | None = None

    def use(self, registry: LocalRegistry) -> None:
        """See `SupportsRegistry`."""
        self._registry = registry

    @property
    def registry(self) -> LocalRegistry:
        """The registry. Raises `Unavailable` where nobody has lent one."""
        if self._registry is None:
            raise Unavailable("the registry is not open")
        return self._registry
