"""The history of a plugin's own tables in the metadata database; apart from Alembic, which most commands do without."""

from importlib.util import find_spec

from msgspec import Struct

from drift_core.errors import PluginError


class Branch(Struct, frozen=True):
    """The history of a plugin's own tables: ``package`` has its Alembic revisions."""

    plugin: str
    distribution: str
    package: str

    @property
    def prefix(self) -> str:
        """What the name of each of its tables begins with."""
        return f"{self.plugin.replace('-', '_')}_"

    def folder(self) -> str:
        """Returns where the revisions lie. Raises `PluginError`."""
        try:
            spec = find_spec(self.package)
        except ImportError:
            spec = None
        if spec is None or not spec.submodule_search_locations:
            message = f"the plugin {self.plugin} of {self.distribution}: there is no package {self.package}"
            raise PluginError(message)
        return next(iter(spec.submodule_search_locations))
