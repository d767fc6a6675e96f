"""The public API is what its snapshot says: whoever changes it shows so, and says in the commit what plugins must do.

`python -m tests.architecture.test_api` writes the snapshot again.
"""

import inspect
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from drift_core import api

SNAPSHOT = Path(__file__).parent / "api.txt"


def lines(name: str, value: Any) -> list[str]:
    """Returns what a plugin can rely on of one name."""
    if not inspect.isclass(value):
        return [f"{name}{inspect.signature(value) if inspect.isfunction(value) else ''}"]
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    own = {key: member for key, member in vars(value).items() if not key.startswith("_")}
    found = [f"class {name}({bases})"]
    if issubclass(value, Struct) and value is not Struct:
        found[0] += f"{inspect.signature(value)}"
    else:
        found += [
            f"    {key}: {kind}" for key, kind in inspect.get_annotations(value).items() if not key.startswith("_")
        ]
    for key, member in own.items():
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(function):
            found.append(
                f"    {'async ' if inspect.iscoroutinefunction(function) else ''}{key}{inspect.signature(function)}"
            )
        elif isinstance(function, property):
            found.append(f"    {key}: property")
    return found


def snapshot() -> str:
    """Returns the whole public API as text."""
    return "\n".join(line for name in api.__all__ for line in lines(name, getattr(api, name))) + "\n"


def test_the_api_is_what_its_snapshot_says() -> None:
    assert snapshot() == SNAPSHOT.read_text()


def test_everything_that_is_public_is_explained() -> None:
    """An error's own text is its explanation."""
    classes = {name: value for name in api.__all__ if inspect.isclass(value := getattr(api, name))}
    assert [name for name, value in classes.items() if not (value.__doc__ or getattr(value, "text", None))] == []


def test_what_is_to_go_warns_with_its_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(api.REPLACED, "Blobstore", "BlobStore")
    with pytest.warns(
        DeprecationWarning, match=r"drift_core.api.Blobstore will be removed; use drift_core.api.BlobStore"
    ):
        from drift_core.api import Blobstore  # noqa: PLC0415
    assert Blobstore is api.BlobStore
    assert set(api.REPLACED.values()) <= set(api.__all__)
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from drift_core.api import Nonsense  # noqa: F401, PLC0415


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
