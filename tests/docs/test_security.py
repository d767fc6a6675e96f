"""The page of attacks names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

from tests.tools import ROOT

PAGE = ROOT / "docs/explanation/security.md"


def named() -> list[tuple[str, str]]:
    """Returns file and function of every test on the page."""
    found = []
    folder = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            plugin = re.search(r"drift-[a-z-]+", line)
            folder = f"plugins/{plugin[0]}/tests/" if plugin else ""
        for file, function in re.findall(r"`([\w/.-]+\.py)::(\w+)`", line):
            found.append((file if "/" in file else f"{folder}{file}", function))
    return found


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("file", "function"), named())
def test_the_test_is_there(file: str, function: str) -> None:
    assert function in functions(ROOT / file)


def test_every_row_names_one() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| Attack")]
    assert [row for row in rows if "::test_" not in row] == []
    assert len(named()) >= len(rows)
