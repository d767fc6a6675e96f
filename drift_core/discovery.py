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
    by_name: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, _distribution(point))):
        by_name[point.name].append(point)
    errors = {
        name: "the name is claimed by " + " and ".join(f"{_distribution(point)} {_version(point)}" for point in points)
        for name, points in by_name.items()
        if len(points) > 1
    }
    off = {name for name in by_name if name in disabled or (enabled is not None and name not in enabled)}
    for name, (point, *_) in by_name.items():
        unmet = _unmet(point)
        if unmet is not None:
            errors.setdefault(name, unmet)
    wanted = [points[0] for name, points in by_name.items() if name not in errors and name not in off]
    modules: dict[str, Any] = {extension.name: extension.plugin for extension in _Enabled(wanted, errors)}
    for name in enabled or ():
        if name not in by_name:
            message = f"plugins.enabled: {name} is not installed; installed are {', '.join(by_name) or 'none'}"
            raise PluginError(message)
    return [
        Found(
            name,
            _distribution(point),
            _version(point),
            "disabled" if name in off else "broken" if name in errors else "loaded",
            modules.get(name),
            None if name in off else errors.get(name),
        )
        for name, points in by_name.items()
        for point in points
    ]


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _version(point: EntryPoint) -> str:
    return point.dist.version if point.dist else "?"


def _unmet(point: EntryPoint) -> str | None:
    """Returns why the plugin's API range does not hold this core, or None; the range is its requirement of drift-core.

    pip has checked it, but not where somebody installed with --no-deps or upgraded the core alone.
    """
    for line in (point.dist.requires if point.dist else None) or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            return f"its metadata cannot be read: {error}"
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        held = requirement.specifier.contains(__version__, prereleases=True)
        if needed and not held and canonicalize_name(requirement.name) == CORE:
            return f"needs {CORE} {requirement.specifier}; this is {__version__}"
    return None
