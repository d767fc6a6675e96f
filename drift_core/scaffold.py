"""Writes the beginnings of a plugin: a whole distribution that builds, installs and passes its suite as it stands."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from string import Template

from drift_core import __version__
from drift_core.errors import StartError

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
COMMON = "common"
SUMMARIES = {
    "authn": "A way to log in",
    "authz": "A policy on who may do what",
    "features": "A feature",
    "gc": "A garbage collector",
    "optimization": "A better form of layers",
    "signing": "A signature format",
    "storage": "A store for blobs",
    "transport": "A way in for requests",
}
"""The families that there is a template for, and what such a plugin is."""

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def write_plugin(distribution: str, family: str, parent: Path) -> Path:
    """Writes the distribution into a new folder of its name below ``parent``, and returns the folder.

    The driver is named like the distribution without ``drift-`` and without the family.

    Raises:
        StartError: the name is no lower-case distribution name, the module or the folder is there already; nothing
            was written.
    """
    if NAME.fullmatch(distribution) is None:
        message = f"{distribution!r} is not a name for a distribution: lower-case words with single hyphens between"
        raise StartError(message)
    module = distribution.replace("-", "_")
    if find_spec(module) is not None:
        message = f"{distribution!r} cannot be the name: its module {module} would hide one that is installed"
        raise StartError(message)
    folder = parent / distribution
    name = distribution.removeprefix("drift-").removeprefix(f"{family}-").replace("-", "_")
    if not name[0].isalpha():
        message = f"{distribution!r} cannot be the name: its driver {name!r} would begin with a digit"
        raise StartError(message)
    values = {
        "distribution": distribution,
        "module": module,
        "name": name,
        "prefix": "".join(word.capitalize() for word in name.split("_")),
        "summary": SUMMARIES[family],
        "summary_lower": SUMMARIES[family].lower(),
        "core": __version__,
    }
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        message = f"cannot make the folder {folder}: {error.strerror}"
        raise StartError(message) from error
    try:
        for source in (TEMPLATES / COMMON, TEMPLATES / family):
            for file in sorted(path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"):
                target = folder / str(file.relative_to(source)).replace("MODULE", values["module"])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(Template(file.read_text()).substitute(values))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        message = f"cannot write into {folder}: {error.strerror}"
        raise StartError(message) from error
    return folder
