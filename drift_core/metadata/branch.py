"""The history of a plugin's own tables in the metadata database; apart from Alembic, which most commands do without."""

import re
from importlib.util import find_spec

from msgspec import Struct

from drift_core.errors import PluginError

NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")


class Branch(Struct, frozen=True):
    """The history of a plugin's own tables: ``package`` has its Alembic revisions.

    Raises:
        PluginError: in the name of the plugin two ``-`` or ``_`` follow each other, so that prefixes could be mistaken.
    """

    plugin: str
    distribution: str
    package: str

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.plugin) is None:
            message = f"the plugin {self.plugin!r} of {self.distribution} cannot have tables: it is no plain name"
            raise PluginError(message)

    @property
    def prefix(self) -> str:
        """What the name of each of its tables, and of no other, begins with."""
        return f"{self.plugin.replace('-', '_')}__"

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
