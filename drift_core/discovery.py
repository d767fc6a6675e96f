"""Finds installed plugins by entry point and imports those that are enabled; the only user of stevedore."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from stevedore.named import NamedExtensionManager

from drift_core import __version__
from drift_core.errors import PluginError
from drift_core.failures import is_failure

GROUP = "drift.plugins"
CORE = "drift-core"


class Found(Struct, frozen=True):
    """An installed plugin; ``module`` is None unless ``state`` is loaded, ``error`` says why it is broken."""

    name: str
    distribution: str
    version: str
    state: Literal["loaded", "disabled", "broken"]
    module: ModuleType | None = None
    error: str | None = None


class _Entry(Struct, frozen=True):
    """An entry point, and what the metadata of its distribution says; they are parsed anew whenever they are asked."""

    point: EntryPoint
    distribution: str
    version: str
    requires: Sequence[str]


class _LoadError(Exception):
    """An import failed, whatever it raised; stevedore lets some of that out."""


class _Point(EntryPoint):
    """An entry point that keeps what an import raises away from the server."""

    def load(self) -> Any:
        try:
            return super().load()
        except BaseException as error:
            if not is_failure(error):
                raise
            raise _LoadError(f"{type(error).__name__}: {error}") from error


class _Enabled(NamedExtensionManager[Any]):
    """Loads by name from one scan of the environment.

    stevedore's own list comes from a cache in the user's home and has lost the distributions.
    """

    def __init__(self, installed: Sequence[EntryPoint], errors: dict[str, str]) -> None:
        self._installed = [_Point(point.name, point.value, point.group) for point in installed]
        super().__init__(
            GROUP,
            [point.name for point in installed],
            on_load_failure_callback=lambda _, point, error: errors.update({point.name: str(error)}),
            on_missing_entrypoints_callback=None,
        )

    def list_entry_points(self) -> list[EntryPoint]:
        return list[EntryPoint](self._installed)


def discover(enabled: Collection[str] | None, disabled: Collection[str]) -> list[Found]:
    """Returns every installed plugin by name; only those that are enabled were imported.

    ``enabled`` None means all. A name that two distributions claim is broken in both.

    Raises:
        PluginError: ``enabled`` names a plugin that is not installed.
    """
    by_name: dict[str, list[_Entry]] = defaultdict(list)
    installed = [_read(point) for point in entry_points(group=GROUP)]
    for entry in sorted(installed, key=lambda entry: (entry.point.name, entry.distribution)):
        by_name[entry.point.name].append(entry)
    errors = {
        name: "the name is claimed by " + " and ".join(f"{entry.distribution} {entry.version}" for entry in entries)
        for name, entries in by_name.items()
        if len(entries) > 1
    }
    off = {name for name in by_name if name in disabled or (enabled is not None and name not in enabled)}
    for name, (entry, *_) in by_name.items():
        unmet = _unmet(entry)
        if unmet is not None:
            errors.setdefault(name, unmet)
    wanted = [entries[0].point for name, entries in by_name.items() if name not in errors and name not in off]
    modules: dict[str, Any] = {extension.name: extension.plugin for extension in _Enabled(wanted, errors)}
    for name in enabled or ():
        if name not in by_name:
            message = f"plugins.enabled: {name} is not installed; installed are {', '.join(by_name) or 'none'}"
            raise PluginError(message)
    return [
        Found(
            name,
            entry.distribution,
            entry.version,
            "disabled" if name in off else "broken" if name in errors else "loaded",
            modules.get(name),
            None if name in off else errors.get(name),
        )
        for name, entries in by_name.items()
        for entry in entries
    ]


def _read(point: EntryPoint) -> _Entry:
    if point.dist is None:
        return _Entry(point, "?", "?", ())
    metadata = point.dist.metadata
    return _Entry(point, metadata["Name"], metadata["Version"], metadata.get_all("Requires-Dist") or ())


def _unmet(entry: _Entry) -> str | None:
    """Returns why the plugin's API range does not hold this core, or None; the range is its requirement of drift-core.

    pip has checked it, but not where somebody installed with --no-deps or upgraded the core alone.
    """
    for line in entry.requires:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            return f"its metadata cannot be read: {error}"
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        held = requirement.specifier.contains(__version__, prereleases=True)
        if needed and not held and canonicalize_name(requirement.name) == CORE:
            return f"needs {CORE} {requirement.specifier}; this is {__version__}"
    return None
