"""Finds the real programs that tests drive; a missing one skips by name, or fails under DRIFT_REQUIRE_ALL."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools" / "bin"


def unavailable(reason: str) -> None:
    """Skips the test, or fails it under ``DRIFT_REQUIRE_ALL=1`` so that CI never skips silently."""
    if os.environ.get("DRIFT_REQUIRE_ALL") == "1":
        pytest.fail(f"DRIFT_REQUIRE_ALL is set and {reason}")
    pytest.skip(reason)


def tool(name: str) -> str:
    """Returns the path of a program from ``.tools/bin`` (see ``make tools``) or from PATH."""
    found = shutil.which(name, path=f"{TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        unavailable(f"{name} is not installed; `make tools` installs it")
    assert found is not None
    return found
