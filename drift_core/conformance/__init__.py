"""The conformance kit: suites that a plugin's author runs, and reference drivers to test other things with.

Needs the extra ``drift-core[conformance]``. A name is imported when it is asked for, since a suite brings much with it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drift_core.conformance.reference.storage import open_memory_store
    from drift_core.conformance.suites.storage import StorageSuite

__all__ = ["StorageSuite", "open_memory_store"]

_HOME = {"StorageSuite": "suites.storage", "open_memory_store": "reference.storage"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
