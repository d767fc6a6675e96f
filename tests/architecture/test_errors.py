"""The tree of errors that errors.py draws is the tree that it defines."""

import re

from drift_core import errors
from drift_core.errors import DriftError, RegistryError

LINE = re.compile(r"^ {4}(?P<indent>[ |]*)\+-- (?P<name>\w+)(?: +(?P<code>[A-Z_]+) +(?P<status>\d{3}))?", re.MULTILINE)


def drawn() -> dict[str, tuple[str, str | None, int | None]]:
    """Returns for each drawn class its parent, code and status."""
    found: dict[str, tuple[str, str | None, int | None]] = {}
    parents = ["DriftError"]
    for match in LINE.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4
        del parents[depth + 1 :]
        status = int(match["status"]) if match["status"] else None
        found[match["name"]] = (parents[depth], match["code"], status)
        parents.append(match["name"])
    return found


def defined(root: type[DriftError]) -> dict[str, type[DriftError]]:
    """Returns every class below ``root`` that errors.py defines."""
    found: dict[str, type[DriftError]] = {}
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= {child.__name__: child} | defined(child)
    return found


def test_the_drawn_tree_is_the_defined_tree() -> None:
    classes = defined(DriftError)
    expected = {}
    for name, kind in classes.items():
        told = issubclass(kind, RegistryError) and kind is not RegistryError
        code, status = (kind.code, kind.status) if told else (None, None)
        expected[name] = (kind.__bases__[0].__name__, code, status)
    assert drawn() == expected


def test_every_code_is_the_specification_s() -> None:
    specification = {
        "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
        "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED",
        "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
    }  # fmt: skip
    kinds = [kind for kind in defined(RegistryError).values() if issubclass(kind, RegistryError)]
    assert {kind.code for kind in kinds if kind.status < 500} == specification
    assert {kind.code for kind in kinds if kind.status >= 500} == {"UNAVAILABLE", "UNKNOWN"}
